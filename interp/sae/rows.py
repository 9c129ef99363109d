"""Which rows of a store a dictionary learns from, and in what order it sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int

from interp.activations import ActivationSource
from interp.errors import UsageError
from interp.models.address import Address
from interp.traces import THINKING, Channel

if TYPE_CHECKING:
    import torch

SINK_FACTOR = 10.0
_IN_MEMORY = 256 * 2**20  # bytes; smaller selections are read once and shuffled whole
_BLOCK = 256  # rows that lie together on disk and are read together
Read = Callable[[Int[np.ndarray, " rows"]], Float32[np.ndarray, "rows d"]]


@dataclass(frozen=True)
class Mask:
    """What was left out of a selection, and how much remains; kept with everything that is learned from it."""

    channels: tuple[str, ...]
    sink_factor: float
    special: int
    sinks: int
    rows: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"channels": list(self.channels)}


def select(
    store: ActivationSource,
    address: Address,
    rows: pd.DataFrame | None = None,
    *,
    channels: Sequence[str] = THINKING,
    sink_factor: float = SINK_FACTOR,
) -> tuple[pd.DataFrame, Mask]:
    """The rows of `store` (or those of `rows`) in `channels`, without special and attention-sink positions.

    A sink is a row at position 0, or one whose norm at `address` is more than `sink_factor` times the median of the
    selection (massive activations: Sun et al., arXiv 2402.17762); it would take features of its own and fill every
    list of top activations. Special positions are kept only where their channel is asked for by name. Raises
    `UsageError` when nothing is left.
    """
    index = store.rows(channel=list(map(str, channels)))
    if rows is not None:
        index = rows[rows["channel"].isin(list(map(str, channels)))]
    markers = store.index if rows is None else rows
    special = int(markers["channel"].isin([Channel.SPECIAL, Channel.PAD]).sum())
    if Channel.SPECIAL in channels:
        special = 0
    if index.empty:
        there = sorted(set(markers["channel"]))
        raise UsageError(
            f"no position of {store.name} is in the channels {', '.join(map(str, channels))}; it has "
            f"{', '.join(there) or 'none'}. Choose one of those, or capture again with --channels."
        )
    norms = np.linalg.norm(store.acts(address, index), axis=1)
    sink = (norms > sink_factor * np.median(norms)) | (index["position"].to_numpy() == 0)
    kept = index[~sink]
    if len(kept) < 2:
        raise UsageError(
            f"only {len(kept)} rows of {store.name} are left without sinks; an SAE needs more to learn from."
        )
    return kept, Mask(tuple(map(str, channels)), sink_factor, special, int(sink.sum()), len(kept))


class Batches:
    """Endless batches of rows, the same ones for the same seed: each epoch a new order, shuffled in blocks.

    `read` gives the activations of rows by their place. Rows are drawn in blocks of neighbours and mixed over as many
    blocks as fit into memory, so that a disk is read in runs. With `groups` every group is seen equally often.
    """

    def __init__(
        self,
        read: Read,
        n_rows: int,
        size: int,
        seed: int,
        *,
        width: int,
        groups: np.ndarray | None = None,
        memory: int = _IN_MEMORY,
    ) -> None:
        if n_rows < 2:
            raise UsageError(f"an SAE needs rows to learn from, but {n_rows} came.")
        self.size, self.served = min(size, n_rows), 0
        self._read, self._n, self._seed, self._groups = read, n_rows, seed, groups
        rows_in_memory = memory // (4 * width)
        self._whole = read(np.arange(n_rows)) if rows_in_memory >= n_rows else None
        self._buffer = n_rows if self._whole is not None else max(_BLOCK, rows_in_memory // _BLOCK * _BLOCK, self.size)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return self

    def __next__(self) -> torch.Tensor:
        import torch

        epoch, number = divmod(self.served, self._n // self.size)
        if not hasattr(self, "_order") or number == 0:
            self._order = self._epoch(epoch)
            self._held: tuple[int, np.ndarray] | None = None
        self.served += 1
        return torch.from_numpy(self._take(number * self.size))

    def skip(self, batches: int) -> None:
        """Leave `batches` aside without reading them."""
        self.served += batches
        self._order = self._epoch(self.served // (self._n // self.size))
        self._held = None

    def _take(self, start: int) -> np.ndarray:
        if self._whole is not None:
            return self._whole[self._order[start : start + self.size]]
        parts: list[np.ndarray] = []
        taken = 0
        while start < (stop := min(len(self._order), start + self.size - taken)):
            at = start // self._buffer * self._buffer
            if self._held is None or self._held[0] != at:
                places = self._order[at : at + self._buffer]
                by_disk = np.argsort(places, kind="stable")
                rows = self._read(places[by_disk])
                self._held = (at, rows[np.argsort(by_disk, kind="stable")])
            parts.append(self._held[1][start - at : stop - at])
            start += len(parts[-1])
            taken += len(parts[-1])
        return np.concatenate(parts)

    def _epoch(self, epoch: int) -> Int[np.ndarray, " rows"]:
        rng = np.random.default_rng([self._seed, epoch])
        rows = np.arange(self._n) if self._groups is None else np.sort(_evened(self._groups, rng))
        if self._whole is not None:
            return rng.permutation(rows)
        blocks = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
        order = np.concatenate([blocks[k] for k in rng.permutation(len(blocks))])
        for start in range(0, len(order), self._buffer):
            rng.shuffle(order[start : start + self._buffer])
        return order


def _evened(groups: np.ndarray, rng: np.random.Generator) -> Int[np.ndarray, " rows"]:
    """As many rows as there are, every group equally often; small groups are drawn again, large ones in part."""
    kinds, codes = np.unique(groups, return_inverse=True)
    shares = np.full(len(kinds), len(groups) // len(kinds))
    shares[: len(groups) % len(kinds)] += 1
    drawn = []
    for kind, share in enumerate(shares):
        members = np.flatnonzero(codes == kind)
        drawn += [rng.permutation(members)] * (share // len(members))
        drawn.append(rng.choice(members, share % len(members), replace=False))
    return np.concatenate(drawn)


def batches_of(
    store: ActivationSource, address: Address, rows: pd.DataFrame, size: int, seed: int, *, by_step: bool = False
) -> Batches:
    """Batches of the activations of `rows` at `address`; `by_step` shows every gold step equally often."""
    rows = rows.sort_values(["shard", "row"])
    width = store.acts(address, rows[:1]).shape[1]
    return Batches(
        lambda places: store.acts(address, rows.iloc[places]),
        len(rows),
        size,
        seed,
        width=width,
        groups=rows["step"].to_numpy() if by_step else None,
    )
