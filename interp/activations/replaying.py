"""Recording: finished traces replayed in masked batches, the named activations gathered straight into one buffer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.activations.host_copies import HostCopies
from interp.models.address import Address
from interp.models.moving import to_device
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner
    from interp.reasoners.base import ReplayBatch

# Positions, padding included, that one forward pass may have: what a worker needs beside its buffer stays bounded.
BATCH_POSITIONS = 1 << 15


def gather(
    reasoner: Reasoner,
    traces: TraceSet,
    addresses: Sequence[Address],
    index: pd.DataFrame | Mapping[str, Int[np.ndarray, " rows"]],
    *,
    batch_size: int = 64,
    dtype: torch.dtype = torch.float32,
) -> dict[Address, Float[Tensor, "rows d"]]:
    """The same as tensors on the host in `dtype`; the rows of a trace stand together in `index`, in order.

    Of `index` only `trace` and `position` are read. Two arrays of these names spare a short pass what a table costs.

    Nothing but these rows is ever kept (`HostCopies` brings them from a GPU while the next batch runs).
    """
    rows = _Rows(index, len(traces), reasoner.device)
    copies = HostCopies(reasoner.device)
    buffers: dict[Address, Tensor] = {}
    spare: dict[tuple[str, int], list[Tensor]] = {}

    def new(address: Address, width: int) -> Tensor:
        """A buffer; those for the same hook of other layers are made with the first."""
        made = spare.setdefault((address.hook, width), [])
        if not made:
            alike = sum(each.hook == address.hook for each in addresses if each not in buffers)
            made += copies.empty(alike, rows.total, width, dtype)
        return made.pop()

    def keeper(address: Address) -> Callable[[Any, ReplayBatch], None]:
        def hook(activations: Any, batch: ReplayBatch) -> None:
            if batch is not rows.batch:
                rows.come_to(batch)
                copies.next_batch()
            if rows.count:
                found = activations.detach()
                found = found.flatten(2).flatten(0, 1) if found.ndim > 3 else found.flatten(0, 1)
                buffer = buffers.get(address)
                if buffer is None:
                    buffer = buffers[address] = new(address, found.shape[-1])
                copies.take(found, rows.cells, buffer.narrow(0, rows.first, rows.count))

        return hook

    longest = max((len(trace) for trace in traces), default=1)
    batch_size = max(1, min(batch_size, BATCH_POSITIONS // longest))
    with torch.inference_mode():
        reasoner.replay(traces, hooks={address.name: keeper(address) for address in addresses}, batch_size=batch_size)
        copies.finish()
    return buffers


class _Rows:
    """Which rows of a buffer a batch fills, `first` and how many, and which of its cells they are.

    `cells` are flat, or None where every cell is kept in its order.
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

    def come_to(self, batch: ReplayBatch) -> None:
        n, width = batch.real.shape
        start = int(batch.traces[0])
        first, last = int(self._bounds[start]), int(self._bounds[start + n])
        flat = (self._trace[first:last] - start) * width + self._position[first:last]
        whole = last - first == n * width and bool((flat == np.arange(n * width)).all())
        self.cells = None if whole else to_device(flat, self._device)
        self.batch, self.first, self.count = batch, first, last - first
