"""Metrics of a probe's probabilities, with bootstrap intervals that resample whole groups.

A gold label that is not among the probe's classes counts as one that got probability 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.errors import UsageError, checked_count, unknown
from interp.statistics.calibration import Bins, calibration_error, reliability_curve
from interp.statistics.intervals import drawn_groups, exact_interval, percentile_interval
from interp.statistics.metric_sums import (
    BINS,
    SUMS,
    Codes,
    Draws,
    Probabilities,
    areas,
    confidence_of,
    f1,
    marks,
)

METRICS: Mapping[str, str] = {
    "accuracy": "share of rows whose likeliest class is right",
    "balanced_accuracy": "mean recall over the classes that occur",
    "macro_f1": "mean F1 over the classes that occur",
    "auroc": "area under the ROC curve: of the second of two classes, or the mean of each against the rest",
    "auprc": "average precision: of the second of two classes, or the mean of each against the rest",
    "log_loss": "mean of -log of the gold label's probability, in nats, clipped at 2⁻⁵²",
    "brier": "Brier's score (1950) over all classes, 0 to 2; with two classes twice the one-class form",
    "ece": "expected calibration error (Guo et al., arXiv 1706.04599, equation 3) in 15 bins of equal mass",
}
_MOST_COUNTS = 4_000_000  # cells of a table of rows x draws that is held in memory
# Higher is better, and 1 is reached only where every row is in order.
_PROPORTIONS = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "auprc")


def scores(
    gold: np.ndarray, classes: np.ndarray, p: Probabilities, names: Sequence[str] = tuple(METRICS)
) -> dict[str, float]:
    """Compute metrics by name.

    Args:
        gold: Gold label of each row, shape (rows,).
        classes: Label of each column of `p`, shape (classes,).
        p: Predicted probabilities, shape (rows, classes).
        names: Names from `METRICS`, which explains each.

    Returns:
        Value of each metric. AUROC and AUPRC leave out classes that no row or every row has; they are NaN where none
        is left.

    Raises:
        UsageError: A name is unknown, or `p` does not hold one probability for each row and class.
    """
    codes, probabilities = _encode(gold, classes, p)
    return {name: _value(name, codes, probabilities) for name in names}


def ece(gold: np.ndarray, classes: np.ndarray, p: Probabilities, *, bins: int = BINS, by: Bins = "mass") -> float:
    """Return the expected calibration error of the likeliest class; see `calibration_error`.

    Args:
        gold: Gold label of each row, shape (rows,).
        classes: Label of each column of `p`, shape (classes,).
        p: Predicted probabilities, shape (rows, classes).
        bins: Number of bins.
        by: How bins are cut; see `confidence_bins`.

    Returns:
        The error, between 0 and 1.

    Raises:
        UsageError: `p` does not hold one probability for each row and class.
    """
    codes, probabilities = _encode(gold, classes, p)
    return calibration_error(confidence_of(probabilities), probabilities.argmax(axis=1) == codes, bins=bins, by=by)


def reliability(
    gold: np.ndarray, classes: np.ndarray, p: Probabilities, *, bins: int = BINS, by: Bins = "mass"
) -> pd.DataFrame:
    """Return the reliability curve of the likeliest class; see `reliability_curve`.

    Args:
        gold: Gold label of each row, shape (rows,).
        classes: Label of each column of `p`, shape (classes,).
        p: Predicted probabilities, shape (rows, classes).
        bins: Number of bins.
        by: How bins are cut; see `confidence_bins`.

    Returns:
        One row for each bin: low, high (its edges), confidence, accuracy and n.

    Raises:
        UsageError: `p` does not hold one probability for each row and class.
    """
    codes, probabilities = _encode(gold, classes, p)
    return reliability_curve(confidence_of(probabilities), probabilities.argmax(axis=1) == codes, bins=bins, by=by)


def bootstrap_interval(
    name: str,
    gold: np.ndarray,
    classes: np.ndarray,
    p: Probabilities,
    groups: np.ndarray,
    seeds: np.ndarray | None = None,
    *,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return a percentile bootstrap interval of a metric, resampling whole groups.

    With `seeds`, both factors are resampled, as in `grouped_mean_interval`. Resamples in which the metric is not
    defined do not count. Where a proportion is 0 or 1 the interval is the exact binomial one (Clopper–Pearson).

    Args:
        name: A name from `METRICS`.
        gold: Gold label of each row, shape (rows,).
        classes: Label of each column of `p`, shape (classes,).
        p: Predicted probabilities, shape (rows, classes).
        groups: Group of each row, shape (rows,).
        seeds: Seed of each row, where rows come from several seeds, shape (rows,).
        level: Coverage of the interval.
        draws: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        The lower and the upper end; NaN where no resample defines the metric.

    Raises:
        UsageError: As `scores`, and where `groups` or `seeds` has another length than `gold`.
    """
    codes, probabilities = _encode(gold, classes, p)
    for what, factor in (("groups", groups), ("seeds", seeds)):
        if factor is not None and len(factor) != len(codes):
            raise UsageError(f"expected {len(codes)} {what}, one for each row, got {len(factor)}.")
    of_group = np.unique(groups, return_inverse=True)[1]
    of_seed = np.zeros_like(of_group) if seeds is None else np.unique(seeds, return_inverse=True)[1]
    n_groups, n_seeds = int(of_group.max()) + 1, int(of_seed.max()) + 1
    value = _value(name, codes, probabilities)
    if name in _PROPORTIONS and value in (0.0, 1.0):
        return exact_interval(value, n_groups, level)
    rng, n_draws = np.random.default_rng(seed), checked_count("draws", draws)
    group_counts = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), n_draws).astype(float)
    seed_counts = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), n_draws).astype(float)
    if name in SUMS:
        row_terms, finish = SUMS[name]
        terms = row_terms(codes, probabilities)
        cells = np.zeros((n_groups, n_seeds, terms.shape[1]))
        np.add.at(cells, (of_group, of_seed), terms)
        values = finish(np.einsum("dtm,dt->dm", np.tensordot(group_counts, cells, axes=1), seed_counts))
    else:
        size = max(_MOST_COUNTS // len(codes), 1)
        values = np.concatenate(
            [
                areas(name, codes, probabilities, (by_group[:, of_group] * by_seed[:, of_seed]).T)
                for by_group, by_seed in _in_parts(size, group_counts, seed_counts)
            ]
        )
    return percentile_interval(values[~np.isnan(values)], level)


def macro_f1(gold: np.ndarray, predicted: np.ndarray) -> float:
    """Return the mean F1 over the labels in `gold`; a label that is never predicted counts 0.

    Args:
        gold: Gold label of each row, shape (rows,).
        predicted: Predicted label of each row, shape (rows,).
    """
    return float(f1(_label_terms(gold, predicted).sum(axis=0)[None, :])[0])


def f1_interval(
    gold: np.ndarray,
    predicted: np.ndarray,
    groups: np.ndarray,
    *,
    against: np.ndarray | None = None,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return a percentile bootstrap interval of macro-F1, resampling whole groups.

    Args:
        gold: Gold label of each row, shape (rows,).
        predicted: Predicted label of each row, shape (rows,).
        groups: Group of each row, shape (rows,).
        against: Other predictions; with these the interval is of the difference in macro-F1.
        level: Coverage of the interval.
        draws: Number of resamples.
        seed: Seed of the resampling.
    """
    of_group, counts = drawn_groups(groups, draws, seed)

    def resampled(labels: np.ndarray) -> Draws:
        terms = _label_terms(gold, labels)
        cells = np.zeros((counts.shape[1], terms.shape[1]))
        np.add.at(cells, of_group, terms)
        return f1(counts @ cells)

    values = resampled(predicted)
    return percentile_interval(values if against is None else values - resampled(against), level)


def _label_terms(gold: np.ndarray, predicted: np.ndarray) -> Float[np.ndarray, "rows three_times_classes"]:
    known = np.unique(gold)[None, :]
    return marks(np.asarray(gold)[:, None] == known, np.asarray(predicted)[:, None] == known)


def _in_parts(size: int, *arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    for start in range(0, len(arrays[0]), size):
        yield tuple(array[start : start + size] for array in arrays)


def _encode(gold: np.ndarray, classes: np.ndarray, p: Probabilities) -> tuple[Codes, Probabilities]:
    """Return the column of each gold label, and `p` with a column of zeros for each label that is no class."""
    gold, classes, probabilities = np.asarray(gold), np.asarray(classes), np.asarray(p, dtype=np.float64)
    if not len(gold) or probabilities.shape != (len(gold), len(classes)):
        raise UsageError(
            f"expected one probability for each row and class, {len(gold)} x {len(classes)} and at least one row, "
            f"got {' x '.join(map(str, probabilities.shape))}."
        )
    wrong = np.flatnonzero(~((probabilities >= 0).all(axis=1) & (np.abs(probabilities.sum(axis=1) - 1) < 1e-3)))
    if len(wrong):
        raise UsageError(
            f"expected probabilities that add up to 1, got others in row {wrong[0]} ({len(wrong)} such rows); "
            "pass what predict_proba returns."
        )
    order = np.argsort(classes, kind="stable")
    codes = order[np.searchsorted(classes, gold, sorter=order).clip(max=len(classes) - 1)]
    not_a_class = classes[codes] != gold
    if not_a_class.any():
        labels, numbers = np.unique(gold[not_a_class], return_inverse=True)
        codes = codes.copy()
        codes[not_a_class] = len(classes) + numbers
        probabilities = np.concatenate([probabilities, np.zeros((len(gold), len(labels)))], axis=1)
    return codes, probabilities


def _value(name: str, codes: Codes, p: Probabilities) -> float:
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    if name not in SUMS:
        return float(areas(name, codes, p, np.ones((len(codes), 1)))[0])
    row_terms, finish = SUMS[name]
    return float(finish(row_terms(codes, p).sum(axis=0)[None, :])[0])
