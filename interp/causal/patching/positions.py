"""The part of a state that says where it stands, and edits that leave it in place.

Many models add an embedding of the position to the input of their first block, and the residual stream carries it on. A
state that is moved to another position takes that part along, and the model then puts the states back in order:
attention sees a set. So a causal test edits a state's *content*, which is the state without the position's part, and the
part of the position that is edited stays. Models that turn queries and keys by their distance (rotary embeddings) add
nothing, so there the part is zero and the content is the whole state.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.models.address import Address
from interp.models.fast_model import StopForward
from interp.reasoners.interventions import Edit
from interp.traces import Trace

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

# Sites of the residual stream inside the blocks: what is added to the input is still there.
_RESIDUAL = ("hook_in", "hook_resid_mid", "hook_out")


def position_parts(
    reasoner: Reasoner, traces: Sequence[Trace], address: Address, rows: Int[np.ndarray, "rows 2"]
) -> Float[Tensor, "rows d"]:
    """Return what the position embedding adds to the state at each (trace, position).

    It is measured: the input of the first block where the embedding of the token is zero.

    Args:
        reasoner: The reasoner of the traces.
        traces: The traces that `rows` index.
        address: Where the states are. Only the residual stream inside the blocks carries the part on.
        rows: (trace, position) pairs.

    Returns:
        One vector for each row, float32 on the CPU. Shape (rows, 1) and zero where nothing is added at the address.
    """
    rows = np.asarray(rows)
    if address.layer is None or address.hook not in _RESIDUAL:
        return torch.zeros(len(rows), 1)
    ids_of = {trace: reasoner.replayer.position_ids(traces[trace]) for trace in np.unique(rows[:, 0]).tolist()}
    ids = np.array([ids_of[trace][where] for trace, where in rows.tolist()])
    known, place = np.unique(ids, return_inverse=True)
    return _of_ids(reasoner, known)[torch.as_tensor(place)]


def _of_ids(reasoner: Reasoner, ids: Int[np.ndarray, " n"]) -> Float[Tensor, "n d"]:
    network, kept = reasoner.network, []
    width = network.embed.weight.shape[1]
    nothing = torch.zeros(1, len(ids), width, dtype=network.embed.weight.dtype, device=network.device)
    hooks = {"blocks.0.hook_in": lambda activations, hook=None: kept.append(activations[0].detach().float().cpu())}
    with torch.no_grad(), network.hooked(hooks, fast=True, whole=False) as base, suppress(StopForward):
        base(
            inputs_embeds=nothing,
            attention_mask=torch.ones(1, len(ids), dtype=torch.long, device=network.device),
            position_ids=torch.as_tensor(ids, device=network.device)[None],
            use_cache=False,
        )
    return kept[0]


def in_place(edit: Edit, parts: Float[Tensor, "rows d"]) -> Edit:
    """Return an edit that does to a state's content what `edit` does, and leaves the position's part.

    Args:
        edit: An edit of contents.
        parts: The position's part at each row of the intervention, from `position_parts`.
    """

    def edit_content(activations: Tensor, rows: np.ndarray) -> Tensor:
        # In float32, because taking a part away and putting it back would round in bfloat16.
        part = parts[torch.as_tensor(rows)].to(activations.device)
        part = part.view(len(part), *[1] * (activations.ndim - part.ndim), part.shape[-1])
        return (edit(activations.float() - part, rows) + part).to(activations.dtype)

    return edit_content
