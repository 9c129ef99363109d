"""Donors: which problem gives a state to which, and what answer must follow.

A donor of *another value* must change the answer as the task's oracle says. A donor of the *same value* must change
nothing. Donors are other problems with as many steps, or rewrites of the recipient. Rewrites are needed where a
thought holds more than the value: on task `variables` it also holds the names on the path, and rewrites keep them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from interp.errors import UsageError, unknown
from interp.problems import task as make_task
from interp.problems.base import Problem, Task
from interp.traces import Trace, TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

Source = Literal["others", "rewrites", "auto"]
SOURCES = ("auto", "others", "rewrites")
N_REWRITES = 8
PAIR_COLUMNS = ["trace", "step", "donor", "edit", "value", "donor_value", "predicted", "structure", "n_steps"]

# The value of each step of each problem; empty where none was read.
Values = Sequence[Sequence[str]]
# (trace, step) -> the position and the address at which the step was read.
ReadAt = Mapping[tuple[int, int], tuple[int, str]]


@dataclass(frozen=True)
class Donors:
    """Traces that may serve as donors.

    Attributes:
        traces: The donors' traces.
        values: The value after each step of each donor; empty where none was read.
        owner: For each donor the index of the only recipient that it serves, or -1 where it serves all.
        source: `others`, `rewrites`, `named` or `read-outs`.
    """

    traces: TraceSet
    values: Values
    owner: np.ndarray
    source: str

    def eligible(self, trace: int, problem: Problem) -> np.ndarray:
        """Return whether each donor may give to a trace: its own rewrites, or problems of another structure.

        Args:
            trace: Index of the recipient.
            problem: Problem of the recipient.

        Returns:
            Boolean mask over the donors, which also have as many steps as the recipient.
        """
        own = self.owner == trace
        if own.any():
            return own & (self._lengths == problem.n_steps)
        return (self.owner < 0) & (self._structures != problem.structure) & (self._lengths == problem.n_steps)

    @cached_property
    def _lengths(self) -> np.ndarray:
        # Kept, because every recipient asks.
        return np.array([donor.problem.n_steps for donor in self.traces])

    @cached_property
    def _structures(self) -> np.ndarray:
        return np.array([donor.problem.structure for donor in self.traces])


def gold_values(traces: TraceSet) -> list[list[str]]:
    """Return the correct value of each step of each trace's problem."""
    return [[step.value for step in trace.problem.steps] for trace in traces]


def donors_for(
    reasoner: Reasoner,
    traces: TraceSet,
    *,
    source: Source = "auto",
    seed: int = 0,
    values: Values | None = None,
    batch_size: int = 256,
) -> Donors:
    """Return donors for `traces`.

    Args:
        reasoner: Thinks about the rewrites.
        traces: The recipients.
        source: `others` takes the traces themselves, `rewrites` rewrites of each problem. `auto` takes the
            donors that the task names for a problem (field `donors` of a questions file), rewrites on task
            `variables`, whose thoughts hold names too, and otherwise the traces.
        seed: Seed of the rewrites.
        values: Values of the steps of `traces` as a decoder read them. Default: the gold ones.
        batch_size: Rewrites that are thought about at once.

    Returns:
        The donors. Rewrites always carry their gold values.

    Raises:
        UsageError: Unknown source, or a task that cannot rewrite its problems.
    """
    if source not in SOURCES:
        raise unknown("source of donors", source, SOURCES)
    task = make_task(traces[0].problem.task)
    if source == "auto":
        source = "rewrites" if task.thoughts_hold_names else "others"
        named = [task.donors(trace.problem) for trace in traces] if values is None else []
        if any(named):
            # A problem without donors of its own takes them from the other traces.
            own = reasoner.think([donor for donors in named for donor in donors], batch_size=batch_size)
            every = TraceSet([*traces, *own])
            owners = [*[-1] * len(traces), *(k for k, donors in enumerate(named) for _ in donors)]
            return Donors(every, gold_values(every), np.array(owners), "named")
    if source == "others":
        return Donors(traces, values or gold_values(traces), np.full(len(traces), -1), source)
    if not task.rewritings:
        raise UsageError(
            f"expected a task that can rewrite its problems, got {task.name}; take donors from other problems."
        )
    rng, rewrites, owner, reason = Random(seed), [], [], ""
    for k, trace in enumerate(traces):
        try:
            rewrites += [task.rewrite(trace.problem, rng, "operations") for _ in range(N_REWRITES)]
        except UsageError as error:  # a line of a questions file without rewrites
            reason = reason or str(error)
        else:
            owner += [k] * N_REWRITES
    if not rewrites:
        raise UsageError(reason)
    thought = reasoner.think(rewrites, batch_size=batch_size)
    return Donors(thought, gold_values(thought), np.array(owner), source)


def cyclic_donors(structures: Sequence[str], groups: Sequence[object], seed: int = 0) -> np.ndarray:
    """Return for each trace a donor of the same group and another structure, in a random cycle.

    Args:
        structures: Structure of each trace's problem.
        groups: What donor and recipient must share, such as the number of steps.
        seed: Seed of the order.

    Returns:
        Index of each trace's donor, shape (traces,); -1 where there is none.
    """
    rng = np.random.default_rng(seed)
    donors = np.full(len(structures), -1)
    for group in sorted(set(groups), key=str):
        members = rng.permutation([k for k, other in enumerate(groups) if other == group])
        donors[members] = np.roll(members, 1)
    donors[[k for k, donor in enumerate(donors) if structures[donor] == structures[k]]] = -1
    return donors


def implied_answer(task: Task, problem: Problem, step: int, value: str) -> str | None:
    """Return the answer that follows from `value` at `step`, or None where the task says that none does."""
    try:
        return task.counterfactual(problem, step, value)
    except UsageError:
        return None


def why_no_answer(traces: Sequence[Trace], values: Iterable[str] = ()) -> str:
    """Return why the task knows no answer for other values of the steps of these traces, in its own words.

    Args:
        traces: The recipients.
        values: Values of donors, which are asked about first.

    Returns:
        The task's message about the first value without an answer, which says what to add; empty where any other value
        has an answer.
    """
    reason = ""
    for trace in traces:
        task, problem = make_task(trace.problem.task), trace.problem
        for step, own in enumerate(problem.steps, 1):
            others = [v for v in dict.fromkeys([*values, *task.step_values(problem, step), *task.values]) if v]
            for value in others:
                if value == own.value:
                    continue
                try:
                    task.counterfactual(problem, step, value)
                except UsageError as error:
                    reason = reason or str(error)
                else:
                    return ""
    return reason


def alternatives(task: Task, problem: Problem, step: int) -> list[str]:
    """Return the answers, other than the problem's own, that values at `step` imply; sorted, each once."""
    answers = {implied_answer(task, problem, step, value) for value in task.step_values(problem, step)}
    return sorted(answer for answer in answers if answer is not None and answer != problem.answer)


def pairs(
    traces: TraceSet,
    donors: Donors,
    values: Values,
    *,
    seed: int = 0,
    only_right: bool = True,
    steps: Sequence[int] | None = None,
    read_at: ReadAt | None = None,
    fits: Callable[[int, int, int], bool] | None = None,
) -> pd.DataFrame:
    """Return for each trace and step one donor of another value, one of the same value, and a row without a donor.

    A donor of another value must imply an answer other than the one given. A donor whose reading is no value of the
    task implies no answer: it stays, is never followed, and so counts against the decoder that read it.

    Args:
        traces: The recipients.
        donors: The candidates.
        values: Value of each step of `traces`; steps with an empty one are left out.
        seed: Seed of the draw.
        only_right: Leave out recipients and donors that answered wrongly: what a wrong answer follows is unknown.
        steps: Use only these steps. Default: all.
        read_at: Where each step was read. With it, only steps in it take part, a donor must have been read at the
            recipient's address and position, and new donors are drawn for each step. Without it, one random order
            of donors serves all steps of a problem.
        fits: Returns whether a recipient's step can take the state of a donor; all can by default. Called with the
            indices of recipient and donor, and the step.

    Returns:
        One row for each edit, with the columns of `PAIR_COLUMNS`. `edit` is `other value`, `same value` or
        `random vector` (donor -1).
    """
    rng = np.random.default_rng(seed)
    task = make_task(traces[0].problem.task)
    # Questions whose file is gone still say which values there are.
    known = {*task.values, *(step.value for trace in (*traces, *donors.traces) for step in trace.problem.steps)}
    usable = np.array([trace.correct or not only_right for trace in donors.traces])
    if read_at is None:
        recipients = _by_problem(traces, donors, usable, only_right, rng)
    else:
        recipients = _by_place(traces, donors, usable, only_right, read_at)
    rows: list[tuple[Any, ...]] = []
    for k, step, candidates in recipients:
        trace, own = traces[k], values[k][step - 1]
        if not own or (steps is not None and step not in steps):
            continue
        problem = trace.problem
        about = (problem.structure, problem.n_steps)
        options: dict[str, list[int]] = {"other value": [], "same value": []}
        answers: dict[str, str | None] = {own: implied_answer(task, problem, step, own)}
        for donor in candidates:
            if fits is not None and not fits(k, donor, step):
                continue
            value = donors.values[donor][step - 1]
            if value not in answers:
                answers[value] = implied_answer(task, problem, step, value)
            if value == own:
                options["same value"].append(donor)
            elif value and (_is_another(task, trace, answers[value]) or value not in known):
                options["other value"].append(donor)
        aim = None  # the answer that the donor of another value implies
        for edit, edit_donors in options.items():
            if not edit_donors:
                continue
            donor = edit_donors[0] if read_at is None else int(rng.choice(edit_donors))
            value = donors.values[donor][step - 1]
            aim = answers[value] if edit == "other value" else aim
            rows.append((k, step, donor, edit, own, value, answers[value], *about))
        rows.append((k, step, -1, "random vector", own, None, aim, *about))
    return pd.DataFrame(rows, columns=PAIR_COLUMNS)


def _is_another(task: Task, trace: Trace, answer: str | None) -> bool:
    """Return whether an answer that a value implies is known, and another than a trace gives."""
    return answer is not None and not task.says(trace.problem, trace.answer, answer)


def _by_problem(
    traces: TraceSet, donors: Donors, usable: np.ndarray, only_right: bool, rng: np.random.Generator
) -> Iterator[tuple[int, int, list[int]]]:
    """Yield (trace, step, candidates); one random order of candidates serves all steps of a problem."""
    for k, trace in enumerate(traces):
        if only_right and not trace.correct:
            continue
        order = rng.permutation(np.flatnonzero(usable & donors.eligible(k, trace.problem))).tolist()
        for step in range(1, trace.problem.n_steps + 1):
            yield k, step, order


def _by_place(
    traces: TraceSet, donors: Donors, usable: np.ndarray, only_right: bool, read_at: ReadAt
) -> Iterator[tuple[int, int, list[int]]]:
    """Yield (trace, step, candidates) with candidates that were read at the same position and address."""
    places: dict[tuple[int, int, int, str], list[int]] = {}
    for (k, step), (position, address) in read_at.items():
        places.setdefault((step, position, traces[k].problem.n_steps, address), []).append(k)
    for (step, *_), members in sorted(places.items()):
        for k in members:
            if not only_right or traces[k].correct:
                eligible = usable & donors.eligible(k, traces[k].problem)
                yield k, step, [donor for donor in members if eligible[donor]]
