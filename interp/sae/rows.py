"""Rows that a dictionary is trained on, and batches of them in random order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypedDict

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


class MaskOptions(TypedDict):
    """Which rows are selected, as keyword arguments; `Mask` explains each."""

    channels: Sequence[str]
    sink_factor: float


@dataclass(frozen=True)
class Mask:
    """What a selection of rows leaves out. It is kept with everything that is learned from the rows.

    Attributes:
        channels: Channels that were selected.
        sink_factor: Norms above this many medians count as sinks.
        special: Number of special and padding positions in the store, none of them selected.
        sinks: Number of attention sinks that were left out.
        rows: Number of rows that remain.
    """

    channels: tuple[str, ...]
    sink_factor: float
    special: int
    sinks: int
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self) | {"channels": list(self.channels)}


def select(
    store: ActivationSource,
    address: Address,
    rows: pd.DataFrame | None = None,
    *,
    channels: Sequence[str] = THINKING,
    sink_factor: float = SINK_FACTOR,
) -> tuple[pd.DataFrame, Mask]:
    """Select rows to train or evaluate a dictionary on, without special positions and attention sinks.

    A sink is a row at position 0, or one whose norm is far above the median. Sinks would take up features and
    fill every list of top activations.

    Args:
        store: Where the activations come from.
        address: Norms are taken at this address.
        rows: A part of the index to select from; all of it by default.
        channels: Channels to keep. Special positions are kept only where `special` is among them.
        sink_factor: A norm above this many medians of the selection makes a row a sink.

    Returns:
        The selected part of the index, and what was left out.

    Raises:
        UsageError: When fewer than two rows are left.

    References:
        Sun et al., "Massive Activations in Large Language Models", arXiv 2402.17762.
    """
    wanted = list(map(str, channels))
    candidates = store.index if rows is None else rows
    selected = store.rows(channel=wanted) if rows is None else rows[rows["channel"].isin(wanted)]
    special = 0
    if Channel.SPECIAL not in channels:
        special = int(candidates["channel"].isin([Channel.SPECIAL, Channel.PAD]).sum())
    if selected.empty:
        available = sorted(set(candidates["channel"]))
        raise UsageError(
            f"no position of {store.name} is in the channels {', '.join(wanted)}; it has "
            f"{', '.join(available) or 'none'}. Choose one of those, or capture again with --channels."
        )
    norms = np.linalg.norm(store.acts(address, selected), axis=1)
    sink = (norms > sink_factor * np.median(norms)) | (selected["position"].to_numpy() == 0)
    kept = selected[~sink]
    if len(kept) < 2:
        raise UsageError(
            f"expected at least 2 rows of {store.name} that are not attention sinks, got {len(kept)}; use more problems."
        )
    return kept, Mask(tuple(wanted), sink_factor, special, int(sink.sum()), len(kept))


class Batches:
    """Endless batches of rows in a new order each epoch, the same for the same seed.

    Rows that do not fit in memory are read in blocks of neighbours and mixed over as many blocks as fit.
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
        """Make batches of `n_rows` rows.

        Args:
            read: Returns the activations of rows by number.
            n_rows: Number of rows.
            size: Rows in a batch, at most `n_rows`.
            seed: Seed of the order.
            width: Width of the activations.
            groups: Group of each row, shape (rows,); every group is then seen equally often.
            memory: Bytes that rows may take in memory.

        Raises:
            UsageError: On fewer than two rows.
        """
        if n_rows < 2:
            raise UsageError(f"expected at least 2 rows to train an SAE on, got {n_rows}; select more rows.")
        self.size, self.served = min(size, n_rows), 0
        self._read, self._n, self._seed, self._groups = read, n_rows, seed, groups
        rows_in_memory = memory // (4 * width)
        self._whole = read(np.arange(n_rows)) if rows_in_memory >= n_rows else None
        self._buffer = n_rows if self._whole is not None else max(_BLOCK, rows_in_memory // _BLOCK * _BLOCK, self.size)

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Return the batches themselves."""
        return self

    def __next__(self) -> torch.Tensor:
        """Return the next batch, shape (size, width)."""
        import torch

        epoch, number = divmod(self.served, self._n // self.size)
        if not hasattr(self, "_order") or number == 0:
            self._order = self._epoch(epoch)
            self._held: tuple[int, np.ndarray] | None = None
        self.served += 1
        return torch.from_numpy(self._take(number * self.size))

    def skip(self, batches: int) -> None:
        """Skip batches without reading them."""
        self.served += batches
        self._order = self._epoch(self.served // (self._n // self.size))
        self._held = None

    def _take(self, start: int) -> np.ndarray:
        """Return the batch that begins at this place of the epoch's order."""
        if self._whole is not None:
            return self._whole[self._order[start : start + self.size]]
        parts: list[np.ndarray] = []
        taken = 0
        while start < (stop := min(len(self._order), start + self.size - taken)):
            buffer_start = start // self._buffer * self._buffer
            if self._held is None or self._held[0] != buffer_start:
                numbers = self._order[buffer_start : buffer_start + self._buffer]
                disk_order = np.argsort(numbers, kind="stable")
                rows = self._read(numbers[disk_order])
                self._held = (buffer_start, rows[np.argsort(disk_order, kind="stable")])
            parts.append(self._held[1][start - buffer_start : stop - buffer_start])
            start += len(parts[-1])
            taken += len(parts[-1])
        return np.concatenate(parts)

    def _epoch(self, epoch: int) -> Int[np.ndarray, " rows"]:
        """Return the order of row numbers in an epoch."""
        rng = np.random.default_rng([self._seed, epoch])
        rows = np.arange(self._n) if self._groups is None else np.sort(_balanced(self._groups, rng))
        if self._whole is not None:
            return rng.permutation(rows)
        blocks = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
        order = np.concatenate([blocks[k] for k in rng.permutation(len(blocks))])
        for start in range(0, len(order), self._buffer):
            rng.shuffle(order[start : start + self._buffer])
        return order


def _balanced(groups: np.ndarray, rng: np.random.Generator) -> Int[np.ndarray, " rows"]:
    """Draw as many rows as there are, every group equally often: small groups repeat, large ones are sampled."""
    names, codes = np.unique(groups, return_inverse=True)
    shares = np.full(len(names), len(groups) // len(names))
    shares[: len(groups) % len(names)] += 1
    drawn = []
    for group, share in enumerate(shares):
        members = np.flatnonzero(codes == group)
        drawn += [rng.permutation(members)] * (share // len(members))
        drawn.append(rng.choice(members, share % len(members), replace=False))
    return np.concatenate(drawn)


def batches_of(
    store: ActivationSource, address: Address, rows: pd.DataFrame, size: int, seed: int, *, by_step: bool = False
) -> Batches:
    """Return batches of the activations of `rows` at an address; `by_step` shows every gold step equally often."""
    rows = rows.sort_values(["shard", "row"])
    width = store.acts(address, rows[:1]).shape[1]
    return Batches(
        lambda numbers: store.acts(address, rows.iloc[numbers]),
        len(rows),
        size,
        seed,
        width=width,
        groups=rows["step"].to_numpy() if by_step else None,
    )
