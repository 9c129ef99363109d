"""What a trajectory probe is to find in a trace, and where the truth is set.

A target gives every trace one label, and each position of the trace inherits it. A target that differs within a trace,
such as the user's own labels of steps, needs the label that is looked for: a trace has it if one of its positions does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool

from interp.activations import ActivationSource
from interp.activations.targets import labels
from interp.errors import UsageError, unknown
from interp.problems import task as make_task
from interp.traces import Channel, Trace
from probes.trajectories.pooling import Spans

_STEP = re.compile(r"^(?:value_|.*:)([1-9][0-9]*)$")


@dataclass(frozen=True)
class Events:
    """The labels of traces and the events that are scored.

    Attributes:
        labels: Label of each trace, shape (traces,).
        names: The labels that are looked for; one score a position for each.
        truth: Whether the truth is set at each row of the index that was given, shape (rows,); all False where nobody
            knows.
        what: What `truth` marks, in words; empty where nobody knows.
    """

    labels: np.ndarray
    names: list[str]
    truth: Bool[np.ndarray, " rows"]
    what: str

    @property
    def positive(self) -> Bool[np.ndarray, "traces events"]:
        """Whether each trace has each event."""
        return self.labels[:, None] == np.array(self.names, dtype=object)[None, :]


def events_of(source: ActivationSource, rows: pd.DataFrame, target: str, says: str | None) -> tuple[Events, np.ndarray]:
    """Return the events of a target, and which rows belong to traces that have a label.

    Args:
        source: The activations.
        rows: Rows of its index, in its order.
        target: Name of a target, as `interp.activations.targets.labels` takes it.
        says: The label that is looked for. Default: `False` for `correct`, `True` where labels are truth values, else
            every label.

    Returns:
        The events of the kept traces, with `truth` for the kept rows, and the mask of kept rows.

    Raises:
        UsageError: The target or the label is unknown, or labels differ within a trace and no label is looked for.
    """
    row_labels = labels(source, rows, target)
    spans = Spans.of(rows["trace"].to_numpy())
    cells = [row_labels[b : b + n] for b, n in zip(spans.starts, spans.lengths, strict=True)]
    known = [{label for label in cell if label is not None} for cell in cells]
    classes = sorted(set().union(*known)) if known else []
    if says is None and set(classes) <= {"True", "False"}:
        says = "False" if target == "correct" else "True"
    if says is not None and says not in classes:
        raise unknown(f"label of {target}", says, classes)
    varies = any(len(names) > 1 for names in known)
    if varies and says is None:
        raise UsageError(
            f"expected one label of {target} in each trace, got several, such as "
            f"{', '.join(sorted(next(names for names in known if len(names) > 1)))}; name the one to look for (says=, --says)."
        )
    if varies:
        other = next((name for name in classes if name != says), "") if len(classes) == 2 else f"not {says}"
        of_trace = [None if not names else says if says in names else other for names in known]
    else:
        of_trace = [next(iter(names), None) for names in known]
    kept = np.array([label is not None for label in of_trace], bool)
    names = [says] if says is not None else classes
    truth, what = _truth(source, rows, spans, target, row_labels == says if varies else None)
    kept_rows = kept[spans.of_row]
    return Events(np.array(of_trace, dtype=object)[kept].astype(str), names, truth[kept_rows], what), kept_rows


def _truth(
    source: ActivationSource, rows: pd.DataFrame, spans: Spans, target: str, marked: np.ndarray | None
) -> tuple[np.ndarray, str]:
    """Return the rows at which the truth of a target is set, and what they are."""
    steps, positions = rows["step"].to_numpy(), rows["position"].to_numpy()
    out = np.zeros(len(rows), bool)
    if marked is not None:
        for b, n in zip(spans.starts, spans.lengths, strict=True):
            part = np.flatnonzero(marked[b : b + n])
            if len(part):  # the first step that has the label
                out[b : b + n] = marked[b : b + n] & (steps[b : b + n] == steps[b + part[0]])
        return _with_writer(rows, spans, out), "the first step with the label"
    match = _STEP.match(target)
    numbers = rows["trace"].to_numpy()[spans.starts]
    if match:
        step = int(match.group(1))
        for k, (b, n) in enumerate(zip(spans.starts, spans.lengths, strict=True)):
            trace = source.traces[int(numbers[k])]
            if 1 <= step <= trace.problem.n_steps:
                out[b : b + n] = positions[b : b + n] == trace.step_position(step)
        return _with_writer(rows, spans, out), f"where step {step} is complete"
    if target == "correct":
        for k, (b, n) in enumerate(zip(spans.starts, spans.lengths, strict=True)):
            error = first_wrong_step(source.traces[int(numbers[k])])
            if error is not None:
                out[b : b + n] = steps[b : b + n] == error
        if out.any():
            return _with_writer(rows, spans, out), "the first wrong step"
    return out, ""


def _with_writer(rows: pd.DataFrame, spans: Spans, truth: np.ndarray) -> np.ndarray:
    """Return `truth` with the kept position just before it.

    Its state writes the first token of a visible step, and its final state is the continuous thought that follows.
    """
    adjacent = np.r_[np.diff(rows["position"].to_numpy()) == 1, False]
    last = np.zeros(len(rows), bool)
    last[spans.starts + spans.lengths - 1] = True
    return truth | (np.r_[truth[1:], False] & adjacent & ~last)


def first_wrong_step(trace: Trace) -> int | None:
    """Return the first wrong step of a visible thought, from 1; None where no step is wrong or none is written.

    Args:
        trace: The trace.
    """
    if not trace.text or not any(channel == Channel.THOUGHT for channel in trace.channel):
        return None
    return make_task(trace.problem.task).verify(trace.problem, trace.text).first_error
