"""Metrics of a probe's probabilities, with bootstrap intervals that resample whole groups.

A gold label that is not among the probe's classes counts as one that got probability 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from interp.errors import UsageError, checked_count, unknown
from interp.statistics.calibration import Bins, calibration_error, confidence_bins, reliability_curve
from interp.statistics.intervals import drawn_groups, exact_interval, percentile_interval

Codes = Int[np.ndarray, " rows"]
Probabilities = Float[np.ndarray, "rows classes"]
Draws = Float[np.ndarray, " draws"]

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
_BINS = 15
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


def ece(gold: np.ndarray, classes: np.ndarray, p: Probabilities, *, bins: int = _BINS, by: Bins = "mass") -> float:
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
    return calibration_error(_confidence(probabilities), probabilities.argmax(axis=1) == codes, bins=bins, by=by)


def reliability(
    gold: np.ndarray, classes: np.ndarray, p: Probabilities, *, bins: int = _BINS, by: Bins = "mass"
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
    return reliability_curve(_confidence(probabilities), probabilities.argmax(axis=1) == codes, bins=bins, by=by)


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
    if name in _SUMS:
        row_terms, finish = _SUMS[name]
        terms = row_terms(codes, probabilities)
        cells = np.zeros((n_groups, n_seeds, terms.shape[1]))
        np.add.at(cells, (of_group, of_seed), terms)
        values = finish(np.einsum("dtm,dt->dm", np.tensordot(group_counts, cells, axes=1), seed_counts))
    else:
        size = max(_MOST_COUNTS // len(codes), 1)
        values = np.concatenate(
            [
                _areas(name, codes, probabilities, (by_group[:, of_group] * by_seed[:, of_seed]).T)
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
    return float(_f1(_label_terms(gold, predicted).sum(axis=0)[None, :])[0])


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
        return _f1(counts @ cells)

    values = resampled(predicted)
    return percentile_interval(values if against is None else values - resampled(against), level)


def _label_terms(gold: np.ndarray, predicted: np.ndarray) -> Float[np.ndarray, "rows three_times_classes"]:
    known = np.unique(gold)[None, :]
    is_predicted, is_gold = np.asarray(predicted)[:, None] == known, np.asarray(gold)[:, None] == known
    return np.concatenate([is_predicted & is_gold, is_predicted, is_gold], axis=1).astype(float)


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
    if name not in _SUMS:
        return float(_areas(name, codes, p, np.ones((len(codes), 1)))[0])
    row_terms, finish = _SUMS[name]
    return float(finish(row_terms(codes, p).sum(axis=0)[None, :])[0])


def _areas(name: str, codes: Codes, p: Probabilities, counts: Float[np.ndarray, "rows draws"]) -> Draws:
    """Compute AUROC or average precision, with each row counted `counts` times; the mean over classes that define it."""
    areas = []
    for k in [1] if p.shape[1] == 2 else range(p.shape[1]):
        order = np.argsort(-p[:, k], kind="stable")
        # Rows with equal scores are one step, so that their order does not matter.
        steps = np.flatnonzero(np.diff(p[order, k], prepend=np.inf))
        is_class = (codes[order] == k)[:, None]
        ordered_counts = counts[order]
        true = np.add.reduceat(ordered_counts * is_class, steps, axis=0)
        false = np.add.reduceat(ordered_counts * ~is_class, steps, axis=0)
        all_true, all_false = true.sum(axis=0), false.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            if name == "auroc":
                area = (true * (all_false - false.cumsum(axis=0) + false / 2)).sum(axis=0) / (all_true * all_false)
            else:
                retrieved = true.cumsum(axis=0)
                precision = np.nan_to_num(retrieved / (retrieved + false.cumsum(axis=0)))
                area = (true * precision).sum(axis=0) / all_true
        areas.append(np.where((all_true > 0) & (all_false > 0), area, np.nan))
    defined = ~np.isnan(areas)
    with np.errstate(invalid="ignore"):
        return np.where(defined, areas, 0.0).sum(axis=0) / defined.sum(axis=0)


def _confidence(p: Probabilities) -> Float[np.ndarray, " rows"]:
    return p.max(axis=1).clip(0.0, 1.0)


# Most metrics follow from sums of terms over rows, so a thousand resamples are one matrix product.


def _mean_terms(of_row: Callable[[Codes, Probabilities], np.ndarray]) -> Callable[[Codes, Probabilities], np.ndarray]:
    return lambda codes, p: np.stack([of_row(codes, p), np.ones(len(codes))], axis=1)


def _mean(sums: Float[np.ndarray, "draws 2"]) -> Draws:
    with np.errstate(invalid="ignore"):
        return sums[:, 0] / sums[:, 1]


def _is_right(codes: Codes, p: Probabilities) -> np.ndarray:
    return (p.argmax(axis=1) == codes).astype(float)


def _negative_log(codes: Codes, p: Probabilities) -> np.ndarray:
    of_gold = p[np.arange(len(codes)), codes] / p.sum(axis=1)
    return -np.log(of_gold.clip(np.finfo(np.float64).eps, 1.0))


def _squared_error(codes: Codes, p: Probabilities) -> np.ndarray:
    return (p**2).sum(axis=1) - 2 * p[np.arange(len(codes)), codes] + 1


def _class_terms(codes: Codes, p: Probabilities) -> Float[np.ndarray, "rows three_times_classes"]:
    """Mark for each row and class whether it is gold and predicted, predicted, and gold."""
    columns = np.arange(p.shape[1])
    is_predicted, is_gold = p.argmax(axis=1)[:, None] == columns, codes[:, None] == columns
    return np.concatenate([is_predicted & is_gold, is_predicted, is_gold], axis=1).astype(float)


def _mean_over_classes(part: np.ndarray, whole: np.ndarray, n_gold: np.ndarray) -> Draws:
    occurs = n_gold > 0
    shares = np.where(occurs, part / np.where(whole > 0, whole, 1.0), 0.0)
    with np.errstate(invalid="ignore"):
        return shares.sum(axis=1) / occurs.sum(axis=1)


def _balanced_accuracy(sums: Float[np.ndarray, "draws three_times_classes"]) -> Draws:
    n_right, _, n_gold = np.split(sums, 3, axis=1)
    return _mean_over_classes(n_right, n_gold, n_gold)


def _f1(sums: Float[np.ndarray, "draws three_times_classes"]) -> Draws:
    n_right, n_predicted, n_gold = np.split(sums, 3, axis=1)
    return _mean_over_classes(2 * n_right, n_predicted + n_gold, n_gold)


def _gap_terms(codes: Codes, p: Probabilities) -> Float[np.ndarray, "rows bins_and_one"]:
    """Put confidence minus accuracy in the column of the row's bin. Bins are cut once, on all rows."""
    confidence = _confidence(p)
    bin_of, edges = confidence_bins(confidence, _BINS, "mass")
    gap = confidence - (p.argmax(axis=1) == codes)
    in_bin = bin_of[:, None] == np.arange(len(edges) - 1)
    return np.concatenate([in_bin * gap[:, None], np.ones((len(p), 1))], axis=1)


def _mean_gap(sums: Float[np.ndarray, "draws bins_and_one"]) -> Draws:
    with np.errstate(invalid="ignore"):
        return np.abs(sums[:, :-1]).sum(axis=1) / sums[:, -1]


# Name of each metric to the terms of a row, and to what turns their sums into the metric.
_SUMS: Mapping[str, tuple[Callable[[Codes, Probabilities], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "accuracy": (_mean_terms(_is_right), _mean),
    "balanced_accuracy": (_class_terms, _balanced_accuracy),
    "macro_f1": (_class_terms, _f1),
    "log_loss": (_mean_terms(_negative_log), _mean),
    "brier": (_mean_terms(_squared_error), _mean),
    "ece": (_gap_terms, _mean_gap),
}
