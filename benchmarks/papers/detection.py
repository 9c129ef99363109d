"""Detect a hidden property from activations: a probe with a threshold for a low false-positive rate."""

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
    """The rows that a probe is fitted on, selected on (address and strength) and scored on."""

    train: Bool[np.ndarray, " rows"]
    val: Bool[np.ndarray, " rows"]
    test: Bool[np.ndarray, " rows"]


@dataclass(frozen=True)
class Detection:
    """What the selected probe detects on the test rows.

    Attributes:
        address: Key of the features that it reads.
        flagged: Which test rows lie above the threshold.
        recall: Fraction of positive rows that are flagged.
        false_positives: Fraction of negative rows that are flagged.
        auroc: AUROC on the test rows.
    """

    address: str
    flagged: Bool[np.ndarray, " test"]
    recall: float
    false_positives: float
    auroc: float


def threshold(negatives: Float[np.ndarray, " rows"], share: float = FALSE_POSITIVES) -> float:
    """Return the lowest score above which at most `share` of the negative scores lie."""
    ordered = np.sort(negatives)[::-1]
    return float(ordered[min(int(share * len(ordered)), len(ordered) - 1)])


def auroc(scores: Float[np.ndarray, " rows"], positive: Bool[np.ndarray, " rows"]) -> float:
    """Return the probability that a positive row scores higher than a negative one; ties count half."""
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
    """Fit logistic probes and select the one with the highest recall on validation rows at 1 % false positives.

    Ties go to the higher AUROC. The threshold on test rows comes from their own ROC curve: at most 1 % of the negative
    rows are flagged. Controls are treated in the same way.

    Args:
        features: Address -> features of all rows.
        positive: Which rows have the property.
        parts: Rows to fit on, to select on and to score on.
        strengths: Regularisation strengths C to choose from.

    Returns:
        The selected probe on the test rows.
    """
    candidates = []
    for address, rows in features.items():
        for strength in strengths:
            scores = _scores(rows, positive, parts.train, strength)
            limit = threshold(scores[parts.val & ~positive])
            recall = float((scores[parts.val & positive] > limit).mean())
            candidates.append((recall, auroc(scores[parts.val], positive[parts.val]), address, scores))
    _, _, address, scores = max(candidates, key=lambda candidate: candidate[:2])
    truth = positive[parts.test]
    flagged = scores[parts.test] > threshold(scores[parts.test & ~positive])
    return Detection(
        address,
        flagged,
        recall=float(flagged[truth].mean()),
        false_positives=float(flagged[~truth].mean()),
        auroc=auroc(scores[parts.test], truth),
    )


def _scores(rows: np.ndarray, positive: np.ndarray, train: np.ndarray, strength: float) -> np.ndarray:
    """Return the scores of all rows by a logistic probe fitted on some."""
    from sklearn.exceptions import ConvergenceWarning

    from probes.estimators.linear import LogisticProbe

    with warnings.catch_warnings():
        # On separable classes the weights keep growing, but the ranking, which is all that is used, no longer changes.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticProbe(C=strength, max_iter=30).fit(rows[train], positive[train]).decision_function(rows)


def bag_of_words(texts: Sequence[str]) -> Float[np.ndarray, "texts words"]:
    """Return how often each word occurs in each text."""
    words = {word: k for k, word in enumerate(sorted({word for text in texts for word in text.split()}))}
    counts = np.zeros((len(texts), max(len(words), 1)), np.float32)
    for k, text in enumerate(texts):
        for word in text.split():
            counts[k, words[word]] += 1
    return counts
