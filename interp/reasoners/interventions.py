"""Interventions: an address, rows and an edit; the same object while thinking and on replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import UsageError
from interp.models.address import Address, resolve
from interp.reasoners.rollouts.batch import BatchState

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

#: An edit takes activations and the indices of the intervention's rows that they belong to, and returns new ones.
Edit = Callable[[Float[Tensor, "rows d_model"], Int[np.ndarray, " rows"]], Float[Tensor, "rows d_model"]]
#: A hook name and a hook that may return changed activations.
NamedHook = tuple[str, Callable[..., Tensor | None]]


@dataclass(frozen=True)
class Intervention:
    """An edit of the activation at one address, in some rows.

    Args:
        address: Where the activation is changed.
        rows: Integer array n x 2 of (trace, position). A trace is named by its index in the list that is thought about
            or replayed; a position is counted from the trace's first token, padding aside.
        edit: The function that changes the activations.

    Raises:
        UsageError: `rows` has another shape.
    """

    address: Address
    rows: np.ndarray  # its shape is checked below, with a message for the person
    edit: Edit

    def __post_init__(self) -> None:
        rows = np.asarray(self.rows, dtype=np.int64)
        if rows.ndim != 2 or rows.shape[1] != 2:
            raise UsageError(
                f"expected rows of an intervention as (trace, position) pairs, an array n x 2, got shape {rows.shape}."
            )
        object.__setattr__(self, "rows", rows)

    @cached_property
    def _sorted(self) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " rows"]]:
        """The cells of all rows as single numbers, sorted, and the row of each; made once for all batches."""
        cells = _numbered(self.rows[:, 0], self.rows[:, 1])
        order = np.argsort(cells, kind="stable")
        return cells[order], order

    def edited_cells(
        self, state: BatchState
    ) -> tuple[Int[np.ndarray, " cells"], Int[np.ndarray, " cells"], Int[np.ndarray, " cells"]]:
        """Return the cells of a pass that are edited.

        Args:
            state: Which trace and position each cell of the pass is.

        Returns:
            Batch row, column, and index of the intervention's row of each, each of shape (cells,). Where several rows
            name one cell, the last counts.
        """
        cells, order = self._sorted
        passed = _numbered(state.traces[:, None], state.positions)
        # The last of equal cells, so that a later row replaces an earlier one.
        places = np.searchsorted(cells, passed, side="right") - 1
        edited = (places >= 0) & (cells[places.clip(min=0)] == passed) if len(cells) else np.zeros(passed.shape, bool)
        batch_rows, columns = edited.nonzero()
        return batch_rows, columns, order[places[edited]]


def _numbered(traces: Int[np.ndarray, "..."], positions: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    """Return one number for each pair of a trace and a position."""
    return (traces << 32) + positions


def replace_with(values: Float[np.ndarray, "rows ..."] | Float[Tensor, "rows ..."]) -> Edit:
    """Return an edit that puts row k of `values` at the intervention's row k."""
    table = torch.as_tensor(values if isinstance(values, Tensor) else np.ascontiguousarray(values))

    def edit(activations: Tensor, rows: np.ndarray) -> Tensor:
        return table[torch.as_tensor(rows)].to(activations)

    return edit


def replace_within(values: Float[Tensor, "rows d"], basis: Float[Tensor, "k d"]) -> Edit:
    """Return an edit that puts row k of `values` at the intervention's row k, within the span of `basis` alone.

    The part that is orthogonal to the span stays as it is.

    Args:
        values: The new activations.
        basis: Vectors that span the subspace; they need not be orthogonal.

    References:
        Distributed interchange, Geiger et al., arXiv 2303.02536.
    """
    span = torch.linalg.qr(torch.as_tensor(basis).double().T).Q.T
    table = torch.as_tensor(values)

    def edit(activations: Tensor, rows: np.ndarray) -> Tensor:
        directions = span.to(activations)
        change = (table[torch.as_tensor(rows)].to(activations) - activations) @ directions.T
        return activations + change @ directions

    return edit


def add(direction: Float[np.ndarray, " d_model"] | Float[np.ndarray, "rows d_model"], scale: float = 1.0) -> Edit:
    """Return an edit that adds `scale` times one direction, or times one direction for each row."""
    table = torch.as_tensor(np.ascontiguousarray(direction))

    def edit(activations: Tensor, rows: np.ndarray) -> Tensor:
        directions = table if table.ndim == 1 else table[torch.as_tensor(rows)]
        return activations + scale * directions.to(activations)

    return edit


def identity(activations: Tensor, rows: np.ndarray) -> Tensor:
    """Return the activations as they are: an edit that changes nothing."""
    return activations


@contextmanager
def intervening(
    model: TransformerBridge,
    interventions: Sequence[Intervention],
    state: BatchState,
    hooks: Sequence[NamedHook] = (),
) -> Iterator[None]:
    """Apply hooks and then interventions to every forward pass inside; all are removed afterwards, also on errors.

    Args:
        model: The wrapped model.
        interventions: What to change.
        state: Which trace and position each cell of a pass is; kept up to date by whoever runs the passes.
        hooks: Further hooks, which run before the interventions at the same address.

    Raises:
        UsageError: The model has no such address.
    """
    edits = ((intervention.address.name, _hook(intervention, state)) for intervention in interventions)
    named = [*hooks, *edits]
    resolved: list[tuple[str, Any]] = []
    for name, hook in named:
        (address,) = resolve(model, name)
        resolved.append((address.name, hook))
    if not resolved:
        yield
        return
    with model.hooks(fwd_hooks=resolved):
        yield


def _hook(intervention: Intervention, state: BatchState) -> Callable[..., Tensor | None]:
    def hook(activations: Tensor, hook: Any = None) -> Tensor | None:
        batch_rows, columns, rows = intervention.edited_cells(state)
        if not len(rows):
            return None
        chosen = tuple(torch.from_numpy(cells).to(activations.device) for cells in (batch_rows, columns))
        edited = activations.clone()
        edited[chosen] = intervention.edit(activations[chosen], rows)
        return edited

    return hook
