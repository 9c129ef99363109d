"""Recording of activations while a reasoner thinks, in the latent loop itself and without a replay.

Tests compare these with the activations of a replay, which must be the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.address import Address, resolve
from interp.problems.base import Problem
from interp.reasoners.options import ThinkOptions
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner
    from interp.reasoners.rollouts.batch import BatchState

_SPARE_COLUMNS = 64


class LoopRecorder:
    """Hooks for `Reasoner.think` that keep the activations of every position.

    Each address has one buffer of shape (batch, columns, d) on the model's device, which all batches use in turn.

    Attributes:
        addresses: The addresses to keep.
        rows: Activations by address and trace, on the CPU, shape (positions, d) each.
    """

    def __init__(self, addresses: Sequence[Address], dtype: torch.dtype = torch.float32) -> None:
        """Prepare to keep `addresses` in `dtype`."""
        self.addresses = list(addresses)
        self._dtype = dtype
        self._buffers: dict[Address, Float[Tensor, "batch columns d"]] = {}
        self._filled = dict.fromkeys(self.addresses, 0)
        self._cells: list[np.ndarray] = []
        self._traces: np.ndarray | None = None
        self.rows: dict[Address, dict[int, Float[Tensor, "positions d"]]] = {a: {} for a in self.addresses}

    @property
    def hooks(self) -> dict[str, Callable[[Any, BatchState], None]]:
        """The hooks, by name of the address."""
        return {address.name: self._hook(address) for address in self.addresses}

    def _hook(self, address: Address) -> Callable[[Any, BatchState], None]:
        """Return the hook of one address; that of the first also notes positions and new batches."""
        is_first = address == self.addresses[0]
        buffers, filled = self._buffers, self._filled

        def hook(activations: Tensor, state: BatchState) -> None:
            if is_first:
                if self._traces is not state.traces:
                    self.flush()
                    self._traces = state.traces
                self._cells.append(state.positions)
            acts = activations if activations.ndim == 3 else activations.flatten(2)
            rows, new, _ = acts.shape
            first, buffer = filled[address], buffers.get(address)
            if buffer is None or buffer.shape[0] < rows or buffer.shape[1] < first + new:
                buffer = self._grow(address, acts, first + new)
            # `narrow` is much cheaper than indexing, and this runs at every address of every pass.
            target = buffer.narrow(1, first, new)
            (target if len(target) == rows else target.narrow(0, 0, rows)).copy_(acts)
            filled[address] = first + new

        return hook

    def _grow(self, address: Address, acts: Tensor, last: int) -> Tensor:
        """Return a buffer with at least `last` columns and the rows of `acts`, filled with the content of the old one."""
        old, held = self._buffers.get(address), self._filled[address]
        columns = last + _SPARE_COLUMNS if old is None else max(last, 2 * old.shape[1])
        new = torch.empty(len(acts), columns, acts.shape[2], dtype=self._dtype, device=acts.device)
        if old is not None and held:
            new[:, :held] = old[: len(acts), :held]
        self._buffers[address] = new
        return new

    def flush(self) -> None:
        """Move the finished batch to `rows`, on the CPU and by position."""
        if self._traces is not None and self._cells:
            positions = np.concatenate(self._cells, axis=1)
            n, width = positions.shape
            for address, buffer in self._buffers.items():
                held = buffer[:n, :width].cpu()  # one copy: from a GPU each takes as long as a small pass
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
    **options: Unpack[ThinkOptions],
) -> tuple[TraceSet, dict[Address, list[Float[Tensor, "positions d"]]]]:
    """Think about problems and keep the activations of the passes that produce the thoughts.

    Args:
        reasoner: The reasoner.
        problems: Problems to think about.
        sites: Activation kinds, hook names or patterns.
        layers: Layers to keep; all by default.
        dtype: Dtype to keep activations in.
        **options: See `ThinkOptions`; `hooks` are the recorder's.

    Returns:
        The traces; and by address the activations of each trace, shape (positions, d).

    Raises:
        UsageError: On unknown sites.
    """
    recorder = LoopRecorder(resolve(reasoner.model, sites, layers), dtype)
    traces = reasoner.think(problems, hooks=recorder.hooks, **options)  # type: ignore[misc]  # a second `hooks` is refused
    recorder.flush()
    return traces, {a: [rows[k] for k in range(len(traces))] for a, rows in recorder.rows.items()}
