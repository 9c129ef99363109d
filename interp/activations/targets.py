"""Targets: labels for the rows of a store, taken from the problem and the trace, never from a decoder."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from interp.errors import UsageError, unknown
from interp.problems import task as make_task
from interp.traces import Trace

if TYPE_CHECKING:
    from interp.activations import ActivationSource

Labeller = Callable[[Trace, int], str | None]


@runtime_checkable
class Traced(Protocol):
    """What holds traces: a store, or a list of them."""

    @property
    def traces(self) -> Sequence[Trace]: ...


@dataclass(frozen=True)
class _Listed:
    traces: Sequence[Trace]


def _value_after(trace: Trace, step: int) -> str | None:
    steps = trace.problem.steps
    return steps[step - 1].value if 1 <= step <= len(steps) else None


TARGETS: dict[str, tuple[Labeller, str]] = {
    "step_value": (_value_after, "the value after the step that the position stands for"),
    "next_step": (
        lambda trace, step: _value_after(trace, step + 1),
        "the value after the step that comes next",
    ),
    "answer": (lambda trace, step: trace.problem.answer, "the problem's right answer"),
    "correct": (lambda trace, step: str(trace.correct), "whether the reasoner's answer is right"),
}
_VALUE = re.compile(r"^value_([1-9])$")


def _fact(store: Traced, rows: pd.DataFrame, target: str) -> np.ndarray:
    """Labels of a task's own facts, written `necessary:B`, or `depends:A,B` for facts about two entities."""
    name, _, about = target.partition(":")
    entities = tuple(about.split(",")) if about else ()
    spec = store.traces[0].problem.task
    task = make_task(spec)
    if name not in task.facts:
        offered = [f"{each}:{','.join(['ENTITY'] * n)}" for each, n in task.facts.items()]
        raise unknown("target", target, [*TARGETS, *(f"value_{k}" for k in range(1, 10)), *offered])
    if len(entities) != task.facts[name]:
        raise UsageError(
            f"target {name!r} of task {task.name} is about {task.facts[name]} entities, but {target!r} names "
            f"{len(entities)}; write {name}:{','.join(['ENTITY'] * task.facts[name])}."
        )
    problems = [trace.problem for trace in store.traces]
    known = [set(task.entities(problem)) for problem in problems]
    named = set(entities)
    pairs = zip(rows["trace"], rows["step"], strict=True)
    found = [task.fact(problems[t], name, entities, s) if named <= known[t] else None for t, s in pairs]
    if named and not any(named <= each for each in known):
        everything = sorted(set().union(*known))
        raise unknown(f"entity of task {task.name}", min(named - set(everything), default=about), everything)
    return np.array(found, dtype=object)


def labels(store: Traced, rows: pd.DataFrame, target: str) -> np.ndarray:
    """The label of each row, an array of str with None where the target is not defined.

    `value_k` is the value after step k, whatever the position; `necessary:B` is a fact of the store's task
    about its entity B, None in problems without it; the other names are in `TARGETS`.
    """
    numbered = _VALUE.match(target)
    if numbered:
        k = int(numbered.group(1))
        return np.array([_value_after(store.traces[t], k) for t in rows["trace"]], dtype=object)
    if target not in TARGETS:
        return _fact(store, rows, target)
    labeller = TARGETS[target][0]
    pairs = zip(rows["trace"], rows["step"], strict=True)
    return np.array([labeller(store.traces[t], s) for t, s in pairs], dtype=object)


def trace_labels(traces: Sequence[Trace], target: str) -> np.ndarray:
    """The label of each trace as a whole, as `labels` gives it at the end of the question."""
    rows = pd.DataFrame({"trace": range(len(traces)), "step": 0})
    return labels(_Listed(traces), rows, target)


def value_targets(store: ActivationSource) -> list[str]:
    """`value_1` to `value_n` for the longest problem of the store."""
    longest = max(trace.problem.n_steps for trace in store.traces)
    if not longest:
        raise UsageError("the problems of this store have no gold steps, so no step value can be a target.")
    return [f"value_{k}" for k in range(1, longest + 1)]


def structures(store: ActivationSource, rows: pd.DataFrame) -> np.ndarray:
    """The structure hash of each row's problem; splits and intervals group by it."""
    by_trace = np.array([trace.problem.structure for trace in store.traces])
    return by_trace[rows["trace"].to_numpy()]
