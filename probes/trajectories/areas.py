"""AUROC of scores of traces, within strata such as bands of length, with intervals over problem structures."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from interp.statistics.estimates import Estimate
from interp.statistics.intervals import drawn_groups, exact_interval, percentile_interval
from interp.statistics.metric_sums import areas

_DRAWS = 1000


def auroc(
    scores: Float[np.ndarray, " rows"],
    positive: Bool[np.ndarray, " rows"],
    groups: np.ndarray,
    *,
    strata: np.ndarray | None = None,
    seed: int = 0,
) -> Estimate:
    """Return the share of pairs of a positive and a negative row that scores put in order; ties count half.

    Args:
        scores: Score of each row, shape (rows,).
        positive: Whether each row is positive, shape (rows,).
        groups: Group of each row, resampled as a whole, shape (rows,).
        strata: Only rows of the same stratum are compared; all rows by default, shape (rows,).
        seed: Seed of the bootstrap.

    Returns:
        The estimate; n is the number of rows in strata that have both kinds. NaN and n = 0 where no stratum has both.
    """
    positive, strata = np.asarray(positive, bool), np.zeros(len(scores), int) if strata is None else strata
    if not len(scores):
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    of_group, times = drawn_groups(groups, _DRAWS, seed)
    counts = np.concatenate([np.ones((len(scores), 1)), times[:, of_group].T.astype(float)], axis=1)
    won, pairs, n = np.zeros(_DRAWS + 1), np.zeros(_DRAWS + 1), 0
    for stratum in np.unique(strata):
        members = strata == stratum
        if len(set(positive[members].tolist())) < 2:
            continue
        n += int(members.sum())
        weights, codes = counts[members], positive[members].astype(int)
        ranks = np.unique(scores[members], return_inverse=True)[1] / len(scores)
        area = areas("auroc", codes, np.stack([1 - ranks, ranks], axis=1), weights)
        of_stratum = (weights * codes[:, None]).sum(axis=0) * (weights * (1 - codes)[:, None]).sum(axis=0)
        won += np.where(of_stratum > 0, np.nan_to_num(area) * of_stratum, 0)
        pairs += of_stratum
    if not n:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    with np.errstate(invalid="ignore"):
        values = won / pairs
    value = float(values[0])
    if value in (0.0, 1.0):
        low, high = exact_interval(value, int(of_group.max()) + 1)
    else:
        low, high = percentile_interval(values[1:][~np.isnan(values[1:])])
    return Estimate(value, low, high, n)


def area(scores: Float[np.ndarray, " rows"], positive: Bool[np.ndarray, " rows"]) -> float:
    """Return the AUROC alone; NaN where all rows are of one kind.

    Args:
        scores: Score of each row, shape (rows,).
        positive: Whether each row is positive, shape (rows,).
    """
    if len(set(np.asarray(positive, bool).tolist())) < 2:
        return float("nan")
    ranks = np.unique(scores, return_inverse=True)[1] / len(scores)
    p = np.stack([1 - ranks, ranks], axis=1)
    return float(areas("auroc", np.asarray(positive, int), p, np.ones((len(scores), 1)))[0])


def bands(lengths: np.ndarray, most: int = 8) -> np.ndarray:
    """Return the band of each length: every length its own, or quantile bands where there are more than `most`.

    Args:
        lengths: Length of each row's trace, shape (rows,).
        most: Most bands.

    Returns:
        The number of the band, shape (rows,).
    """
    unique, codes = np.unique(lengths, return_inverse=True)
    if len(unique) <= most:
        return codes
    edges = np.quantile(lengths, np.linspace(0, 1, most + 1)[1:-1])
    return np.searchsorted(edges, lengths, side="left")
