"""How well one feature alone detects a concept: the best F1 over thresholds, chosen and scored on separate rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class BestFeatures:
    """The feature that detects each concept best on some rows.

    Attributes:
        feature: Number of the feature, shape (concepts,).
        threshold: The feature fires above this activation, shape (concepts,).
        f1: F1 on the rows that it was chosen on, shape (concepts,).
    """

    feature: np.ndarray
    threshold: np.ndarray
    f1: Float[np.ndarray, " concepts"]


def best_f1(
    features: Float[np.ndarray, "rows features"], concepts: Bool[np.ndarray, "rows concepts"]
) -> tuple[Float[np.ndarray, "features concepts"], Float[np.ndarray, "features concepts"]]:
    """Return the highest F1 of each feature for each concept over all thresholds, and that threshold.

    Args:
        features: Feature activations, shape (rows, features). A feature that is off predicts that the concept is
            absent.
        concepts: Which rows have which concept, shape (rows, concepts).

    Returns:
        F1 and thresholds, shape (features, concepts) each.
    """
    n_features, n_concepts = features.shape[1], concepts.shape[1]
    scores = np.zeros((n_features, n_concepts), np.float32)
    thresholds = np.zeros((n_features, n_concepts), np.float32)
    positives = concepts.sum(axis=0).astype(np.float32)
    truth = concepts.astype(np.float32)
    for feature in range(n_features):
        column = features[:, feature]
        active = np.flatnonzero(column > 0)
        if not len(active):
            continue
        order = active[np.argsort(-column[active], kind="stable")]
        values = column[order]
        hits = np.cumsum(truth[order], axis=0)
        f1 = 2 * hits / (np.arange(1, len(order) + 1, dtype=np.float32)[:, None] + positives)
        # No threshold lies between equal values.
        f1[:-1][values[:-1] == values[1:]] = 0
        best = f1.argmax(axis=0)
        scores[feature] = f1[best, np.arange(n_concepts)]
        below = np.append(values[1:], 0)[best]
        thresholds[feature] = (values[best] + below) / 2
    return scores, thresholds


def best_features(features: np.ndarray, concepts: np.ndarray) -> BestFeatures:
    """Return the feature with the highest F1 for each concept on these rows.

    Args:
        features: Feature activations, shape (rows, features).
        concepts: Whether each concept holds in each row, shape (rows, concepts).

    Returns:
        The best feature of each concept, its threshold and its F1.
    """
    scores, thresholds = best_f1(features, concepts)
    best = scores.argmax(axis=0)
    columns = np.arange(concepts.shape[1])
    return BestFeatures(best, thresholds[best, columns], scores[best, columns])


def held_out_f1(best: BestFeatures, features: np.ndarray, concepts: np.ndarray) -> Float[np.ndarray, " concepts"]:
    """Return the F1 of chosen features at their thresholds on other rows; NaN for concepts that no row has.

    Args:
        best: The chosen features, from `best_features` on other rows.
        features: Feature activations, shape (rows, features).
        concepts: Whether each concept holds in each row, shape (rows, concepts).

    Returns:
        F1 of each concept, shape (concepts,).
    """
    return f1_scores(features[:, best.feature] > best.threshold, concepts)


def f1_scores(predictions: np.ndarray, concepts: np.ndarray) -> Float[np.ndarray, " concepts"]:
    """Return the F1 of boolean predictions, column by column; NaN where no row has the concept.

    Args:
        predictions: Whether each concept is predicted in each row, shape (rows, concepts).
        concepts: Whether each concept holds in each row, shape (rows, concepts).

    Returns:
        F1 of each concept, shape (concepts,).
    """
    hits = (predictions & concepts).sum(axis=0)
    total = predictions.sum(axis=0) + concepts.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.where(concepts.any(axis=0), 2 * hits / np.maximum(total, 1), np.nan)
