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
    """Return a percentile bootstrap interval of a mean, resampling whole groups.

    With `seeds`, both factors are resampled: a row counts as often as its group is drawn times as its seed is.
    Where all rows are 0 or all are 1 the bootstrap has no spread, and the interval is the exact binomial one
    (Clopper–Pearson) over groups.

    Args:
        right: Score or truth value of each row, shape (rows,).
        groups: Group of each row, such as the structure of its problem, shape (rows,).
        seeds: Seed of each row, where rows come from several seeds, shape (rows,).
        level: Coverage of the interval.
        draws: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        The lower and the upper end; NaN where there are no rows.

    References:
        Owen 2007, "The pigeonhole bootstrap", section 4, for crossed factors.
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
    mean = right.mean()
    if mean in (0.0, 1.0):
        return exact_interval(mean, n, level)
    # Groups with the same sums and counts are interchangeable, so they are drawn together.
    kinds, members = np.unique(np.concatenate([sums, counts], axis=1), axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    group_draws = rng.multinomial(n, members / n, size=draws)
    seed_draws = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=draws)
    totals = ((group_draws @ kinds[:, n_seeds:]) * seed_draws).sum(axis=1)
    means = ((group_draws @ kinds[:, :n_seeds]) * seed_draws).sum(axis=1)[totals > 0] / totals[totals > 0]
    return percentile_interval(means, level)


def exact_interval(value: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact binomial (Clopper–Pearson) interval of a proportion that is 0 or 1 of `n`."""
    bound = ((1 - level) / 2) ** (1 / n)
    return (bound, 1.0) if value == 1.0 else (0.0, 1 - bound)


def percentile_interval(values: Float[np.ndarray, " draws"], level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of resampled values; NaN where there are none."""
    if not len(values):
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def drawn_groups(
    groups: np.ndarray, draws: int, seed: int
) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, "draws groups"]]:
    """Draw the resamples of a bootstrap over whole groups.

    Args:
        groups: Group of each row, shape (rows,).
        draws: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        The number of each row's group, and how often each resample draws each group.
    """
    of_group = np.unique(groups, return_inverse=True)[1]
    n = int(of_group.max()) + 1
    return of_group, np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)


def matches_p_value(predicted: np.ndarray, gold: np.ndarray) -> float:
    """Return the one-sided p-value of the number of matches, if the gold labels were permuted at random.

    The permutation distribution is approximated by a binomial with its exact mean and variance. This needs no draws,
    gives p-values below one over their number, and keeps the skew that a normal approximation loses.

    Args:
        predicted: Predicted label of each row, shape (rows,).
        gold: Gold label of each row, shape (rows,).

    References:
        Hoeffding 1951, "A combinatorial central limit theorem", for mean and variance.
    """
    n = len(gold)
    if n < 2:
        return 1.0
    classes, codes = np.unique(np.concatenate([predicted, gold]), return_inverse=True)
    n_predicted = np.bincount(codes[:n], minlength=len(classes)).astype(float)
    n_gold = np.bincount(codes[n:], minlength=len(classes)).astype(float)
    mean = float(n_predicted @ n_gold) / n
    # d[i, j] = 1 where prediction i equals gold j, centred on rows and columns, squared and summed by classes.
    grand = mean / n
    cells = np.outer(n_predicted, n_gold)
    centred = np.eye(len(classes)) - (n_gold / n)[:, None] - (n_predicted / n)[None, :] + grand
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
    # Clamp p-values that underflow.
    return max(float(tail), 1e-300)


def q_values(p: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    """Return Benjamini–Hochberg q-values (1995). NaN stays NaN and does not count as a test.

    Args:
        p: p-value of each test, shape (tests,).

    Returns:
        q-values, shape (tests,): the smallest false discovery rate at which each test is significant.
    """
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
    """Return the index of the first proportion within one standard error of the highest.

    The one-standard-error rule: validation noise does not override a preference. The error is that of the highest
    proportion, with one success and one failure added.

    Args:
        scores: Proportions, in order of preference.
        counts: Number of rows behind each.

    References:
        Breiman et al. 1984, "Classification and Regression Trees", section 3.4.3.
    """
    top = int(np.argmax(scores))
    smoothed = (scores[top] * counts[top] + 1) / (counts[top] + 2)
    error = np.sqrt(smoothed * (1 - smoothed) / counts[top])
    return next(k for k, score in enumerate(scores) if score >= scores[top] - error)
