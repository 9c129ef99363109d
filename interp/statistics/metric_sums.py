"""The metrics of `interp.statistics.metrics`, each from sums over rows or from the order of the rows.

Most metrics follow from sums of terms over rows, so a thousand resamples are one matrix product. AUROC and average
precision follow from the order of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool, Float, Int

from interp.statistics.calibration import confidence_bins

Codes = Int[np.ndarray, " rows"]
Probabilities = Float[np.ndarray, "rows classes"]
Draws = Float[np.ndarray, " draws"]

#: Bins of equal mass of the expected calibration error.
BINS = 15


def areas(name: str, codes: Codes, p: Probabilities, counts: Float[np.ndarray, "rows draws"]) -> Draws:
    """Return AUROC or average precision: the mean over the classes that define it.

    Args:
        name: `auroc` or `auprc`.
        codes: Column of each row's gold label.
        p: Probabilities.
        counts: How many times each row counts in each draw.
    """
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


def confidence_of(p: Probabilities) -> Float[np.ndarray, " rows"]:
    """Return the probability of each row's likeliest class."""
    return p.max(axis=1).clip(0.0, 1.0)


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


def marks(
    is_gold: Bool[np.ndarray, "rows classes"], is_predicted: Bool[np.ndarray, "rows classes"]
) -> Float[np.ndarray, "rows three_times_classes"]:
    """Return 1 or 0 for each row and class: gold and predicted, predicted, and gold."""
    return np.concatenate([is_predicted & is_gold, is_predicted, is_gold], axis=1).astype(float)


def _class_terms(codes: Codes, p: Probabilities) -> Float[np.ndarray, "rows three_times_classes"]:
    columns = np.arange(p.shape[1])
    return marks(codes[:, None] == columns, p.argmax(axis=1)[:, None] == columns)


def _mean_over_classes(part: np.ndarray, whole: np.ndarray, n_gold: np.ndarray) -> Draws:
    occurs = n_gold > 0
    shares = np.where(occurs, part / np.where(whole > 0, whole, 1.0), 0.0)
    with np.errstate(invalid="ignore"):
        return shares.sum(axis=1) / occurs.sum(axis=1)


def _balanced_accuracy(sums: Float[np.ndarray, "draws three_times_classes"]) -> Draws:
    n_right, _, n_gold = np.split(sums, 3, axis=1)
    return _mean_over_classes(n_right, n_gold, n_gold)


def f1(sums: Float[np.ndarray, "draws three_times_classes"]) -> Draws:
    """Return the mean F1 over the classes that occur, from sums of `marks`."""
    n_right, n_predicted, n_gold = np.split(sums, 3, axis=1)
    return _mean_over_classes(2 * n_right, n_predicted + n_gold, n_gold)


def _gap_terms(codes: Codes, p: Probabilities) -> Float[np.ndarray, "rows bins_and_one"]:
    """Put confidence minus accuracy in the column of the row's bin. Bins are cut once, on all rows."""
    confidence = confidence_of(p)
    bin_of, edges = confidence_bins(confidence, BINS, "mass")
    gap = confidence - (p.argmax(axis=1) == codes)
    in_bin = bin_of[:, None] == np.arange(len(edges) - 1)
    return np.concatenate([in_bin * gap[:, None], np.ones((len(p), 1))], axis=1)


def _mean_gap(sums: Float[np.ndarray, "draws bins_and_one"]) -> Draws:
    with np.errstate(invalid="ignore"):
        return np.abs(sums[:, :-1]).sum(axis=1) / sums[:, -1]


#: Name of each metric to the terms of a row, and to what turns their sums into the metric.
SUMS: Mapping[str, tuple[Callable[[Codes, Probabilities], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "accuracy": (_mean_terms(_is_right), _mean),
    "balanced_accuracy": (_class_terms, _balanced_accuracy),
    "macro_f1": (_class_terms, f1),
    "log_loss": (_mean_terms(_negative_log), _mean),
    "brier": (_mean_terms(_squared_error), _mean),
    "ece": (_gap_terms, _mean_gap),
}
