"""Targets: labels of rows, taken from the problem and the trace, never from a decoder."""

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
class HasTraces(Protocol):
    """Anything with traces, such as a store."""

    @property
    def traces(self) -> Sequence[Trace]:
        """The traces that rows belong to."""
        ...


@dataclass(frozen=True)
class _TraceList:
    """Traces without activations."""

    traces: Sequence[Trace]


def _value_after(trace: Trace, step: int) -> str | None:
    """Return the value after a gold step, from 1; None where there is no such step."""
    steps = trace.problem.steps
    return steps[step - 1].value if 1 <= step <= len(steps) else None


TARGETS: dict[str, tuple[Labeller, str]] = {
    "step_value": (_value_after, "the value after the step of the position"),
    "next_step": (
        lambda trace, step: _value_after(trace, step + 1),
        "the value after the step that comes next",
    ),
    "answer": (lambda trace, step: trace.problem.answer, "the problem's right answer"),
    "correct": (lambda trace, step: str(trace.correct), "whether the reasoner's answer is right"),
}
_VALUE = re.compile(r"^value_([1-9][0-9]*)$")
_LABEL = "label:"  # before a label whose name another target has


def _fact(store: HasTraces, rows: pd.DataFrame, target: str) -> np.ndarray:
    """Return the labels of a task's own fact, such as `necessary:B`, or `depends:A,B` for a fact about two entities."""
    name, _, about = target.partition(":")
    entities = tuple(about.split(",")) if about else ()
    spec = store.traces[0].problem.task
    task = make_task(spec)
    if name not in task.facts:
        tokens = dict.fromkeys(name for trace in store.traces for name in trace.token_labels)
        offered = [*tokens, *(f"{fact}:{','.join(['ENTITY'] * n)}" for fact, n in task.facts.items())]
        values = [f"value_{k}" for k in range(1, max(9, _longest(store)) + 1)]
        raise unknown("target", target, [*TARGETS, *values, *label_names(store.traces), *offered])
    if len(entities) != task.facts[name]:
        raise UsageError(
            f"expected {task.facts[name]} entities in target {name!r} of task {task.name}, got {len(entities)} in "
            f"{target!r}; write {name}:{','.join(['ENTITY'] * task.facts[name])}."
        )
    problems = [trace.problem for trace in store.traces]
    known = [set(task.entities(problem)) for problem in problems]
    named = set(entities)
    pairs = zip(rows["trace"], rows["step"], strict=True)
    facts = [task.fact(problems[t], name, entities, s) if named <= known[t] else None for t, s in pairs]
    if named and not any(named <= entities_of for entities_of in known):
        all_entities = sorted(set().union(*known))
        raise unknown(f"entity of task {task.name}", min(named - set(all_entities), default=about), all_entities)
    return np.array(facts, dtype=object)


def _longest(store: HasTraces) -> int:
    """Return the most gold steps of a problem."""
    return max((trace.problem.n_steps for trace in store.traces), default=0)


def _own_labels(store: HasTraces, rows: pd.DataFrame, target: str) -> np.ndarray | None:
    """Return the user's own labels, at each row's step or at step k of `NAME:k`; None where `target` names none."""
    by_trace = [trace.own_labels for trace in store.traces]
    name, at = target.removeprefix(_LABEL), None
    if name not in {known.removeprefix(_LABEL) for known in label_names(store.traces)}:
        return None
    if not any(name in own for own in by_trace):
        name, _, number = name.rpartition(":")
        at = int(number)
    values: list[str | None] = []
    for trace, step in zip(rows["trace"], rows["step"], strict=True):
        label = by_trace[trace].get(name)
        if label is not None and not isinstance(label, str):
            k = step if at is None else at
            label = label[k - 1] if 1 <= k <= len(label) else None
        values.append(label)
    return np.array(values, dtype=object)


def _token_labels(store: HasTraces, rows: pd.DataFrame, target: str) -> np.ndarray | None:
    """Return the user's own labels of each row's position; None where `target` names none."""
    name = target.removeprefix(_LABEL)
    if not any(name in trace.token_labels for trace in store.traces):
        return None
    if "position" not in rows:
        raise UsageError(
            f"expected a label of whole traces or of steps, got {name}, which labels positions; probe it in a store, at a "
            "place such as `every thought`."
        )
    by_trace = [trace.token_labels.get(name) for trace in store.traces]
    pairs = zip(rows["trace"], rows["position"], strict=True)
    return np.array([None if (own := by_trace[t]) is None else own[p] for t, p in pairs], dtype=object)


def label_names(traces: Sequence[Trace]) -> list[str]:
    """Return the targets that are the user's own labels of these traces.

    Args:
        traces: The traces.

    Returns:
        `NAME` for a label of whole traces and for the label of a position's step, and `NAME:k` for the label of step k
        at every position. Where another target has the name, it is `label:NAME`.
    """
    lengths: dict[str, int] = {}
    for trace in traces:
        for name, label in trace.own_labels.items():
            n_steps = 0 if label is None or isinstance(label, str) else len(label)
            lengths[name] = max(lengths.get(name, 0), n_steps)
    full = {name: f"{_LABEL}{name}" if name in TARGETS or _VALUE.match(name) else name for name in lengths}
    steps = {name: [f"{full[name]}:{k}" for k in range(1, length + 1)] for name, length in lengths.items()}
    return [target for name in lengths for target in (full[name], *steps[name])]


def labels(store: HasTraces, rows: pd.DataFrame, target: str) -> np.ndarray:
    """Return the label of each row.

    Args:
        store: Where the rows come from.
        rows: A part of its index; the columns `trace` and `step` are read, and `position` for labels of positions.
        target: A name in `TARGETS`, `value_k` for the value after step k at every position, a label of the user's own
            (see `label_names`; labels of positions have the names of `Trace.token_labels`), or a fact of the task such
            as `necessary:B` about its entity B.

    Returns:
        Labels, str or None where the target is not defined, shape (rows,).

    Raises:
        UsageError: On an unknown target or entity, or a label of positions where whole traces are asked about.
    """
    value_match = _VALUE.match(target)
    if value_match and int(value_match.group(1)) <= max(9, _longest(store)):
        k = int(value_match.group(1))
        return np.array([_value_after(store.traces[t], k) for t in rows["trace"]], dtype=object)
    if target not in TARGETS:
        own = _own_labels(store, rows, target)
        own = _token_labels(store, rows, target) if own is None else own
        return _fact(store, rows, target) if own is None else own
    labeller = TARGETS[target][0]
    pairs = zip(rows["trace"], rows["step"], strict=True)
    return np.array([labeller(store.traces[t], s) for t, s in pairs], dtype=object)


def trace_labels(traces: Sequence[Trace], target: str) -> np.ndarray:
    """Return the label of each trace, which is that of `labels` at the end of the question.

    Args:
        traces: The traces.
        target: Name of a target, such as `answer` or `value_2`.

    Returns:
        Labels, shape (traces,); None for a trace without one.

    Raises:
        UsageError: The target is unknown.
    """
    rows = pd.DataFrame({"trace": range(len(traces)), "step": 0})
    return labels(_TraceList(traces), rows, target)


def value_targets(store: ActivationSource) -> list[str]:
    """Return `value_1` to `value_n` for the longest problem of a store.

    Args:
        store: The store.

    Returns:
        Names of targets, in the order of the steps.

    Raises:
        UsageError: When no problem has gold steps.
    """
    longest = max(trace.problem.n_steps for trace in store.traces)
    if not longest:
        raise UsageError(
            "the problems of this store have no gold steps, so no step value can be a target; name others."
        )
    return [f"value_{k}" for k in range(1, longest + 1)]


def structures(store: ActivationSource, rows: pd.DataFrame) -> np.ndarray:
    """Return the structure hash of each row's problem, shape (rows,); splits and intervals group by it.

    Args:
        store: The store.
        rows: Part of its index, with the column `trace`.

    Returns:
        Structure hashes, shape (rows,).
    """
    by_trace = np.array([trace.problem.structure for trace in store.traces])
    return by_trace[rows["trace"].to_numpy()]
