"""Intervals, p-values and q-values for scores that are means over grouped rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import betainc, gammainc


def grouped_mean_interval(
    right: Float[np.ndarray, " rows"] | Bool[np.ndarray, " rows"],
    groups: np.ndarray,
    *,
    seeds: np.ndarray | None = None,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """A percentile bootstrap interval of the mean of `right`, resampling whole groups, and with `seeds` also seeds.

    With both, a row counts as often as its group was drawn times as its seed was: the bootstrap of crossed factors,
    whose intervals are wide enough on either side (Owen 2007, "The pigeonhole bootstrap", section 4). Where every row agrees the bootstrap has no spread, so the exact binomial (Clopper–Pearson) bound over
    groups is used on that side instead of a point.
    """
    right = np.asarray(right, float)
    if not len(right):
        return float("nan"), float("nan")
    of_group = np.unique(groups, return_inverse=True)[1]
    of_seed = np.zeros_like(of_group) if seeds is None else np.unique(seeds, return_inverse=True)[1]
    n, n_seeds = int(of_group.max()) + 1, int(of_seed.max()) + 1
    cells = of_group * n_seeds + of_seed
    sums = np.bincount(cells, right, minlength=n * n_seeds).reshape(n, n_seeds)
    counts = np.bincount(cells, minlength=n * n_seeds).reshape(n, n_seeds).astype(float)
    tail = (1 - level) / 2
    mean = right.mean()
    if mean in (0.0, 1.0):
        far = (tail) ** (1 / n)
        return (far, 1.0) if mean == 1.0 else (0.0, 1 - far)
    # Groups with the same sums and counts are interchangeable, so whole kinds of groups are drawn at once.
    kinds, members = np.unique(np.concatenate([sums, counts], axis=1), axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n, members / n, size=draws)
    times = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=draws)
    totals = ((drawn @ kinds[:, n_seeds:]) * times).sum(axis=1)
    means = ((drawn @ kinds[:, :n_seeds]) * times).sum(axis=1)[totals > 0] / totals[totals > 0]
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def drawn_groups(
    groups: np.ndarray, draws: int, seed: int
) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, "draws groups"]]:
    """For a bootstrap over whole groups: the number of each row's group, and how often each group is drawn."""
    of_group = np.unique(groups, return_inverse=True)[1]
    n = int(of_group.max()) + 1
    return of_group, np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)


def matches_p_value(predicted: np.ndarray, gold: np.ndarray) -> float:
    """One-sided p-value of the number of matches if the gold labels were permuted at random.

    The permutation distribution of the count is taken as a binomial with its exact mean and variance (those
    of Hoeffding's permutation statistic, 1951). So no draws are needed, small values are not cut off at one
    over their number, and the tail keeps the skew that a normal would lose at a few matches in a class.
    """
    n = len(gold)
    if n < 2:
        return 1.0
    classes, codes = np.unique(np.concatenate([predicted, gold]), return_inverse=True)
    said = np.bincount(codes[:n], minlength=len(classes)).astype(float)
    true = np.bincount(codes[n:], minlength=len(classes)).astype(float)
    mean = float(said @ true) / n
    # d[i, j] = 1 where prediction i equals gold j, centred on rows and columns, squared and summed by classes.
    grand = mean / n
    cells = np.outer(said, true)
    centred = np.eye(len(classes)) - (true / n)[:, None] - (said / n)[None, :] + grand
    variance = float((cells * centred**2).sum()) / (n - 1)
    if variance <= 0:
        return 1.0
    matches = int((predicted == gold).sum())
    if matches == 0:
        return 1.0
    chance = 1.0 - variance / mean
    if chance > 1e-9:
        trials = mean / chance
        tail = betainc(matches, trials - matches + 1, chance) if matches < trials + 1 else 0.0
    else:  # as spread out as a Poisson count, or more
        tail = gammainc(matches, mean)
    # Far out the tail underflows; a p-value of exactly nothing would be a claim that no test can make.
    return max(float(tail), 1e-300)


def q_values(p: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    """Benjamini–Hochberg q-values (1995); NaN stays NaN and does not count."""
    p = np.asarray(p, float)
    out = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    if not len(tested):
        return out
    order = tested[np.argsort(p[tested])]
    ranked = p[order] * len(order) / np.arange(1, len(order) + 1)
    out[order] = np.minimum(1.0, np.minimum.accumulate(ranked[::-1])[::-1])
    return out


def first_within_error(scores: Sequence[float], counts: Sequence[int]) -> int:
    """The first of several proportions, in order of preference, within one standard error of the highest.

    The one-standard-error rule (Breiman et al. 1984, section 3.4.3): validation noise should not override a
    preference. The error is that of the highest, with one success and one failure added.
    """
    top = int(np.argmax(scores))
    smoothed = (scores[top] * counts[top] + 1) / (counts[top] + 2)
    error = np.sqrt(smoothed * (1 - smoothed) / counts[top])
    return next(k for k, score in enumerate(scores) if score >= scores[top] - error)
