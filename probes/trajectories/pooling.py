"""Scores at every position of a trace, and how they become one score of the trace."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from interp.errors import unknown

Scores = Float[np.ndarray, "rows events"]
Pooled = Float[np.ndarray, "traces events"]

POOLINGS: dict[str, str] = {
    "max": "the highest score",
    "rolling max": "the highest mean of some positions in a row",
    "mean": "the mean score",
    "last": "the score at the last position",
}


@dataclass(frozen=True)
class Spans:
    """Which rows belong to which trace; the rows of a trace stand together, in the order of positions.

    Attributes:
        starts: First row of each trace, shape (traces,).
        lengths: Number of rows of each trace, shape (traces,).
    """

    starts: Int[np.ndarray, " traces"]
    lengths: Int[np.ndarray, " traces"]

    @classmethod
    def of(cls, traces: np.ndarray) -> Spans:
        """Return the spans of rows by the trace of each.

        Args:
            traces: Number of the trace of each row, in order, shape (rows,).
        """
        starts = np.flatnonzero(np.r_[True, traces[1:] != traces[:-1]]) if len(traces) else np.zeros(0, int)
        return cls(starts, np.diff(np.r_[starts, len(traces)]))

    @property
    def of_row(self) -> Int[np.ndarray, " rows"]:
        """The number of each row's span."""
        return np.repeat(np.arange(len(self.starts)), self.lengths)

    @property
    def offsets(self) -> Int[np.ndarray, " rows"]:
        """The number of each row within its span, from 0."""
        return np.arange(int(self.lengths.sum())) - np.repeat(self.starts, self.lengths)


def running(scores: Scores, spans: Spans, pooling: str, window: int) -> Scores:
    """Return the score that each position adds to the pooled one, so that a trace can be stopped there.

    It is the score itself for `max`, the mean of the last `window` positions for `rolling max` (of all positions so far
    at the beginning), the mean of all positions so far for `mean`, and -inf before the last position for `last`.

    Args:
        scores: Score of each position, shape (rows, events).
        spans: The rows of each trace.
        pooling: A name in `POOLINGS`.
        window: Positions of a rolling mean.

    Returns:
        Scores, shape (rows, events).

    Raises:
        UsageError: The pooling is unknown.
    """
    if pooling not in POOLINGS:
        raise unknown("pooling", pooling, POOLINGS)
    if pooling == "max":
        return scores
    if pooling == "last":
        out = np.full(scores.shape, -np.inf)
        ends = spans.starts + spans.lengths - 1
        out[ends] = scores[ends]
        return out
    sums = np.concatenate([np.zeros((1, scores.shape[1])), np.cumsum(scores, axis=0, dtype=np.float64)])
    seen = spans.offsets + 1
    taken = np.minimum(seen, window) if pooling == "rolling max" else seen
    ends = np.arange(len(scores)) + 1
    return (sums[ends] - sums[ends - taken]) / taken[:, None]


def pool(scores: Scores, spans: Spans, pooling: str, window: int) -> Pooled:
    """Return one score of each trace.

    Args:
        scores: Score of each position, shape (rows, events).
        spans: The rows of each trace.
        pooling: A name in `POOLINGS`.
        window: Positions of the rolling mean of `rolling max`. A shorter trace has fewer in its means.

    Returns:
        Scores, shape (traces, events).

    Raises:
        UsageError: The pooling is unknown.
    """
    series = running(scores, spans, pooling, window)
    if pooling in ("mean", "last"):
        return series[spans.starts + spans.lengths - 1]
    if pooling == "rolling max":
        # The means over the first positions are of fewer than `window`; they count only where there is no full one.
        full = spans.offsets + 1 >= np.minimum(window, spans.lengths)[spans.of_row]
        series = np.where(full[:, None], series, -np.inf)
    return np.maximum.reduceat(series, spans.starts, axis=0)


def peaks(series: Scores, spans: Spans) -> Int[np.ndarray, "traces events"]:
    """Return the row of each trace's highest score; the first of equal ones.

    Args:
        series: Scores as `running` returns them, shape (rows, events).
        spans: The rows of each trace.
    """
    return np.stack([b + series[b : b + n].argmax(axis=0) for b, n in zip(spans.starts, spans.lengths, strict=True)])


def first_above(series: Scores, spans: Spans, threshold: float) -> Int[np.ndarray, "traces events"]:
    """Return the first row of each trace whose score is above a threshold, -1 where none is.

    Args:
        series: Scores as `running` returns them, shape (rows, events).
        spans: The rows of each trace.
        threshold: The threshold.
    """
    above = series > threshold
    rows = [
        np.where(above[b : b + n].any(axis=0), b + above[b : b + n].argmax(axis=0), -1)
        for b, n in zip(spans.starts, spans.lengths, strict=True)
    ]
    return np.stack(rows)
