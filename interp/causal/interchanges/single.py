"""One edit of one thought: a chosen value at one step of one problem, and the same edit where it should do nothing.

It is the interchange of `interp.causal.interchanges.run` with the donor chosen by its value: its pairs, places and controls,
for one problem. The whole thinking after each edit is kept, so that what follows an edited thought can be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.activations.while_thinking import record_thinking
from interp.causal.interchanges.plan import OffsetLocation, edit_maker, outcomes, plan_swaps
from interp.causal.interchanges.results import EDITS
from interp.causal.patching.chosen import checked_prediction
from interp.causal.patching.donors import Donors, gold_values, pairs
from interp.causal.patching.patch import input_address, swaps_as_interventions
from interp.causal.patching.widths import WholeValues
from interp.errors import UsageError
from interp.problems import task as make_task
from interp.problems.base import Problem, Task
from interp.traces import Trace, TraceSet

if TYPE_CHECKING:
    from interp.activations import Recording
    from interp.reasoners import Reasoner

# Rewrites of a problem among which a donor with the wanted value is looked for.
_TRIED = 400


@dataclass(frozen=True)
class ThoughtEdit:
    """One thought exchanged for a donor's, and its controls.

    Attributes:
        step: The step that was edited.
        value: The value of the donor at that step.
        predicted: The answer that follows if the value is used.
        table: One row for each edit, with the columns of `InterchangeResult.table`.
        donors: The donors that `table` indexes.
        recording: What was thought after each edit, in the order of `table`: traces and activations.
    """

    step: int
    value: str
    predicted: str
    table: pd.DataFrame
    donors: TraceSet
    recording: Recording

    def outcome(self, edit: str) -> dict[str, object] | None:
        """Return the row of an edit; None where it could not be made."""
        rows = self.table[self.table["edit"] == edit]
        return None if rows.empty else {str(key): value for key, value in rows.iloc[0].items()}


def edit_thought(
    reasoner: Reasoner,
    traces: TraceSet,
    trace: int,
    step: int,
    value: str,
    *,
    address: str | None = None,
    offset: int = 0,
    sites: str | Sequence[str] = "resid",
    edits: Sequence[str] = EDITS,
    seed: int = 0,
) -> ThoughtEdit:
    """Think again about one problem, with one thought exchanged for a donor's that holds a chosen value.

    Donors are other traces with as many steps that answered right, or a rewrite of the problem where none holds the
    value or where thoughts hold names too.

    Args:
        reasoner: The reasoner of the traces.
        traces: The recipient, and others that may give a state.
        trace: Index of the recipient.
        step: Number of the step, from 1.
        value: The value that the donor holds at that step.
        address: Where to edit, as for `interchange`.
        offset: Thoughts after the step's last one.
        sites: Activations to record.
        edits: The edits to make, in order: names from `EDITS`.
        seed: Seed of the donors, wrong places and noise.

    Returns:
        The edit and its controls.

    Raises:
        UsageError: The step or the value is not there, the value implies no other answer, or no donor holds it.

    References:
        Geiger et al. 2021, "Causal Abstractions of Neural Networks" (arXiv 2106.02997).
    """
    recipient = traces[trace]
    problem, task = recipient.problem, make_task(recipient.problem.task)
    predicted = checked_prediction(task, recipient, step, value)
    own = problem.steps[step - 1].value
    some = TraceSet([recipient])
    donors = _donors(reasoner, traces, recipient, step, (value, own), task, seed)
    whole = WholeValues(reasoner, some, donors.traces, offset)
    values = [[s.value for s in problem.steps]]
    paired = pairs(some, donors, values, seed=seed, only_right=False, steps=[step], fits=whole.fits)
    where = OffsetLocation(some, address or input_address(reasoner), offset)
    plan = plan_swaps(paired, some, donors, where, edits, seed, whole.fits)
    if not (plan["edit"] == "other value").any():
        raise UsageError(
            f"expected a thought of step {step} at offset {offset} and a donor with {value} there, got none for problem "
            f"{recipient.id}; try another value or more problems."
        )
    makers = {edit: edit_maker(edit, None, seed) for edit in edits}
    problems, interventions = swaps_as_interventions(
        reasoner, some, whole.widened(plan), donors=donors.traces, makers=makers
    )
    recording = record_thinking(reasoner, problems, sites=sites, interventions=interventions)
    table = outcomes(plan, some, [after.answer for after in recording.traces]).assign(trace=trace)
    return ThoughtEdit(step, value, predicted, table, donors.traces, recording)


def _donors(
    reasoner: Reasoner,
    traces: TraceSet,
    recipient: Trace,
    step: int,
    wanted: tuple[str, str],
    task: Task,
    seed: int,
) -> Donors:
    """Return donors with each wanted value at a step: other traces, or rewrites of the problem that are thought now.

    Raises:
        UsageError: None holds the first of the values.
    """
    problem, chosen = recipient.problem, []
    rng = np.random.default_rng(seed)
    missing = list(wanted)
    if not task.thoughts_hold_names:
        others = Donors(traces, gold_values(traces), np.full(len(traces), -1), "others")
        right = np.array([other.correct for other in traces])
        able = np.flatnonzero(others.eligible(-2, problem) & right)
        for value in wanted:
            holding = [k for k in able.tolist() if others.values[k][step - 1] == value]
            if holding:
                chosen.append(traces[int(rng.choice(holding))])
                missing.remove(value)
    rewritten = [donor for value in missing if (donor := _rewrite(task, problem, step, value, seed))]
    if rewritten:
        chosen += [trace for trace in reasoner.think(rewritten) if trace.correct]
    if not any(trace.problem.steps[step - 1].value == wanted[0] for trace in chosen):
        raise UsageError(
            f"expected a problem with {problem.n_steps} steps, {wanted[0]} after step {step} and a right answer as donor, "
            f"got none among {len(traces)} traces; choose another value, or take more problems."
        )
    donors = TraceSet(chosen)
    owner = 0 if task.thoughts_hold_names else -1  # rewrites with the same names serve only their own problem
    return Donors(donors, gold_values(donors), np.full(len(donors), owner), "rewrites" if rewritten else "others")


def _rewrite(task: Task, problem: Problem, step: int, value: str, seed: int) -> Problem | None:
    """Return a rewrite of a problem, with other operations, that has a value after a step; None where none is found."""
    return next((p for p in _rewrites(task, problem, seed) if p.steps[step - 1].value == value), None)


def _rewrites(task: Task, problem: Problem, seed: int) -> Iterator[Problem]:
    if "operations" not in task.rewritings:
        return
    rng = Random(seed)
    for _ in range(_TRIED):
        try:
            rewritten = task.rewrite(problem, rng, "operations")
        except UsageError:  # a line of a questions file without rewrites
            return
        if rewritten.n_steps == problem.n_steps and (
            task.thoughts_hold_names or rewritten.structure != problem.structure
        ):
            yield rewritten
