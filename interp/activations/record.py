"""Recording: finished traces replayed in masked batches, the named activations gathered straight into one buffer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from interp.models.address import Address
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner
    from interp.reasoners.base import ReplayBatch

# Positions, padding included, that one forward pass may have: what a worker needs beside its buffer stays bounded.
BATCH_POSITIONS = 1 << 15


def record(
    reasoner: Reasoner,
    traces: TraceSet,
    addresses: Sequence[Address],
    index: pd.DataFrame,
    *,
    batch_size: int = 64,
) -> dict[Address, Float32[np.ndarray, "rows d"]]:
    """The activations at `addresses` for the rows of `index`, whose traces are `traces`' places from 0."""
    return {a: x.numpy() for a, x in gather(reasoner, traces, addresses, index, batch_size=batch_size).items()}


def gather(
    reasoner: Reasoner,
    traces: TraceSet,
    addresses: Sequence[Address],
    index: pd.DataFrame,
    *,
    batch_size: int = 64,
    dtype: torch.dtype = torch.float32,
) -> dict[Address, Float[Tensor, "rows d"]]:
    """The same as tensors on the host in `dtype`; the rows of a trace stand together in `index`, in order.

    Nothing but these rows is ever kept. From a GPU they are copied into pinned memory on a stream of their own
    while the next batch runs.
    """
    rows = _Rows(index, len(traces), reasoner.device)
    copies = _Copies(reasoner.device)
    buffers: dict[Address, Tensor] = {}

    def keeper(address: Address) -> Callable[[Any, ReplayBatch], None]:
        def hook(activations: Any, batch: ReplayBatch) -> None:
            first, last, cells = rows.of(batch)
            if first == last:
                return
            found = activations.detach()
            found = found.flatten(2) if found.ndim > 3 else found
            if address not in buffers:
                buffers[address] = copies.empty(len(index), found.shape[-1], dtype)
            copies.take(found.reshape(-1, found.shape[-1]), cells, buffers[address][first:last])

        return hook

    longest = max((len(trace) for trace in traces), default=1)
    batch_size = max(1, min(batch_size, BATCH_POSITIONS // longest))
    reasoner.replay(traces, hooks={address.name: keeper(address) for address in addresses}, batch_size=batch_size)
    copies.finish()
    return buffers


class _Rows:
    """Which rows of a buffer a batch fills, and which cells of the batch they are."""

    def __init__(self, index: pd.DataFrame, n_traces: int, device: torch.device) -> None:
        self._position = index["position"].to_numpy()
        self._trace = index["trace"].to_numpy()
        self._bounds = np.searchsorted(self._trace, np.arange(n_traces + 1))
        self._device = device
        self._batch: ReplayBatch | None = None
        self._found: tuple[int, int, Int[Tensor, " rows"] | None] = (0, 0, None)

    def of(self, batch: ReplayBatch) -> tuple[int, int, Int[Tensor, " rows"] | None]:
        """The first row, the last + 1, and the flat cells, or None where every cell is kept in its order."""
        if batch is not self._batch:
            n, width = batch.real.shape
            start = int(batch.traces[0])
            first, last = int(self._bounds[start]), int(self._bounds[start + n])
            flat = (self._trace[first:last] - start) * width + self._position[first:last]
            whole = last - first == n * width and bool((flat == np.arange(n * width)).all())
            cells = None if whole else torch.from_numpy(flat).to(self._device)
            self._batch, self._found = batch, (first, last, cells)
        return self._found


class _Copies:
    """Copies from the model's device to buffers on the host, beside the next computation where it is a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._stream: Any = torch.cuda.Stream(device) if self._cuda else None

    def empty(self, rows: int, width: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(rows, width, dtype=dtype, pin_memory=self._cuda)

    def take(self, source: Float[Tensor, "cells d"], cells: Tensor | None, target: Float[Tensor, "rows d"]) -> None:
        if not self._cuda:
            if cells is None:
                target.copy_(source)
            elif source.dtype == target.dtype:
                torch.index_select(source, 0, cells, out=target)
            else:
                target.copy_(source[cells])
            return
        # Cast and gathered on the device, so that the copy is one piece and truly asynchronous.
        found = (source if cells is None else source.index_select(0, cells)).to(target.dtype)
        if cells is None and found.data_ptr() == source.data_ptr():
            found = found.clone()  # the model may write over its own activations
        self._stream.wait_stream(torch.cuda.current_stream(source.device))
        with torch.cuda.stream(self._stream):
            target.copy_(found, non_blocking=True)
        found.record_stream(self._stream)

    def finish(self) -> None:
        if self._cuda:
            self._stream.synchronize()
