"""Recording while thinking: what passes each address in the latent loop itself, nothing replayed.

For reasoners whose thoughts are fed back this is the pass in which they were thought; that a replay records the same
is one of the promises of the latent loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.address import Address, resolve
from interp.problems.base import Problem
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner
    from interp.reasoners.interventions import BatchState

_ROOM = 64


class LoopRecorder:
    """Hooks for `Reasoner.think` that keep every position's activations, batch after batch.

    Each address has one buffer for a batch, batch x columns x d, in `dtype` on the model's device; it is made when the
    first batch begins and used again for the next.
    """

    def __init__(self, addresses: Sequence[Address], dtype: torch.dtype = torch.float32) -> None:
        self.addresses = list(addresses)
        self._dtype = dtype
        self._buffers: dict[Address, Float[Tensor, "batch columns d"]] = {}
        self._filled = dict.fromkeys(self.addresses, 0)
        self._cells: list[np.ndarray] = []
        self._traces: np.ndarray | None = None
        self.rows: dict[Address, dict[int, Float[Tensor, "positions d"]]] = {a: {} for a in self.addresses}

    @property
    def hooks(self) -> dict[str, Callable[[Any, BatchState], None]]:
        return {address.name: self._hook(address) for address in self.addresses}

    def _hook(self, address: Address) -> Callable[[Any, BatchState], None]:
        leading = address == self.addresses[0]
        buffers, filled = self._buffers, self._filled

        def hook(activations: Tensor, where: BatchState) -> None:
            if leading:
                if self._traces is not where.traces:
                    self.settle()
                    self._traces = where.traces
                self._cells.append(where.positions)
            found = activations if activations.ndim == 3 else activations.flatten(2)
            rows, new, _ = found.shape
            first, buffer = filled[address], buffers.get(address)
            if buffer is None or buffer.shape[0] < rows or buffer.shape[1] < first + new:
                buffer = self._grow(address, found, first + new)
            # Views by `narrow` cost a fraction of those by index, and this runs at every address of every pass.
            there = buffer.narrow(1, first, new)
            (there if len(there) == rows else there.narrow(0, 0, rows)).copy_(found)
            filled[address] = first + new

        return hook

    def _grow(self, address: Address, found: Tensor, last: int) -> Tensor:
        old, held = self._buffers.get(address), self._filled[address]
        room = last + _ROOM if old is None else max(last, 2 * old.shape[1])
        made = torch.empty(len(found), room, found.shape[2], dtype=self._dtype, device=found.device)
        if old is not None and held:
            made[:, :held] = old[: len(found), :held]
        self._buffers[address] = made
        return made

    def settle(self) -> None:
        """Sort the finished batch's columns into rows of traces, on the host."""
        if self._traces is not None and self._cells:
            positions = np.concatenate(self._cells, axis=1)
            n, width = positions.shape
            for address, buffer in self._buffers.items():
                held = buffer[:n, :width].cpu()  # at once: from a GPU every copy takes as long as a small pass
                for b, trace in enumerate(self._traces.tolist()):
                    columns = np.flatnonzero(positions[b] >= 0)
                    columns = columns[np.argsort(positions[b, columns], kind="stable")]
                    self.rows[address][trace] = held[b, torch.from_numpy(columns)]
        self._cells, self._traces = [], None
        self._filled.update(dict.fromkeys(self.addresses, 0))


def think_and_record(
    reasoner: Reasoner,
    problems: Sequence[Problem],
    *,
    sites: str | Sequence[str] = "resid",
    layers: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> tuple[TraceSet, dict[Address, list[Float[Tensor, "positions d"]]]]:
    """Traces, and at each address every trace's activations, positions x d, from the very pass that thought them.

    `options` are those of `Reasoner.think`. Raises `UsageError` on unknown sites.
    """
    recorder = LoopRecorder(resolve(reasoner.model, sites, layers), dtype)
    traces = reasoner.think(problems, hooks=recorder.hooks, **options)
    recorder.settle()
    return traces, {a: [rows[k] for k in range(len(traces))] for a, rows in recorder.rows.items()}
