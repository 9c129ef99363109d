"""From the model's device to buffers on the host: straight on the CPU, behind the computation on a GPU.

On a GPU the rows of a batch are gathered and cast there, and go to pinned memory on a stream of their own while the
next batch runs. Two batches at most are on their way, so what a capture takes on the device is bounded.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

UNDER_WAY = 2


class HostCopies:
    """The copies of one capture. `staged` gathers and casts before copying, as a GPU needs it; a CPU can do without."""

    def __init__(self, device: torch.device, *, staged: bool | None = None) -> None:
        self._cuda = device.type == "cuda"
        self._staged = self._cuda if staged is None else staged
        self._stream: Any = torch.cuda.Stream(device) if self._cuda else None
        self._batches: deque[Any] = deque()

    def empty(self, count: int, rows: int, width: int, dtype: torch.dtype) -> list[Float[Tensor, "rows width"]]:
        """Buffers on the host, pinned where copies into them come from a GPU."""
        with torch.inference_mode(False):  # they outlive the pass that fills them
            return [torch.empty(rows, width, dtype=dtype, pin_memory=self._cuda) for _ in range(count)]

    def next_batch(self) -> None:
        """Say that another batch begins; waits while more than two before it are still on their way."""
        if not self._cuda:
            return
        self._batches.append(self._stream.record_event())
        while len(self._batches) > UNDER_WAY:
            self._batches.popleft().synchronize()

    def take(
        self, source: Float[Tensor, "cells d"], cells: Int[Tensor, " rows"] | None, target: Float[Tensor, "rows d"]
    ) -> None:
        """Copy the chosen cells, or all of them in order where `cells` is None, into `target` on the host."""
        if self._staged:
            self._behind(self._gathered(source, cells, target.dtype), target)
        elif cells is None:
            target.copy_(source)
        elif source.dtype == target.dtype:
            torch.index_select(source, 0, cells, out=target)
        else:
            target.copy_(source.index_select(0, cells))

    def finish(self) -> None:
        """Wait until everything has arrived."""
        if self._cuda:
            self._stream.synchronize()

    def _gathered(self, source: Tensor, cells: Tensor | None, dtype: torch.dtype) -> Tensor:
        """The rows in one piece of memory that nothing else writes to, so that they can be copied at any time."""
        found = (source if cells is None else source.index_select(0, cells)).to(dtype)
        return found.clone() if found.data_ptr() == source.data_ptr() else found

    def _behind(self, found: Tensor, target: Tensor) -> None:
        with contextlib.ExitStack() as stack:
            if self._cuda:
                self._stream.wait_stream(torch.cuda.current_stream(found.device))
                stack.enter_context(torch.cuda.stream(self._stream))
            target.copy_(found, non_blocking=True)
        if self._cuda:
            found.record_stream(self._stream)
