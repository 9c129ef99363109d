"""Replay of finished traces in masked batches, with the named activations gathered into one buffer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.activations.host_copies import HostCopies
from interp.errors import UsageError
from interp.models.address import Address
from interp.models.devices import to_device
from interp.traces import Trace, TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner
    from interp.reasoners.replayer import ReplayBatch

# Most positions in one forward pass, padding included; bounds the memory that a worker needs in addition to its buffers.
BATCH_POSITIONS = 1 << 15
# One number for each pair of positions, in the shape batch x heads x query x key.
_OVER_PAIRS = frozenset({"attn.hook_pattern", "attn.hook_attn_scores"})


def gather(
    reasoner: Reasoner,
    traces: TraceSet,
    addresses: Sequence[Address],
    index: pd.DataFrame | Mapping[str, Int[np.ndarray, " rows"]],
    *,
    batch_size: int = 64,
    dtype: torch.dtype = torch.float32,
) -> dict[Address, Float[Tensor, "rows d"]]:
    """Replay traces and return the activations of chosen rows. Nothing else is kept in memory.

    Args:
        reasoner: The reasoner that made the traces.
        traces: The traces to replay.
        addresses: The addresses to keep.
        index: Columns `trace` (from 0) and `position` of the rows, in order. Two arrays of these names are cheaper than a
            table for short passes.
        batch_size: Most traces in one forward pass.
        dtype: Dtype of the result.

    Returns:
        Activations by address, on the CPU, shape (rows, d) each.
    """
    rows = _Rows(index, len(traces), reasoner.device)
    copies = HostCopies(reasoner.device)
    buffers: dict[Address, Tensor] = {}
    spare: dict[tuple[str, int], list[Tensor]] = {}

    def new(address: Address, width: int) -> Tensor:
        """Return a buffer; those of the same hook at other layers are allocated with the first."""
        free = spare.setdefault((address.hook, width), [])
        if not free:
            count = sum(other.hook == address.hook for other in addresses if other not in buffers)
            free += copies.empty(count, rows.total, width, dtype)
        return free.pop()

    def keeper(address: Address) -> Callable[[Any, ReplayBatch], None]:
        def hook(activations: Any, batch: ReplayBatch) -> None:
            if batch is not rows.batch:
                rows.advance_to(batch)
                copies.next_batch()
            if activations.shape[:2] != batch.real.shape or address.hook in _OVER_PAIRS:
                raise UsageError(
                    f"expected sites with a vector for each position, got {address} of shape "
                    f"{tuple(activations.shape)} for {len(batch.traces)} traces; leave it out, or take attn.hook_z or "
                    "attn.hook_out of that block."
                )
            if rows.count:
                acts = activations.detach()
                acts = acts.flatten(2).flatten(0, 1) if acts.ndim > 3 else acts.flatten(0, 1)
                buffer = buffers.get(address)
                if buffer is None:
                    buffer = buffers[address] = new(address, acts.shape[-1])
                copies.take(acts, rows.cells, buffer.narrow(0, rows.first, rows.count))

        return hook

    longest = max((len(trace) for trace in traces), default=1)
    batch_size = max(1, min(batch_size, BATCH_POSITIONS // longest))
    with torch.inference_mode():
        reasoner.replay(traces, hooks={address.name: keeper(address) for address in addresses}, batch_size=batch_size)
        copies.finish()
    return buffers


def row_widths(reasoner: Reasoner, trace: Trace, addresses: Sequence[Address]) -> dict[str, int]:
    """Return the number of dimensions of a row at each address, measured on one trace.

    Raises:
        UsageError: An address has no vector for each position, or the model does not compute it.
    """
    if not addresses:
        return {}
    # Two traces, because a hook without a batch dimension looks like one with a batch of 1.
    last = len(trace) - 1
    rows = gather(
        reasoner, TraceSet([trace, trace]), addresses, {"trace": np.array([0, 1]), "position": np.array([last, last])}
    )
    for address in addresses:
        if address not in rows:
            raise UsageError(f"expected sites that the model computes while it thinks, got {address}; leave it out.")
    return {address.name: acts.shape[1] for address, acts in rows.items()}


class _Rows:
    """Which rows of a buffer the current batch fills.

    Attributes:
        total: Number of rows of the buffer.
        first: First row that the batch fills.
        count: Number of rows that it fills.
        cells: Their flat cells in the batch; None where every cell is kept in its order.
    """

    def __init__(self, index: pd.DataFrame | Mapping[str, np.ndarray], n_traces: int, device: torch.device) -> None:
        self._position = np.asarray(index["position"])
        self._trace = np.asarray(index["trace"])
        self.total = len(self._trace)
        self._bounds = np.searchsorted(self._trace, np.arange(n_traces + 1))
        self._device = device
        self.batch: ReplayBatch | None = None
        self.first = self.count = 0
        self.cells: Int[Tensor, " rows"] | None = None

    def advance_to(self, batch: ReplayBatch) -> None:
        """Find the rows of a batch that begins."""
        n, width = batch.real.shape
        start = int(batch.traces[0])
        first, last = int(self._bounds[start]), int(self._bounds[start + n])
        flat = (self._trace[first:last] - start) * width + self._position[first:last]
        whole = last - first == n * width and bool((flat == np.arange(n * width)).all())
        self.cells = None if whole else to_device(flat, self._device)
        self.batch, self.first, self.count = batch, first, last - first
