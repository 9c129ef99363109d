"""Where a trajectory probe fired, scored against where the truth is set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interp.statistics.donors import other_problem
from interp.statistics.estimates import Estimate
from probes.trajectories.pooling import Spans

FEWEST = 20  # held-out traces of either kind, or firings, below which there is no verdict


@dataclass(frozen=True)
class PlaceScore:
    """How often a place is right.

    Attributes:
        right: Share of places within the step at which the truth is set.
        uniform: The same for a position of the trace drawn at random.
        other_trace: The same for the place of another problem, at the same share of the trace's length.
        beyond_uniform: `right` minus `uniform`, trace by trace.
        beyond_other: `right` minus `other_trace`, trace by trace.
        offset: Median of the positions from the truth's first position to the place.
    """

    right: Estimate
    uniform: float
    other_trace: float
    beyond_uniform: Estimate
    beyond_other: Estimate
    offset: float

    @property
    def verdict(self) -> str:
        """The result in words."""
        if self.right.n < FEWEST:
            return f"no verdict over {self.right.n} traces; {FEWEST} are needed"
        if self.beyond_uniform.low > 0 and self.beyond_other.low > 0:
            return "it fires where the truth is set"
        if self.beyond_uniform.low > 0:
            return "it fires there more often than at random, but no more often than another problem's places tell"
        return "it is not shown to fire where the truth is set"


def score_places(
    fired: np.ndarray, traces: np.ndarray, truth: np.ndarray, spans: Spans, groups: np.ndarray, seed: int = 0
) -> PlaceScore:
    """Score places against the rows at which the truth is set.

    Args:
        fired: The row of each place, shape (places,).
        traces: The span of each place, shape (places,).
        truth: Whether the truth is set at each row, shape (rows,).
        spans: The rows of each trace.
        groups: Structure of each span's problem, shape (traces,).
        seed: Seed of the other problems.
    """
    marked = np.add.reduceat(truth.astype(int), spans.starts)
    kept = marked[traces] > 0
    fired, traces = fired[kept], traces[kept]
    if not len(fired):
        nothing = Estimate(float("nan"), float("nan"), float("nan"), 0)
        return PlaceScore(nothing, float("nan"), float("nan"), nothing, nothing, float("nan"))
    starts, lengths = spans.starts[traces], spans.lengths[traces]
    right, uniform = truth[fired].astype(float), marked[traces] / lengths
    share = (fired - starts + 0.5) / lengths
    same = np.zeros(len(fired), int)
    # One other problem is a noisy draw, so several are averaged.
    donors = [other_problem(same, groups[traces], same, seed + k) for k in range(8)]
    moved = [starts + np.floor(share[donor] * lengths).astype(int).clip(0, lengths - 1) for donor in donors]
    other = np.mean([truth[rows] for rows in moved], axis=0)
    firsts = np.array([b + truth[b : b + n].argmax() for b, n in zip(starts, lengths, strict=True)])
    of = groups[traces]
    return PlaceScore(
        Estimate.of_mean(right, of),
        float(uniform.mean()),
        float(other.mean()),
        Estimate.of_difference(right - uniform, of),
        Estimate.of_difference(right - other, of),
        float(np.median(fired - firsts)),
    )
