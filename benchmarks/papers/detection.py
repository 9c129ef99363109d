"""Detecting a hidden property from activations: a probe, a threshold for few false positives, and its controls."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

STRENGTHS = (0.001, 0.03, 1.0)
FALSE_POSITIVES = 0.01


@dataclass(frozen=True)
class Parts:
    """Which rows a probe learns from, is chosen on (its site and strength), and is scored on."""

    train: Bool[np.ndarray, " rows"]
    val: Bool[np.ndarray, " rows"]
    test: Bool[np.ndarray, " rows"]


@dataclass(frozen=True)
class Detection:
    """What a probe found on the test rows: which it flags, the recall and false positives of that, and its AUROC."""

    site: str
    flagged: Bool[np.ndarray, " test"]
    recall: float
    false_positives: float
    auroc: float


def threshold(innocent: Float[np.ndarray, " rows"], share: float = FALSE_POSITIVES) -> float:
    """The lowest of the scores above which no more than `share` of the innocent ones lie."""
    ordered = np.sort(innocent)[::-1]
    return float(ordered[min(int(share * len(ordered)), len(ordered) - 1)])


def auroc(scores: Float[np.ndarray, " rows"], positive: Bool[np.ndarray, " rows"]) -> float:
    """The chance that a positive row scores higher than a negative one, ties counting half."""
    from scipy.stats import rankdata

    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    return float((rankdata(scores)[positive].sum() - n * (n + 1) / 2) / (n * m))


def detect(
    features: Mapping[str, Float[np.ndarray, "rows d"]],
    positive: Bool[np.ndarray, " rows"],
    parts: Parts,
    *,
    strengths: Sequence[float] = STRENGTHS,
) -> Detection:
    """The logistic probe of the site and strength that recalls most on validation at 1 % false positives.

    Ties go to the higher AUROC. On test it is the point of the test rows' own ROC curve with at most 1 % of the
    innocent ones flagged, for this probe and any control alike.
    """
    tried = []
    for site, rows in features.items():
        for strength in strengths:
            scores = _scores(rows, positive, parts.train, strength)
            limit = threshold(scores[parts.val & ~positive])
            recall = float((scores[parts.val & positive] > limit).mean())
            tried.append((recall, auroc(scores[parts.val], positive[parts.val]), site, scores))
    _, _, site, scores = max(tried, key=lambda each: each[:2])
    truth = positive[parts.test]
    flagged = scores[parts.test] > threshold(scores[parts.test & ~positive])
    return Detection(
        site,
        flagged,
        recall=float(flagged[truth].mean()),
        false_positives=float(flagged[~truth].mean()),
        auroc=auroc(scores[parts.test], truth),
    )


def _scores(rows: np.ndarray, positive: np.ndarray, train: np.ndarray, strength: float) -> np.ndarray:
    from sklearn.exceptions import ConvergenceWarning

    from probes.estimators.linear import LogisticProbe

    with warnings.catch_warnings():
        # Where the classes separate, the weights only grow; the ranking, which is all that counts here, is settled.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticProbe(C=strength, max_iter=30).fit(rows[train], positive[train]).decision_function(rows)


def bag_of_words(texts: Sequence[str]) -> Float[np.ndarray, "texts words"]:
    """How often each word is in each text."""
    words = {word: k for k, word in enumerate(sorted({word for text in texts for word in text.split()}))}
    counts = np.zeros((len(texts), max(len(words), 1)), np.float32)
    for k, text in enumerate(texts):
        for word in text.split():
            counts[k, words[word]] += 1
    return counts
