"""Interventions: (address, rows, edit), the same object while thinking and on replay."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import UsageError
from interp.models.address import Address, resolve

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from interp.reasoners.monitor import MonitorRun
    from interp.reasoners.rollout import Rollout, Row

# What an edit receives: the activations found, and which of the intervention's rows they belong to.
Edit = Callable[[Float[Tensor, "found d_model"], Int[np.ndarray, " found"]], Float[Tensor, "found d_model"]]


@dataclass(frozen=True)
class Intervention:
    """Change the activation at `address` in each of `rows`, by `edit`.

    `rows` is an integer array n x 2 of (trace, position): the trace's place in the list that is being
    thought about or replayed, and the position counted from its first token, padding aside.
    """

    address: Address
    rows: np.ndarray  # its shape is checked below, with a message for the person
    edit: Edit

    def __post_init__(self) -> None:
        rows = np.asarray(self.rows, dtype=np.int64)
        if rows.ndim != 2 or rows.shape[1] != 2:
            raise UsageError(f"rows of an intervention are (trace, position) pairs, but an array {rows.shape} came.")
        object.__setattr__(self, "rows", rows)


def replace_with(values: Float[np.ndarray, "rows ..."] | Float[Tensor, "rows ..."]) -> Edit:
    """An edit that puts row k of `values` at the intervention's row k."""
    table = torch.as_tensor(values if isinstance(values, Tensor) else np.ascontiguousarray(values))

    def edit(found: Tensor, rows: np.ndarray) -> Tensor:
        return table[torch.as_tensor(rows)].to(found)

    return edit


def replace_within(values: Float[Tensor, "rows d"], basis: Float[Tensor, "k d"]) -> Edit:
    """An edit that puts row k of `values` in the place of what is there, within the span of `basis` alone.

    The part that is orthogonal to the span stays as it is (distributed interchange, Geiger et al., arXiv 2303.02536).
    """
    span = torch.linalg.qr(torch.as_tensor(basis).double().T).Q.T
    table = torch.as_tensor(values)

    def edit(found: Tensor, rows: np.ndarray) -> Tensor:
        directions = span.to(found)
        change = (table[torch.as_tensor(rows)].to(found) - found) @ directions.T
        return found + change @ directions

    return edit


def add(direction: Float[np.ndarray, " d_model"] | Float[np.ndarray, "rows d_model"], scale: float = 1.0) -> Edit:
    """An edit that adds `scale` times one direction, or one for each row."""
    table = torch.as_tensor(np.ascontiguousarray(direction))

    def edit(found: Tensor, rows: np.ndarray) -> Tensor:
        chosen = table if table.ndim == 1 else table[torch.as_tensor(rows)]
        return found + scale * chosen.to(found)

    return edit


def identity(found: Tensor, rows: np.ndarray) -> Tensor:
    """An edit that changes nothing."""
    return found


class BatchState:
    """Which (trace, position) each cell of the tensor now passing through the model is; -1 is padding.

    While thinking, `rows` is what each trace of the batch holds so far, and `after` is called when a pass is done.
    """

    def __init__(self) -> None:
        self.traces: Int[np.ndarray, " batch"] = np.empty(0, dtype=np.int64)
        self.positions: Int[np.ndarray, "batch pos"] = np.empty((0, 0), dtype=np.int64)
        self.rows: list[Row] = []
        self.after: list[Callable[[Rollout], None]] = []


@contextlib.contextmanager
def intervening(
    model: TransformerBridge,
    interventions: Sequence[Intervention],
    where: BatchState,
    watches: Sequence[MonitorRun] = (),
) -> Iterator[None]:
    """Apply `interventions` and monitors to every forward pass inside; hooks are removed whatever happens."""
    hooks: list[tuple[str, Any]] = []
    for watch in watches:
        for name, hook in watch.hooks():
            (address,) = resolve(model, name)
            hooks.append((address.name, hook))
    where.after = [watch.after for watch in watches]
    for intervention in interventions:
        (address,) = resolve(model, intervention.address.name)
        hooks.append((address.name, _hook(intervention, where)))
    if not hooks:
        yield
        return
    with model.hooks(fwd_hooks=hooks):
        yield


def _hook(intervention: Intervention, where: BatchState) -> Callable[..., Tensor | None]:
    index = {(int(trace), int(position)): k for k, (trace, position) in enumerate(intervention.rows)}
    touched = {trace for trace, _ in index}

    def hook(activations: Tensor, hook: Any = None) -> Tensor | None:
        cells, rows = [], []
        for b, trace in enumerate(where.traces.tolist()):
            if trace not in touched:
                continue
            for column, position in enumerate(where.positions[b].tolist()):
                row = index.get((trace, position))
                if row is not None:
                    cells.append((b, column))
                    rows.append(row)
        if not cells:
            return None
        at = tuple(torch.tensor(cells, device=activations.device).T)
        edited = activations.clone()
        edited[at] = intervention.edit(activations[at], np.asarray(rows))
        return edited

    return hook
