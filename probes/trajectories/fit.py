"""Fits of trajectory probes: every position of a trace inherits its label, and a trace counts once whatever its length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from interp.errors import UsageError
from interp.statistics.splits import Masks
from probes.estimators.base import Probe, temperature
from probes.estimators.linear import RidgeProbe
from probes.estimators.registry import estimator_class
from probes.trajectories.areas import area
from probes.trajectories.pooling import Pooled, Scores, Spans, pool

#: Ridge strengths among which validation chooses. Leave-one-out would leave out one position of a trace, not the trace.
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True)
class Choice:
    """A fitted probe, what it reads and how it is pooled, as validation chose them.

    Attributes:
        source: Name of the inputs: an address.
        probe: The fitted probe.
        pooling: The pooling.
        area: Validation AUROC.
        scores: Score of every position, shape (rows, events).
        tried: Best validation AUROC of each (source, pooling).
    """

    source: str
    probe: Probe
    pooling: str
    area: float
    scores: Scores
    tried: dict[tuple[str, str], float]


def variants(estimator: str) -> list[Probe]:
    """Return the unfitted probes among which validation chooses.

    Args:
        estimator: Name of an estimator.
    """
    if estimator == "ridge":
        return [RidgeProbe((strength,)) for strength in STRENGTHS]
    return estimator_class(estimator).variants()


def row_weights(spans: Spans) -> Float[np.ndarray, " rows"]:
    """Return weights with which every trace counts the same; their mean is 1.

    Args:
        spans: The rows of each trace.
    """
    return np.repeat(spans.lengths.mean() / spans.lengths, spans.lengths)


def event_scores(probe: Probe, inputs: np.ndarray, names: Sequence[str]) -> Scores:
    """Return the score of each row for each event.

    Args:
        probe: A fitted probe.
        inputs: Rows, shape (rows, d).
        names: The events, labels of the probe.

    Returns:
        Scores, shape (rows, events); an event that the probe never met in training has the lowest score of its row.
    """
    scores = np.asarray(probe.decision_function(inputs), float)
    if scores.ndim == 1:
        scores = np.stack([-scores, scores], axis=1)
    classes = [str(name) for name in probe.classes_]
    lowest = scores.min(axis=1)
    return np.stack([scores[:, classes.index(name)] if name in classes else lowest for name in names], axis=1)


def choose(
    inputs: Mapping[str, Callable[[], np.ndarray]],
    labels: np.ndarray,
    names: Sequence[str],
    spans: Spans,
    split: Masks,
    *,
    estimator: str,
    poolings: Sequence[str],
    window: int,
) -> Choice:
    """Fit on the positions of the training traces, and choose inputs, strength and pooling on validation.

    Args:
        inputs: Functions that return the inputs of all rows, shape (rows, d), by name.
        labels: Label of each trace, shape (traces,).
        names: The events.
        spans: The rows of each trace.
        split: Train, validation and test traces.
        estimator: Name of an estimator.
        poolings: Poolings to choose from, in order of preference where they do equally well.
        window: Positions of a rolling mean.

    Raises:
        UsageError: The training traces have a single label, or the validation traces lack an event.
    """
    of_row, positive = spans.of_row, labels[:, None] == np.array(names)[None, :]
    weights, train_rows = row_weights(spans), split.train[of_row]
    best: Choice | None = None
    tried: dict[tuple[str, str], float] = {}
    for name, make in inputs.items():
        rows = make()
        for variant in variants(estimator):
            fitted = variant.fit(
                rows[train_rows], labels[of_row][train_rows].astype(str), sample_weight=weights[train_rows]
            )
            scores = event_scores(fitted, rows, names)
            for pooling in poolings:
                pooled = pool(scores, spans, pooling, window)
                value = area(pooled[split.val].ravel(), positive[split.val].ravel())
                tried[name, pooling] = max(value, tried.get((name, pooling), -1.0))
                if value == value and (best is None or value > best.area):
                    best = Choice(name, fitted, pooling, value, scores, tried)
    if best is None:
        raise UsageError(
            f"expected traces with and without {' or '.join(names[:3])} among the {int(split.val.sum())} of validation, got "
            "one kind; take more problems, or another seed of the split."
        )
    return best


def calibrate(choice: Choice, inputs: np.ndarray, labels: np.ndarray, spans: Spans, val: np.ndarray) -> None:
    """Set the temperature of a probe by the positions of the validation traces, which it was not fitted to.

    Args:
        choice: The choice, whose probe is changed.
        inputs: The inputs of all rows that it reads, shape (rows, d).
        labels: Label of each trace, shape (traces,).
        spans: The rows of each trace.
        val: Mask of the validation traces, shape (traces,).
    """
    probe = choice.probe
    if not hasattr(probe, "temperature_"):
        return
    of_row = spans.of_row
    classes = [str(name) for name in probe.classes_]
    known = val[of_row] & np.isin(labels, classes)[of_row]
    scores = np.asarray(probe.decision_function(inputs[known]), float)
    scores = np.stack([np.zeros(len(scores)), scores], axis=1) if scores.ndim == 1 else scores
    codes = np.array([classes.index(label) for label in labels[of_row][known]])
    probe.temperature_ = temperature(scores, codes, row_weights(spans)[known])


def alarm_threshold(pooled: Pooled, positive: np.ndarray, false_alarms: float) -> tuple[float, float]:
    """Return the threshold of a false-alarm rate on validation, and the spread of the scores there.

    Args:
        pooled: Pooled scores of the validation traces, shape (traces, events).
        positive: Whether each trace has each event, same shape.
        false_alarms: Largest share of the traces without the event that may be above the threshold.

    Returns:
        The smallest threshold with which at most that share is above it, and the standard deviation (1 where it is 0).
    """
    quiet = np.sort(pooled[~positive])
    above = int(np.floor(false_alarms * len(quiet) + 1e-9))
    spread = float(pooled.std())
    return float(quiet[len(quiet) - 1 - above]), spread if spread > 0 else 1.0
