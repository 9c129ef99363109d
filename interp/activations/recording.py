"""Activations recorded in memory: the rows that a capture would write to a store, without any file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from interp.activations.mapping import take_rows
from interp.activations.plan import plan
from interp.activations.shards import record_rows, shard_ranges
from interp.activations.source import ActivationSource
from interp.errors import checked_count
from interp.models.address import Address
from interp.runtime.progress import Progress
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


class Recording(ActivationSource):
    """Activations of finished traces in memory. It is read as a `Store` is."""

    def __init__(
        self,
        reasoner: Reasoner,
        traces: TraceSet,
        index: pd.DataFrame,
        meta: dict[str, Any],
        acts: Mapping[Address, Float[Tensor, "rows d_model"]],
    ) -> None:
        """Make a recording of activations that are there; `record` computes them.

        Args:
            reasoner: The reasoner whose activations these are.
            traces: The traces that the rows belong to.
            index: One row for each kept position, as `ActivationSource.index` describes.
            meta: Description of the capture.
            acts: Activations by address, on the CPU, shape (rows, d_model) each, in the order of `index`.
        """
        self.reasoner, self.meta, self.addresses = reasoner, meta, list(acts)
        self._traces, self._index, self._acts = traces, index, dict(acts)

    @property
    def name(self) -> str:
        """`the recording of` and the reasoner's name."""
        return f"the recording of {self.meta['reasoner']['name']}"

    @property
    def index(self) -> pd.DataFrame:
        """One row for each kept position; see `ActivationSource.index`."""
        return self._index

    @property
    def traces(self) -> TraceSet:
        """The traces that the rows belong to."""
        return self._traces

    def load_reasoner(self) -> Reasoner:
        """Return the reasoner that was recorded.

        Returns:
            The same object that was given to `record`.
        """
        return self.reasoner

    def _read(
        self, address: Address, rows: slice | np.ndarray, out: np.ndarray | None
    ) -> Float32[np.ndarray, "rows d_model"]:
        return take_rows(self._acts[address], rows, out)


def record(
    reasoner: Reasoner,
    traces: TraceSet,
    *,
    sites: str | Sequence[str] = "resid",
    layers: Iterable[int] | None = None,
    channels: Sequence[str] | None = None,
    positions: Sequence[str] = (),
    dtype: str = "float32",
    batch_size: int = 64,
    shard_size: int = 256,
    transfer: bool = False,
    progress: Progress | None = None,
) -> Recording:
    """Record the activations of finished traces in memory.

    The rows are those that `capture` writes with the same arguments, bit for bit. Use `capture` where they do not fit
    in memory, or should outlive the process.

    Args:
        reasoner: The reasoner that made the traces.
        traces: The traces to replay.
        sites: Activation kinds, hook names or patterns; `resid` is the residual stream at every layer.
        layers: Layers to keep; all by default.
        channels: Channels of positions to keep; all but the prompt by default. The prompt's last position is always
            kept.
        positions: Places (`thought *`) or slices (`-4:`) that narrow the positions further.
        dtype: `float32`, `float16` or `bfloat16`. Activations are kept in it and read as float32.
        batch_size: Most traces in one forward pass.
        shard_size: Most traces that are replayed before their rows are copied. A store keeps as many in one shard.
        transfer: Allow traces that another model made, with the same tokens.
        progress: Called with the number of shards that are done, and of all.

    Returns:
        The recording.

    Raises:
        UsageError: On unknown sites, layers, channels, positions or dtypes, and where there are no traces.
        StoreError: Where an activation is not finite, or too large for `dtype`, or another model made the traces.
    """
    checked_count("batch_size", batch_size)
    planned = plan(
        reasoner,
        traces,
        sites=sites,
        layers=layers,
        channels=channels,
        positions=positions,
        dtype=dtype,
        shard_size=shard_size,
        transfer=transfer,
    )
    index, ranges = planned.index, shard_ranges(planned.index, len(traces))
    starts = np.searchsorted(index["shard"].to_numpy(), np.arange(len(ranges) + 1))
    acts: dict[Address, Tensor] = {}
    for shard, (first, last) in enumerate(ranges):
        begin, end = int(starts[shard]), int(starts[shard + 1])
        rows = record_rows(
            reasoner, traces[first:last], planned.addresses, index.iloc[begin:end], first, dtype, batch_size
        )
        for address in planned.addresses:
            if address not in acts:
                acts[address] = torch.empty(len(index), rows[address].shape[1], dtype=rows[address].dtype)
            acts[address][begin:end] = rows.pop(address)
        if progress:
            progress(shard + 1, len(ranges))
    return Recording(reasoner, traces, index, planned.meta, acts)
