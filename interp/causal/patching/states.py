"""States of traces, and their contents where they are moved to another position: what the position adds stays.

In the residual stream the position's part is a summand (`interp.causal.patching.positions`). Keys and values are
computed from that stream through a norm, so they have no such summand: they are computed again, from the same content
with the part of the other position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.causal.patching.positions import position_parts
from interp.models.address import Address, resolve
from interp.reasoners.interventions import Intervention, replace_with
from interp.traces import Trace

if TYPE_CHECKING:
    from interp.reasoners import Reasoner
    from interp.reasoners.replayer import ReplayBatch

_FROM_NORM = ("attn.hook_k", "attn.hook_v", "attn.hook_q")


def states(
    reasoner: Reasoner,
    traces: Sequence[Trace],
    address: Address,
    rows: Int[np.ndarray, "rows 2"],
    *,
    batch_size: int = 256,
) -> Float[Tensor, "rows ..."]:
    """Return the activation at `address` at each (trace, position) of `rows`.

    Args:
        reasoner: Replays the traces.
        traces: The traces that `rows` index.
        address: Where to read.
        rows: (trace, position) pairs.
        batch_size: Traces that are replayed at once.

    Returns:
        Activations, float32 on the CPU, in the order of `rows`.
    """
    used, index = np.unique(np.asarray(rows)[:, 0], return_inverse=True)
    rows = np.stack([index, np.asarray(rows)[:, 1]], axis=1)
    return _replayed(reasoner, [traces[k] for k in used], address, rows, batch_size)


def _replayed(
    reasoner: Reasoner,
    traces: Sequence[Trace],
    address: Address,
    rows: Int[np.ndarray, "rows 2"],
    batch_size: int,
    interventions: Sequence[Intervention] = (),
) -> Float[Tensor, "rows ..."]:
    """Return the activation at each (trace, position) of `rows`, in a replay of all `traces`."""
    (hook,) = resolve(reasoner.model, address.name)
    rows_by_trace: dict[int, list[tuple[int, int]]] = {}
    for row, (trace, position) in enumerate(rows.tolist()):
        rows_by_trace.setdefault(trace, []).append((row, position))
    kept: dict[int, Tensor] = {}

    def keep(activations: Tensor, batch: ReplayBatch) -> None:
        for b, k in enumerate(batch.traces.tolist()):
            for row, position in rows_by_trace[k]:
                kept[row] = activations[b, position].detach().float().cpu().clone()

    reasoner.replay(traces, hooks={hook.name: keep}, batch_size=batch_size, interventions=interventions)
    return torch.stack([kept[row] for row in range(len(rows))])


def contents(
    reasoner: Reasoner,
    traces: Sequence[Trace],
    address: Address,
    rows: Int[np.ndarray, "rows 2"],
    *,
    batch_size: int = 256,
) -> Float[Tensor, "rows ..."]:
    """Return `states` without what the position embedding adds: what may be moved to another position."""
    acts = states(reasoner, traces, address, rows, batch_size=batch_size)
    parts = position_parts(reasoner, traces, address, rows)
    return acts - parts.view(len(parts), *[1] * (acts.ndim - 2), parts.shape[-1])


def moved_contents(
    reasoner: Reasoner,
    donors: Sequence[Trace],
    address: Address,
    sources: Int[np.ndarray, "rows 2"],
    recipients: Sequence[Trace],
    targets: Int[np.ndarray, "rows 2"],
    *,
    batch_size: int = 256,
) -> Float[Tensor, "rows ..."]:
    """Return the content of each donor's state, as it is at its recipient's position.

    Args:
        reasoner: Replays the donors.
        donors: The traces that `sources` index.
        address: Where the states are.
        sources: (trace, position) pairs.
        recipients: The traces that `targets` index.
        targets: (trace, position) pairs, one for each source.
        batch_size: Traces that are replayed at once.

    Returns:
        Contents without the position's part in the residual stream, and whole keys, queries and values; float32 on the
        CPU.
    """
    if address.hook not in _FROM_NORM:
        return contents(reasoner, donors, address, sources, batch_size=batch_size)
    stream = Address(f"blocks.{address.layer}.hook_in")
    shift = position_parts(reasoner, recipients, stream, targets) - position_parts(reasoner, donors, stream, sources)
    moves = torch.nonzero(shift.flatten(1).any(dim=1)).flatten().numpy()
    values = states(reasoner, donors, address, sources, batch_size=batch_size)
    if len(moves):
        values[moves] = _computed_again(reasoner, donors, address, stream, sources[moves], shift[moves], batch_size)
    return values


def _computed_again(
    reasoner: Reasoner,
    donors: Sequence[Trace],
    address: Address,
    stream: Address,
    sources: np.ndarray,
    shift: Float[Tensor, "rows d"],
    batch_size: int,
) -> Float[Tensor, "rows ..."]:
    """Return the activations at `address` where the residual stream before it is shifted, each row in a replay of its own."""
    shifted = states(reasoner, donors, stream, sources, batch_size=batch_size) + shift
    rows = np.stack([np.arange(len(sources)), sources[:, 1]], axis=1)
    shift_stream = Intervention(stream, rows, replace_with(shifted))
    return _replayed(reasoner, [donors[trace] for trace in sources[:, 0]], address, rows, batch_size, [shift_stream])
