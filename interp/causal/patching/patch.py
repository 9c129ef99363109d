"""States at named positions, and replacing them while a problem is being thought about.

Every causal test here is a list of *swaps*: which state of which donor goes to which position of which recipient.
Controls are other lists over the same problems, so one function carries all of them out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.causal.patching.positions import in_place, position_parts
from interp.causal.patching.states import moved_contents
from interp.errors import UsageError
from interp.models.address import Address, resolve
from interp.reasoners.interventions import Edit, Intervention, replace_with
from interp.runtime.progress import Progress
from interp.traces import Channel, Trace, TraceSet

if TYPE_CHECKING:
    from interp.problems.base import Problem
    from interp.reasoners import Reasoner

# Makes an edit from the donors' states, rows x d, at an address.
EditMaker = Callable[[Tensor, Address], Edit]

INPUT = "blocks.0.hook_in"
EVERYTHING = "everything"  # the whole residual stream of a position: the input of block 0 and the output of each block
CACHE = "cache"  # what later positions read of a position: its keys and values in every block


def addresses_of(reasoner: Reasoner, address: str) -> list[Address]:
    """Return the addresses that match a name.

    Args:
        reasoner: Its model has the addresses.
        address: A hook name, a pattern of hook names, `everything` or `cache`.

    Returns:
        The addresses, in the order of the network.

    Raises:
        UsageError: The model has no such address.
    """
    n_layers = reasoner.model.cfg.n_layers
    if address == EVERYTHING:
        return [Address(INPUT), *(Address(f"blocks.{k}.hook_out") for k in range(n_layers))]
    if address == CACHE:
        return [Address(f"blocks.{k}.attn.hook_{part}") for k in range(n_layers) for part in "kv"]
    return resolve(reasoner.model, address)


def input_address(reasoner: Reasoner) -> str:
    """Return where a thought is replaced by default.

    Continuous thoughts are fed back, and words are fed as tokens, so replacing the input replaces the thought. The input
    of other latent positions is always the same, so there everything that was computed at the position is replaced.
    """
    return INPUT if _is_fed(reasoner) else EVERYTHING


def steering_address(reasoner: Reasoner) -> str:
    """Return where a thought is pushed by default: as `input_address`, but one address, and so the middle block."""
    return INPUT if _is_fed(reasoner) else f"blocks.{reasoner.model.cfg.n_layers // 2}.hook_out"


def _is_fed(reasoner: Reasoner) -> bool:
    """Return whether a thought reaches the model through its input: a fed-back state, or a written word."""
    return reasoner.kind == "continuous" or reasoner.thinks_in_text


def position_of_step(trace: Trace, step: int, offset: int = 0) -> int | None:
    """Return the position at which the value of a step is expected: where it is complete, moved by `offset` positions.

    Args:
        trace: Any trace.
        step: Number of the step, from 1.
        offset: Positions after (positive) or before (negative) where the step is complete.

    Returns:
        A position of a thought, or the one before the first thought; None where the trace has neither there. A trace
        without thoughts has one place: the value of its last step is expected where the answer begins to be written.
    """
    thoughts = [k for k, number in enumerate(trace.thought) if number]
    if not thoughts:
        return _before_answer(trace, step, offset)
    last = trace.step_position(step)
    if last is None or last + offset not in (thoughts[0] - 1, *thoughts):
        return None
    return last + offset


def _before_answer(trace: Trace, step: int, offset: int) -> int | None:
    """Return the last position before the answer, moved by `offset` and at most so far; None for earlier steps."""
    if step != trace.problem.n_steps or offset > 0:
        return None
    answer = next((k for k, channel in enumerate(trace.channel) if channel == Channel.ANSWER), len(trace))
    return answer - 1 + offset if answer - 1 + offset >= 0 else None


def position(trace: Trace, place: str) -> int | None:
    """Return the position of `place` in a trace, or None where the trace has no such place.

    Args:
        trace: Any trace.
        place: Such as `thought 2`, `begin` or `question 3` (the third token of the question).
    """
    name, _, number = place.partition(" ")
    if name == "question" and number.isdigit():
        return int(number) - 1 if 1 <= int(number) <= sum(c == "prompt" for c in trace.channel) else None
    if name == "thought" and number.isdigit():
        # A thought that closes a sentence has the sentence's name in `places`.
        return trace.thought.index(int(number)) if int(number) in trace.thought else None
    places = trace.places
    return places.index(place) if place in places else None


def thoughts_of_steps(
    traces: Sequence[Trace], offset: int, *, only_right: bool = False
) -> tuple[np.ndarray, list[tuple[int, int, str]]]:
    """Return where the value of each step is expected.

    Args:
        traces: The traces.
        offset: Thoughts after the step's last one.
        only_right: Leave out traces whose answer is wrong.

    Returns:
        Rows of (trace, position), shape (rows, 2), and for each row (step, number of steps, gold value).
    """
    rows, gold = [], []
    for k, trace in enumerate(traces):
        if only_right and not trace.correct:
            continue
        for number, step in enumerate(trace.problem.steps, 1):
            where = position_of_step(trace, number, offset)
            if where is not None:
                rows.append((k, where))
                gold.append((number, trace.problem.n_steps, step.value))
    return np.array(rows), gold


def match_norms(vectors: Float[Tensor, "rows ..."], like: Float[Tensor, "rows ..."]) -> Float[Tensor, "rows ..."]:
    """Return `vectors` with the norm of each row scaled to that of the same row of `like`."""
    norms = like.flatten(1).norm(dim=1) / vectors.flatten(1).norm(dim=1).clamp(min=1e-12)
    return vectors * norms.view(-1, *[1] * (vectors.ndim - 1))


def norm_matched_noise(values: Float[Tensor, "rows ..."], seed: int) -> Float[Tensor, "rows ..."]:
    """Return Gaussian noise of the shape of `values`, with the norm of each row."""
    return match_norms(torch.randn(values.shape, generator=torch.Generator().manual_seed(seed)), values)


def swaps_as_interventions(
    reasoner: Reasoner,
    traces: TraceSet,
    swaps: pd.DataFrame,
    *,
    donors: TraceSet | None = None,
    address: str = EVERYTHING,
    makers: Mapping[str, EditMaker] | None = None,
    batch_size: int = 256,
) -> tuple[list[Problem], list[Intervention]]:
    """Return the problems to think about again, and the interventions that carry swaps out meanwhile.

    The states come from undisturbed traces, also where several swaps are carried out together. What the position
    embedding adds stays at its position; only the rest of a state is read, changed and replaced.

    Args:
        reasoner: Thinks about the recipients again.
        traces: The recipients.
        swaps: One row for each swap. Columns: `run` (rows with one number are carried out together), `trace` (index
            of the recipient), `target` (position in it), `donor` (index of the donor, -1 for the recipient itself),
            `source` (position in the donor); optionally `address`, instead of the argument, and `edit`.
        donors: Traces that `donor` indexes. Default: `traces`.
        address: Where states are read and replaced: a hook name, `everything` or `cache`.
        makers: For each name in the column `edit` a function that makes the edit of a state's content. Default: it is
            replaced.
        batch_size: Traces that are replayed at once.

    Returns:
        One problem for each run, in the order of its first row, and the interventions, which name them by their index.

    Raises:
        UsageError: There are no swaps.
    """
    if not len(swaps):
        raise UsageError("expected at least one swap, got none: no problem has a donor; take more problems.")
    runs = list(dict.fromkeys(swaps["run"].tolist()))
    slots = {run: slot for slot, run in enumerate(runs)}
    source_traces = traces if donors is None else TraceSet([*donors, *traces])
    recipient_numbers = swaps["trace"] + (0 if donors is None else len(donors))
    table = swaps.assign(
        slot=swaps["run"].map(slots),
        source_trace=swaps["donor"].where(swaps["donor"] >= 0, recipient_numbers),
        address=swaps.get("address", address),
        edit=swaps["edit"] if makers else "",
    )
    interventions = []
    for (name, edit), part in table.groupby(["address", "edit"], sort=False):
        make = makers[edit] if makers else _replacing
        for canonical in addresses_of(reasoner, str(name)):
            sources, targets = (
                part[list(pair)].to_numpy() for pair in (("source_trace", "source"), ("trace", "target"))
            )
            values = moved_contents(reasoner, source_traces, canonical, sources, traces, targets, batch_size=batch_size)
            parts = position_parts(reasoner, traces, canonical, targets)
            edited = in_place(make(values, canonical), parts)
            interventions.append(Intervention(canonical, part[["slot", "target"]].to_numpy(), edited))
    recipients = dict(zip(table["slot"].tolist(), table["trace"].tolist(), strict=True))
    return [traces[recipients[slot]].problem for slot in range(len(runs))], interventions


def answers_after(
    reasoner: Reasoner,
    traces: TraceSet,
    swaps: pd.DataFrame,
    *,
    donors: TraceSet | None = None,
    address: str = EVERYTHING,
    makers: Mapping[str, EditMaker] | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> list[str]:
    """Carry out swaps and return the answers.

    Args:
        reasoner: Thinks about the recipients again.
        traces: The recipients.
        swaps: As for `swaps_as_interventions`, and so the arguments up to `batch_size`.
        donors: Traces that `donor` indexes.
        address: Where states are read and replaced.
        makers: What makes an edit of a state's content.
        batch_size: Problems that are thought about at once.
        progress: Called with (problems done, problems in all).

    Returns:
        One answer for each run, in the order of its first row.

    Raises:
        UsageError: There are no swaps.
    """
    problems, interventions = swaps_as_interventions(
        reasoner, traces, swaps, donors=donors, address=address, makers=makers, batch_size=batch_size
    )
    after = reasoner.think(problems, batch_size=batch_size, interventions=interventions, progress=progress)
    return [trace.answer for trace in after]


def _replacing(values: Tensor, address: Address) -> Edit:
    return replace_with(values)
