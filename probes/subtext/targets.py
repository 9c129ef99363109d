"""The labels that subtext is measured about: named by the user, or every fact of the task that varies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from interp.activations.targets import label_names, trace_labels
from interp.errors import UsageError
from interp.problems import task as make_task
from interp.traces import Trace


def labels_of(traces: Sequence[Trace], targets: Sequence[str] | None) -> dict[str, np.ndarray]:
    """Return the label of every trace for each target.

    Args:
        traces: The traces.
        targets: Names of targets; by default the task's facts about single entities, the user's own labels, step values
            and answer, where they vary.

    Raises:
        UsageError: No target varies.
    """
    labels = all_labels(traces, targets)
    return labels if targets is not None else {name: values for name, values in labels.items() if _varies(values)}


def all_labels(traces: Sequence[Trace], targets: Sequence[str] | None) -> dict[str, np.ndarray]:
    """Return the label of every trace for each target; by default also of the task's facts that never vary.

    Args:
        traces: The traces.
        targets: Names of targets.

    Raises:
        UsageError: No target is named, and none varies.
    """
    if targets is not None:
        return {name: trace_labels(traces, name) for name in targets}
    task = make_task(traces[0].problem.task)
    entities = sorted({entity for trace in traces for entity in task.entities(trace.problem)})
    facts = [f"{fact}:{entity}" for fact, about in task.facts.items() if about == 1 for entity in entities]
    steps = max(trace.problem.n_steps for trace in traces)
    # A label with another value in every trace, such as an id, has nothing to be predicted from.
    own = [name for name in label_names(traces) if 2 * len(_values(trace_labels(traces, name))) <= len(traces)]
    names = [*facts, *own, *(f"value_{k}" for k in range(1, min(steps, 9) + 1)), "answer"]
    labels = {name: trace_labels(traces, name) for name in names}
    if not any(map(_varies, labels.values())):
        raise UsageError("expected a fact that varies between these problems, got none; name one with --target.")
    return {name: values for name, values in labels.items() if any(label is not None for label in values)}


def _varies(labels: np.ndarray) -> bool:
    return len(_values(labels)) > 1


def _values(labels: np.ndarray) -> set[str]:
    return {label for label in labels if label is not None}
