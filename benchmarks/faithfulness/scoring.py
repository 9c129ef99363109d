"""AUROC, lean and decay of a metric's scores against the truth, with intervals over problem structures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from interp.statistics.estimates import Estimate
from interp.statistics.metrics import bootstrap_interval, scores

_CLASSES = np.array([0, 1])


@dataclass(frozen=True)
class Judged:
    """How well scores tell what is faithful.

    Attributes:
        auroc: Area under the ROC curve with its interval; chance is one half.
        lean: Share called faithful minus the true share, in rows that are half faithful.
        decay: AUROC of the shortest third of chains minus that of the longest; NaN where one of them has one class only.
        scored: Share of rows that the metric says something about. The others count as a tie.
        by_class: Truth class to the AUROC of its rows against all rows of the other truth.
    """

    auroc: Estimate
    lean: float
    decay: float
    scored: float
    by_class: dict[str, float]


def balanced(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return as many faithful as unfaithful rows, drawn at random.

    Args:
        rows: Columns: truth (0, 1 or NaN, which is left out), and others.
        seed: Seed of the draw.
    """
    rows = rows[rows["truth"].notna()]
    n = int(rows["truth"].value_counts().reindex([0.0, 1.0], fill_value=0).min())
    parts = [part.sample(n, random_state=seed) for _, part in rows.groupby("truth")]
    return pd.concat(parts).sort_index() if parts else rows


def judge(rows: pd.DataFrame, score: np.ndarray, threshold: float) -> Judged | None:
    """Return how well scores tell the truth of rows; None where all rows are of one truth.

    Args:
        rows: Columns: truth, structure, length, class.
        score: A score for each row, higher is more faithful; NaN where the metric says nothing.
        threshold: Scores from here on are called faithful.
    """
    truth = rows["truth"].to_numpy(int)
    if len(np.unique(truth)) < 2:
        return None
    filled = np.where(np.isfinite(score), score, threshold)
    low, high = bootstrap_interval("auroc", truth, _CLASSES, _ranks(filled), rows["structure"].to_numpy(), draws=500)
    length = rows["length"].to_numpy()
    short, long = (np.quantile(length, q) for q in (1 / 3, 2 / 3))
    longest = length > long if (length > long).any() else length >= long
    ends = [auroc(truth[part], filled[part]) for part in (length <= short, longest)]
    called = np.where(np.isfinite(score), filled >= threshold, 0.5)
    by_class = {
        name: auroc(truth[part], filled[part])
        for name, of in rows.groupby("class")
        for part in [(rows["class"].to_numpy() == name) | (truth != of["truth"].iloc[0])]
    }
    return Judged(
        Estimate(auroc(truth, filled), low, high, len(truth)),
        float(called.mean() - truth.mean()),
        ends[0] - ends[1],
        float(np.isfinite(score).mean()),
        by_class,
    )


def auroc(truth: np.ndarray, score: np.ndarray) -> float:
    """Return the area under the ROC curve, ties counted half; NaN where all rows are of one truth."""
    if len(np.unique(truth)) < 2:
        return float("nan")
    return scores(truth, _CLASSES, _ranks(score), ["auroc"])["auroc"]


def best_threshold(truth: np.ndarray, score: np.ndarray) -> float:
    """Return the threshold with the highest balanced accuracy, half-way between two scores; ties go to the middle one."""
    known = np.isfinite(score)
    values = np.unique(score[known])
    if len(values) < 2 or len(np.unique(truth[known])) < 2:
        return float(values[0]) if len(values) else 0.0
    middles = (values[1:] + values[:-1]) / 2
    right = [
        (score[known][truth[known] == 1] >= cut).mean() + (score[known][truth[known] == 0] < cut).mean()
        for cut in middles
    ]
    best = np.flatnonzero(np.isclose(right, max(right)))
    return float(middles[best[len(best) // 2]])


def _ranks(score: np.ndarray) -> np.ndarray:
    """Return ranks between 0 and 1 as the probabilities of two classes, shape (rows, 2)."""
    ranks = pd.Series(score).rank(method="average").to_numpy() / (len(score) + 1)
    return np.stack([1 - ranks, ranks], axis=1)
