"""Activations recorded while a reasoner thinks, so that interventions and what follows from them are in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Unpack

import torch
from torch import Tensor

from interp.activations.plan import plan
from interp.activations.recording import Recording
from interp.models.address import Address, resolve
from interp.problems.base import Problem
from interp.reasoners.options import ThinkOptions
from interp.reasoners.rollouts.batch import BatchState

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


def record_thinking(
    reasoner: Reasoner,
    problems: Sequence[Problem],
    *,
    sites: str | Sequence[str] = "resid",
    channels: Sequence[str] | None = None,
    **options: Unpack[ThinkOptions],
) -> Recording:
    """Think about problems and record the activations meanwhile, for a few problems.

    `record` replays traces, in which an intervention would be missing. Here an activation is what the model computed
    before an intervention at the same address and position.

    Args:
        reasoner: The reasoner that thinks.
        problems: The problems.
        sites: Activation kinds, hook names or patterns.
        channels: Channels of positions to keep; all but the prompt by default. The prompt's last position is always kept.
        **options: Interventions, seed and others; see `ThinkOptions`. `hooks` are taken.

    Returns:
        The recording; its `traces` are what was thought.

    Raises:
        UsageError: On unknown sites or channels, and where there are no problems.
    """
    addresses = resolve(reasoner.model, sites)
    kept: dict[Address, dict[tuple[int, int], Tensor]] = {address: {} for address in addresses}

    def keep(address: Address) -> Callable[[Tensor, BatchState], None]:
        def hook(activations: Tensor, state: BatchState) -> None:
            values = activations.detach().float().cpu()
            for row, trace in enumerate(state.traces.tolist()):
                for column, position in enumerate(state.positions[row].tolist()):
                    if position >= 0:
                        kept[address][trace, position] = values[row, column]

        return hook

    options["hooks"] = {address.name: keep(address) for address in addresses}
    traces = reasoner.think(problems, **options)
    planned = plan(reasoner, traces, sites=[address.name for address in addresses], channels=channels)
    # The last token of an answer is written and not read, so the model computed nothing there.
    rows = list(zip(planned.index["trace"].tolist(), planned.index["position"].tolist(), strict=True))
    width = {address: len(next(iter(cells.values()))) for address, cells in kept.items()}
    acts = {
        address: torch.stack([cells.get(row, torch.full((width[address],), torch.nan)) for row in rows])
        for address, cells in kept.items()
    }
    return Recording(reasoner, traces, planned.index, planned.meta, acts)
