"""How good a probe's probabilities are: metrics, calibration, and intervals that resample whole groups.

Every metric is computed from gold labels, the probe's classes and its probabilities, rows x classes. A gold label
that is not among the classes counts as one that was given no probability.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from interp.errors import UsageError, checked_count, unknown

Bins = Literal["mass", "width"]
Codes = Int[np.ndarray, " rows"]
Chances = Float[np.ndarray, "rows classes"]

METRICS: Mapping[str, str] = {
    "accuracy": "the share of rows whose likeliest class is right",
    "balanced_accuracy": "the mean, over the classes that occur, of the share of their rows that is read right",
    "macro_f1": "the mean of F1 over the classes that occur",
    "auroc": "area under the ROC curve: of the second of two classes, or the mean of each against the rest",
    "auprc": "average precision: of the second of two classes, or the mean of each against the rest",
    "log_loss": "the mean of -log of the gold label's probability, in nats, which is cut off at 2⁻⁵²",
    "brier": "Brier's score (1950) over all classes, 0 to 2; with two classes twice the one-class form",
    "ece": "expected calibration error (Guo et al., arXiv 1706.04599, equation 3) in 15 bins of equal mass",
}
_BINS = 15
_MOST_COUNTS = 4_000_000
# Higher is better, and the bound is reached only where every row is in order.
_SHARES = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "auprc")


def scores(
    gold: np.ndarray, classes: np.ndarray, p: Chances, names: Sequence[str] = tuple(METRICS)
) -> dict[str, float]:
    """The metrics of these names, all by default; what each is stands in `METRICS`.

    AUROC and AUPRC leave out classes that no row or every row has, and are NaN where none is left. Raises `UsageError`
    on an unknown name, and on what is not a probability for each row and class.
    """
    codes, chances = _coded(gold, classes, p)
    return {name: _value(name, codes, chances) for name in names}


def ece(gold: np.ndarray, classes: np.ndarray, p: Chances, *, bins: int = _BINS, by: Bins = "mass") -> float:
    """Expected calibration error of the likeliest class: how far confidence is from accuracy, averaged over rows."""
    curve = reliability(gold, classes, p, bins=bins, by=by)
    return float(np.average((curve["confidence"] - curve["accuracy"]).abs(), weights=curve["n"]))


def reliability(
    gold: np.ndarray, classes: np.ndarray, p: Chances, *, bins: int = _BINS, by: Bins = "mass"
) -> pd.DataFrame:
    """The reliability curve of the likeliest class: low, high, confidence, accuracy and n of each bin that has rows.

    Bins hold about as many rows each (`mass`; rows of one confidence stay together), or are equally wide between 0
    and 1 (`width`). A bin holds its upper edge.
    """
    codes, chances = _coded(gold, classes, p)
    place, edges, said = _bins(chances, checked_count("bins", bins), by)
    rows = pd.DataFrame({"confidence": said, "accuracy": chances.argmax(axis=1) == codes, "n": 1}).groupby(place)
    curve = rows.agg({"confidence": "mean", "accuracy": "mean", "n": "sum"})
    curve.insert(0, "low", edges[curve.index])
    curve.insert(1, "high", edges[curve.index + 1])
    return curve.reset_index(drop=True)


def bootstrap_interval(
    name: str,
    gold: np.ndarray,
    classes: np.ndarray,
    p: Chances,
    groups: np.ndarray,
    seeds: np.ndarray | None = None,
    *,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """A percentile bootstrap interval of a metric, resampling whole groups, and with `seeds` also whole seeds.

    With both, a row counts as often as its group was drawn times as its seed was (the bootstrap of crossed factors,
    Owen 2007). Draws without rows, or in which the metric is not defined, do not count; the interval is NaN where all
    are such. Where a share is 1 or 0 the bootstrap has no spread, so the exact binomial (Clopper–Pearson) bound over
    groups is used on that side instead of a point.
    """
    codes, chances = _coded(gold, classes, p)
    for what, given in (("groups", groups), ("seeds", seeds)):
        if given is not None and len(given) != len(codes):
            raise UsageError(f"{len(codes)} rows came with {len(given)} {what}; give one for each row.")
    of_group = np.unique(groups, return_inverse=True)[1]
    of_seed = np.zeros_like(of_group) if seeds is None else np.unique(seeds, return_inverse=True)[1]
    n_groups, n_seeds = int(of_group.max()) + 1, int(of_seed.max()) + 1
    tail = (1 - level) / 2
    found = _value(name, codes, chances)
    if name in _SHARES and found in (0.0, 1.0):
        far = tail ** (1 / n_groups)
        return (far, 1.0) if found == 1.0 else (0.0, 1 - far)
    rng, times = np.random.default_rng(seed), checked_count("draws", draws)
    group_counts = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), times).astype(float)
    seed_counts = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), times).astype(float)
    if name in _SUMS:
        sums, finish = _SUMS[name]
        parts = sums(codes, chances)
        cells = np.zeros((n_groups, n_seeds, parts.shape[1]))
        np.add.at(cells, (of_group, of_seed), parts)
        values = finish(np.einsum("dtm,dt->dm", np.tensordot(group_counts, cells, axes=1), seed_counts))
    else:
        some = max(_MOST_COUNTS // len(codes), 1)
        values = np.concatenate(
            [
                _areas(name, codes, chances, (of_groups[:, of_group] * of_seeds[:, of_seed]).T)
                for of_groups, of_seeds in _in_parts(some, group_counts, seed_counts)
            ]
        )
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _in_parts(size: int, *arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    for start in range(0, len(arrays[0]), size):
        yield tuple(each[start : start + size] for each in arrays)


def _coded(gold: np.ndarray, classes: np.ndarray, p: Chances) -> tuple[Codes, Chances]:
    """The column of each gold label, and probabilities with a column of zeros for each label that is no class."""
    gold, classes, chances = np.asarray(gold), np.asarray(classes), np.asarray(p, dtype=np.float64)
    if not len(gold) or chances.shape != (len(gold), len(classes)):
        raise UsageError(
            f"metrics need one probability for each row and class, {len(gold)} x {len(classes)} and at least one row, "
            f"but {' x '.join(map(str, chances.shape))} came."
        )
    wrong = np.flatnonzero(~((chances >= 0).all(axis=1) & (np.abs(chances.sum(axis=1) - 1) < 1e-3)))
    if len(wrong):
        raise UsageError(
            f"row {wrong[0]} holds no probabilities that add up to 1 ({len(wrong)} such rows). Give predict_proba's."
        )
    order = np.argsort(classes, kind="stable")
    codes = order[np.searchsorted(classes, gold, sorter=order).clip(max=len(classes) - 1)]
    strange = classes[codes] != gold
    if strange.any():
        labels, numbers = np.unique(gold[strange], return_inverse=True)
        codes = codes.copy()
        codes[strange] = len(classes) + numbers
        chances = np.concatenate([chances, np.zeros((len(gold), len(labels)))], axis=1)
    return codes, chances


def _value(name: str, codes: Codes, p: Chances) -> float:
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    if name not in _SUMS:
        return float(_areas(name, codes, p, np.ones((len(codes), 1)))[0])
    sums, finish = _SUMS[name]
    return float(finish(sums(codes, p).sum(axis=0)[None, :])[0])


def _areas(name: str, codes: Codes, p: Chances, counts: Float[np.ndarray, "rows draws"]) -> Float[np.ndarray, " draws"]:
    """AUROC or average precision where each row counts so often; the mean over the classes for which it is defined."""
    found = []
    for k in [1] if p.shape[1] == 2 else range(p.shape[1]):
        order = np.argsort(-p[:, k], kind="stable")
        # Rows of one score are passed together, or their order would matter.
        steps = np.flatnonzero(np.diff(p[order, k], prepend=np.inf))
        is_class = (codes[order] == k)[:, None]
        taken = counts[order]
        true = np.add.reduceat(taken * is_class, steps, axis=0)
        false = np.add.reduceat(taken * ~is_class, steps, axis=0)
        all_true, all_false = true.sum(axis=0), false.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            if name == "auroc":
                area = (true * (all_false - false.cumsum(axis=0) + false / 2)).sum(axis=0) / (all_true * all_false)
            else:
                reached = true.cumsum(axis=0)
                precision = np.nan_to_num(reached / (reached + false.cumsum(axis=0)))
                area = (true * precision).sum(axis=0) / all_true
        found.append(np.where((all_true > 0) & (all_false > 0), area, np.nan))
    defined = ~np.isnan(found)
    with np.errstate(invalid="ignore"):
        return np.where(defined, found, 0.0).sum(axis=0) / defined.sum(axis=0)


def _rows_of_a_mean(each: Callable[[Codes, Chances], np.ndarray]) -> Callable[[Codes, Chances], np.ndarray]:
    return lambda codes, p: np.stack([each(codes, p), np.ones(len(codes))], axis=1)


def _mean(sums: Float[np.ndarray, "draws 2"]) -> Float[np.ndarray, " draws"]:
    with np.errstate(invalid="ignore"):
        return sums[:, 0] / sums[:, 1]


def _right(codes: Codes, p: Chances) -> np.ndarray:
    return (p.argmax(axis=1) == codes).astype(float)


def _surprise(codes: Codes, p: Chances) -> np.ndarray:
    given = p[np.arange(len(codes)), codes] / p.sum(axis=1)
    return -np.log(given.clip(np.finfo(np.float64).eps, 1.0))


def _squared(codes: Codes, p: Chances) -> np.ndarray:
    return (p**2).sum(axis=1) - 2 * p[np.arange(len(codes)), codes] + 1


def _by_class(codes: Codes, p: Chances) -> Float[np.ndarray, "rows three_times_classes"]:
    """For each row and class: is it gold and said, is it said, is it gold?"""
    every = np.arange(p.shape[1])
    said, true = p.argmax(axis=1)[:, None] == every, codes[:, None] == every
    return np.concatenate([said & true, said, true], axis=1).astype(float)


def _mean_over_classes(part: np.ndarray, whole: np.ndarray, true: np.ndarray) -> Float[np.ndarray, " draws"]:
    present = true > 0
    shares = np.where(present, part / np.where(whole > 0, whole, 1.0), 0.0)
    with np.errstate(invalid="ignore"):
        return shares.sum(axis=1) / present.sum(axis=1)


def _balanced(sums: Float[np.ndarray, "draws three_times_classes"]) -> Float[np.ndarray, " draws"]:
    right, _, true = np.split(sums, 3, axis=1)
    return _mean_over_classes(right, true, true)


def _f1(sums: Float[np.ndarray, "draws three_times_classes"]) -> Float[np.ndarray, " draws"]:
    right, said, true = np.split(sums, 3, axis=1)
    return _mean_over_classes(2 * right, said + true, true)


def _gaps(codes: Codes, p: Chances) -> Float[np.ndarray, "rows bins_and_one"]:
    """By how much confidence is above accuracy, in the column of the row's bin; bins are cut once, on all rows."""
    place, edges, said = _bins(p, _BINS, "mass")
    gap = said - (p.argmax(axis=1) == codes)
    return np.concatenate([(place[:, None] == np.arange(len(edges) - 1)) * gap[:, None], np.ones((len(p), 1))], axis=1)


def _mean_gap(sums: Float[np.ndarray, "draws bins_and_one"]) -> Float[np.ndarray, " draws"]:
    with np.errstate(invalid="ignore"):
        return np.abs(sums[:, :-1]).sum(axis=1) / sums[:, -1]


def _bins(
    p: Chances, bins: int, by: Bins
) -> tuple[Int[np.ndarray, " rows"], Float[np.ndarray, " edges"], Float[np.ndarray, " rows"]]:
    """The bin of each row, the edges of the bins, and the confidence of each row."""
    said = p.max(axis=1).clip(0.0, 1.0)
    if by == "width":
        edges = np.linspace(0.0, 1.0, bins + 1)
    elif by == "mass":
        # Upper edges are confidences that occur, so that equal ones fall on the same side.
        edges = np.unique(np.concatenate([[0.0], np.quantile(said, np.arange(1, bins + 1) / bins, method="higher")]))
    else:
        raise unknown("way to cut bins", by, ("mass", "width"))
    return np.searchsorted(edges, said, side="left") - 1, edges, said


# Metrics that follow from sums over rows, so that a thousand resamples are one matrix product: what is added up for each
# row, and what the sums become.
_SUMS: Mapping[str, tuple[Callable[[Codes, Chances], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "accuracy": (_rows_of_a_mean(_right), _mean),
    "balanced_accuracy": (_by_class, _balanced),
    "macro_f1": (_by_class, _f1),
    "log_loss": (_rows_of_a_mean(_surprise), _mean),
    "brier": (_rows_of_a_mean(_squared), _mean),
    "ece": (_gaps, _mean_gap),
}
