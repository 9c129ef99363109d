"""Copies of activations from the model's device to buffers on the CPU.

On a GPU the rows of a batch are gathered and cast there, and copied to pinned memory on a separate stream while the next
batch runs. At most two batches are pending, which bounds the memory that a capture takes on the device.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

MAX_PENDING = 2


class HostCopies:
    """The copies of one capture."""

    def __init__(self, device: torch.device, *, staged: bool | None = None) -> None:
        """Prepare copies from `device`; `staged` gathers and casts rows before copying, as a GPU needs it."""
        self._cuda = device.type == "cuda"
        self._staged = self._cuda if staged is None else staged
        self._stream: Any = torch.cuda.Stream(device) if self._cuda else None
        self._batches: deque[Any] = deque()

    def empty(self, count: int, rows: int, width: int, dtype: torch.dtype) -> list[Float[Tensor, "rows width"]]:
        """Return buffers on the CPU, pinned where they are filled from a GPU."""
        with torch.inference_mode(False):  # the buffers outlive the pass that fills them
            return [torch.empty(rows, width, dtype=dtype, pin_memory=self._cuda) for _ in range(count)]

    def next_batch(self) -> None:
        """Begin another batch; wait while more than `MAX_PENDING` earlier ones are pending."""
        if not self._cuda:
            return
        self._batches.append(self._stream.record_event())
        while len(self._batches) > MAX_PENDING:
            self._batches.popleft().synchronize()

    def take(
        self, source: Float[Tensor, "cells d"], cells: Int[Tensor, " rows"] | None, target: Float[Tensor, "rows d"]
    ) -> None:
        """Copy the chosen cells, or all of them where `cells` is None, into `target` on the CPU."""
        if self._staged:
            self._copy_async(self._gathered(source, cells, target.dtype), target)
        elif cells is None:
            target.copy_(source)
        elif source.dtype == target.dtype:
            torch.index_select(source, 0, cells, out=target)
        else:
            target.copy_(source.index_select(0, cells))

    def finish(self) -> None:
        """Wait for all copies."""
        if self._cuda:
            self._stream.synchronize()

    def _gathered(self, source: Tensor, cells: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Return the rows in memory that nothing else writes to, so that they can be copied later."""
        rows = (source if cells is None else source.index_select(0, cells)).to(dtype)
        return rows.clone() if rows.data_ptr() == source.data_ptr() else rows

    def _copy_async(self, rows: Tensor, target: Tensor) -> None:
        """Copy to the CPU on the separate stream."""
        with contextlib.ExitStack() as stack:
            if self._cuda:
                self._stream.wait_stream(torch.cuda.current_stream(rows.device))
                stack.enter_context(torch.cuda.stream(self._stream))
            target.copy_(rows, non_blocking=True)
        if self._cuda:
            rows.record_stream(self._stream)
