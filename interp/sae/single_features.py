"""How well one feature alone tells a concept: best F1 over thresholds, chosen on some rows and scored on others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Chosen:
    """The feature that speaks for each concept, its threshold and its F1 on the rows that it was chosen on."""

    feature: np.ndarray
    threshold: np.ndarray
    f1: Float[np.ndarray, " concepts"]


def best_f1(
    features: Float[np.ndarray, "rows features"], concepts: Bool[np.ndarray, "rows concepts"]
) -> tuple[Float[np.ndarray, "features concepts"], Float[np.ndarray, "features concepts"]]:
    """The highest F1 of each feature for each concept over all thresholds, and that threshold (fires if above it).

    Only rows where a feature is active can be said to have the concept, as a feature that is off says nothing.
    """
    n_features, n_concepts = features.shape[1], concepts.shape[1]
    found = np.zeros((n_features, n_concepts), np.float32)
    thresholds = np.zeros((n_features, n_concepts), np.float32)
    positives = concepts.sum(axis=0).astype(np.float32)
    said = concepts.astype(np.float32)
    for feature in range(n_features):
        column = features[:, feature]
        active = np.flatnonzero(column > 0)
        if not len(active):
            continue
        order = active[np.argsort(-column[active], kind="stable")]
        values = column[order]
        hits = np.cumsum(said[order], axis=0)
        score = 2 * hits / (np.arange(1, len(order) + 1, dtype=np.float32)[:, None] + positives)
        # A cut between equal values cannot be made.
        score[:-1][values[:-1] == values[1:]] = 0
        best = score.argmax(axis=0)
        found[feature] = score[best, np.arange(n_concepts)]
        below = np.append(values[1:], 0)[best]
        thresholds[feature] = (values[best] + below) / 2
    return found, thresholds


def choose(features: np.ndarray, concepts: np.ndarray) -> Chosen:
    """For each concept the one feature with the highest F1 on these rows."""
    score, thresholds = best_f1(features, concepts)
    best = score.argmax(axis=0)
    columns = np.arange(concepts.shape[1])
    return Chosen(best, thresholds[best, columns], score[best, columns])


def held_out_f1(chosen: Chosen, features: np.ndarray, concepts: np.ndarray) -> Float[np.ndarray, " concepts"]:
    """F1 of the chosen features at their thresholds on other rows; NaN for concepts that do not occur there."""
    return f1_scores(features[:, chosen.feature] > chosen.threshold, concepts)


def f1_scores(said: np.ndarray, concepts: np.ndarray) -> Float[np.ndarray, " concepts"]:
    """F1 of boolean predictions, column by column; NaN where no row has the concept."""
    hits = (said & concepts).sum(axis=0)
    total = said.sum(axis=0) + concepts.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.where(concepts.any(axis=0), 2 * hits / np.maximum(total, 1), np.nan)
