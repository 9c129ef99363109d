"""Macro-F1 with intervals that resample whole groups."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from interp.statistics.intervals import drawn_groups


def macro_f1(gold: np.ndarray, read: np.ndarray) -> float:
    """The mean over the labels in `gold` of each label's F1; a label that is never read counts 0."""
    return float(_f1(_confusions(gold, read, np.zeros(len(gold), int)))[0])


def f1_interval(
    gold: np.ndarray,
    read: np.ndarray,
    groups: np.ndarray,
    *,
    against: np.ndarray | None = None,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """A percentile bootstrap interval of macro-F1, or of its lead over the predictions `against`, over groups."""
    codes, counts = drawn_groups(groups, draws, seed)
    scores = _resampled(gold, read, codes, counts)
    if against is not None:
        scores = scores - _resampled(gold, against, codes, counts)
    tail = (1 - level) / 2
    low, high = np.quantile(scores, [tail, 1 - tail])
    return float(low), float(high)


def _resampled(
    gold: np.ndarray, read: np.ndarray, groups: np.ndarray, counts: Int[np.ndarray, "draws groups"]
) -> Float[np.ndarray, " draws"]:
    cells, size = _confusions(gold, read, groups)
    return _f1(((counts @ cells.reshape(len(cells), -1)).reshape(len(counts), *cells.shape[1:]), size))


def _confusions(gold: np.ndarray, read: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, int]:
    """Counts by group, gold label and label read; the labels of `gold` come first, and how many there are."""
    known = np.unique(gold)
    extra = np.setdiff1d(read, known)
    at = {label: k for k, label in enumerate([*known, *extra])}
    cells = np.zeros((int(groups.max()) + 1, len(at), len(at)))
    rows = np.array([at[label] for label in gold])
    columns = np.array([at[label] for label in read])
    np.add.at(cells, (groups, rows, columns), 1.0)
    return cells, len(known)


def _f1(found: tuple[np.ndarray, int]) -> Float[np.ndarray, " draws"]:
    cells, known = found
    right = np.einsum("gll->gl", cells)[:, :known]
    said, true = cells.sum(axis=1)[:, :known], cells.sum(axis=2)[:, :known]
    scores = 2 * right / np.maximum(said + true, 1e-12)
    present = true > 0  # a draw of groups may lack a label altogether
    return (scores * present).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
