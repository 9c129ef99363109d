"""Who gives and who takes: pairs of problems for a swap, by the values that their steps reach.

A donor of *another value* must change the answer as the task's oracle says; one of the *same value* must change
nothing. Donors come from other problems with as many steps, or, where a thought holds more than the value (on task
`variables` the names on the path as well), from rewrites of the same problem that share everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from interp.errors import UsageError, unknown
from interp.problems import task as make_task
from interp.problems.base import Problem, Rewritable, Task
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

Source = Literal["others", "rewrites", "auto"]
SOURCES = ("auto", "others", "rewrites")
N_REWRITES = 8


@dataclass(frozen=True)
class Donors:
    """Traces that give states, the value after each of their steps, and the problem that each was rewritten from.

    `owner` is -1 where a donor may give to any problem.
    """

    traces: TraceSet
    values: list[list[str]]
    owner: np.ndarray
    source: str


def donors_for(
    reasoner: Reasoner,
    traces: TraceSet,
    *,
    source: Source = "auto",
    seed: int = 0,
    values: Sequence[Sequence[str]] | None = None,
    batch_size: int = 256,
) -> Donors:
    """Donors for `traces`: the traces themselves (`others`), or rewrites of each problem (`rewrites`).

    `auto` takes rewrites on tasks whose thoughts hold names too (`variables`), and otherwise the traces. `values`
    are read by some decoder; by default they are the problems' own. Raises `UsageError` where a task cannot rewrite.
    """
    if source not in SOURCES:
        raise unknown("source of donors", source, SOURCES)
    task = make_task(traces[0].problem.task)
    if source == "auto":
        source = "rewrites" if task.name == "variables" else "others"
    if source == "others":
        gold = [[step.value for step in trace.problem.steps] for trace in traces]
        return Donors(traces, [list(each) for each in values] if values else gold, np.full(len(traces), -1), source)
    if not isinstance(task, Rewritable):
        raise UsageError(f"task {task.name} cannot rewrite its problems; take donors from other problems.")
    rng, made, owner = Random(seed), [], []
    for k, trace in enumerate(traces):
        for _ in range(N_REWRITES):
            made.append(task.rewritten(trace.problem, rng, "operations"))
            owner.append(k)
    thought = reasoner.think(made, batch_size=batch_size)
    return Donors(thought, [[s.value for s in p.steps] for p in made], np.array(owner), source)


def cyclic_donors(structures: Sequence[str], kinds: Sequence[object], seed: int = 0) -> np.ndarray:
    """For each trace a donor of the same kind and another structure, in a random cycle; -1 where there is none."""
    rng = np.random.default_rng(seed)
    found = np.full(len(structures), -1)
    for kind in sorted(set(kinds), key=str):
        here = rng.permutation([k for k, other in enumerate(kinds) if other == kind])
        found[here] = np.roll(here, 1)
    same = [k for k, donor in enumerate(found) if structures[donor] == structures[k]]
    found[same] = -1
    return found


def implied(task: Task, problem: Problem, step: int, value: str) -> str | None:
    """The answer that follows from `value` at `step`, or None where the task says that none does."""
    try:
        return task.counterfactual(problem, step, value)
    except UsageError:
        return None


def alternatives(task: Task, problem: Problem, step: int) -> list[str]:
    """Every answer but its own that some value at `step` would imply, without repetition."""
    found = {implied(task, problem, step, value) for value in task.values}
    return sorted(each for each in found if each is not None and each != problem.answer)


def pairs(
    traces: TraceSet,
    donors: Donors,
    values: Sequence[Sequence[str]],
    *,
    seed: int = 0,
    only_right: bool = True,
    steps: Sequence[int] | None = None,
) -> pd.DataFrame:
    """For each trace and step one donor of another value and one of the same, where there are such.

    `values` are those of `traces`. Donors have as many steps and, where they are other problems, another structure;
    one of another value has to imply another answer than the problem's own. With `only_right` neither side may have
    answered wrongly: what a wrong answer would follow is not known. Columns: trace, step, donor, kind, value,
    donor_value, predicted, structure, n_steps.
    """
    rng = np.random.default_rng(seed)
    task = make_task(traces[0].problem.task)
    usable = np.array([trace.correct or not only_right for trace in donors.traces])
    lengths = np.array([trace.problem.n_steps for trace in donors.traces])
    structures = np.array([trace.problem.structure for trace in donors.traces])
    out = []
    for k, trace in enumerate(traces):
        if only_right and not trace.correct:
            continue
        problem = trace.problem
        mine = (donors.owner == k) if (donors.owner >= 0).any() else structures != problem.structure
        candidates = rng.permutation(np.flatnonzero(usable & mine & (lengths == problem.n_steps)))
        for step in range(1, problem.n_steps + 1):
            if steps is not None and step not in steps:
                continue
            own, wanted = values[k][step - 1], {"other value", "same value"}
            for donor in candidates:
                theirs = donors.values[donor][step - 1]
                kind = "same value" if theirs == own else "other value"
                if kind not in wanted:
                    continue
                predicted = implied(task, problem, step, theirs)
                if kind == "other value" and predicted in (None, trace.answer):
                    continue
                wanted.remove(kind)
                out.append((k, step, int(donor), kind, own, theirs, predicted, problem.structure, problem.n_steps))
                if not wanted:
                    break
    columns = ["trace", "step", "donor", "kind", "value", "donor_value", "predicted", "structure", "n_steps"]
    return pd.DataFrame(out, columns=columns)
