"""What the features of a dictionary detect of known concepts: sparse probing, feature splitting and absorption.

Sparse probing fits a logistic regression on the few features that differ most between rows with and without a concept.
Splitting counts the features that a concept needs until one more adds little. Absorption is the share of rows that have
a concept, and for which a dense probe finds it, while the concept's own features are silent because another feature has
absorbed its direction.

References:
    Gurnee et al., "Finding Neurons in a Haystack", arXiv 2305.01610 (sparse probing).
    Karvonen et al., "SAEBench", arXiv 2503.09532.
    Chanin et al., "A is for Absorption", arXiv 2409.14507.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32

from interp.sae.concepts import Concepts
from interp.sae.dictionaries import Dictionary, LinearDictionary, SAEDictionary
from interp.sae.single_features import best_features, f1_scores, held_out_f1

_MAX_FEATURES = 5  # features of a sparse probe
_SPLIT_GAIN = 0.03  # F1 that a further feature must add (SAEBench)
_ABSORBED_SHARE, _ABSORBED_COSINE = 0.4, 0.1
_FIT_ROWS = 20_000


def probe_concepts(
    dictionary: Dictionary,
    concepts: Concepts,
    acts: Float32[np.ndarray, "rows d"],
    train: Bool[np.ndarray, " rows"],
    test: Bool[np.ndarray, " rows"],
) -> pd.DataFrame:
    """Probe every concept in the features of a dictionary.

    Args:
        dictionary: The dictionary.
        concepts: Concepts of the rows.
        acts: Activations, shape (rows, d).
        train: Rows to choose features and fit probes on, shape (rows,).
        test: Rows to score on, shape (rows,).

    Returns:
        One row for each concept. Columns: concept, feature (the best single one), f1 (its held-out F1), f1_k5 (a probe
        on five features), f1_dense (a probe on the activations), split (features that the concept needs), absorption
        (fraction of the rows that have the concept and that the dense probe finds, in which its features are silent and
        another one carries its direction), n (held-out rows that have the concept).
    """
    fitted = np.flatnonzero(train)[:_FIT_ROWS]
    features, held_out = dictionary.encode(acts[fitted]), dictionary.encode(acts[test])
    train_concepts, test_concepts = concepts.holds[fitted], concepts.holds[test]
    best = best_features(features, train_concepts)
    single = held_out_f1(best, held_out, test_concepts)
    scale = acts[fitted].std(axis=0) + 1e-6
    atoms = _atoms(dictionary)
    records: list[dict[str, Any]] = []
    for c, name in enumerate(concepts.names):
        has, truth = train_concepts[:, c], test_concepts[:, c]
        order = _most_different(features, has)
        scores, used = [], 0
        for k in range(1, _MAX_FEATURES + 1):
            predictions = _logistic(features[:, order[:k]], has, held_out[:, order[:k]])[0]
            scores.append(float(f1_scores(predictions[:, None], truth[:, None])[0]))
            if used == k - 1 and (k == 1 or scores[-1] - scores[-2] > _SPLIT_GAIN):
                used = k
        dense, direction = _logistic(acts[fitted] / scale, has, acts[test] / scale)
        main = np.unique([*order[:used], best.feature[c]])
        absorbed = _absorbed(held_out[truth & dense], main, atoms, direction / scale)
        records.append(
            {
                "concept": name,
                "feature": int(best.feature[c]),
                "f1": float(single[c]),
                "f1_k5": scores[-1],
                "f1_dense": float(f1_scores(dense[:, None], truth[:, None])[0]),
                "split": used,
                "absorption": float(absorbed.mean()) if len(absorbed) else float("nan"),
                "n": int(truth.sum()),
            }
        )
    return pd.DataFrame(records)


def _most_different(features: np.ndarray, has: np.ndarray) -> np.ndarray:
    """Return the features whose mean rises most with a concept, in units of their spread."""
    spread = features.std(axis=0) + 1e-9
    rise = (features[has].mean(axis=0) - features[~has].mean(axis=0)) / spread
    return np.argsort(-rise, kind="stable")[:_MAX_FEATURES]


def _logistic(x: np.ndarray, has: np.ndarray, held_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit a logistic regression; return its predictions for held-out rows, and its direction."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    spread = x.std(axis=0) + 1e-9
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=1.0, max_iter=100).fit(x / spread, has)
    # F1 needs the threshold that is best on the fitted rows, not one half.
    scores = model.decision_function(x / spread)
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(has[order])
    best = int((2 * hits / (np.arange(1, len(order) + 1) + has.sum())).argmax())
    return model.decision_function(held_out / spread) >= scores[order[best]], model.coef_[0] / spread


def _absorbed(features: np.ndarray, main: np.ndarray, atoms: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Return for each row whether its main features are silent while one other carries a large share of the probe."""
    if not len(features):
        return np.empty(0, bool)
    along = atoms @ direction
    cosine = along / (np.linalg.norm(atoms, axis=1) * np.linalg.norm(direction) + 1e-12)
    carried = np.maximum(features * along, 0)
    carried[:, main] = 0
    top = carried.argmax(axis=1)
    share = carried[np.arange(len(features)), top] / np.maximum(carried.sum(axis=1), 1e-12)
    return (features[:, main] <= 0).all(axis=1) & (share >= _ABSORBED_SHARE) & (cosine[top] >= _ABSORBED_COSINE)


def _atoms(dictionary: Dictionary) -> np.ndarray:
    """Return what each feature adds to a reconstruction, shape (features, d)."""
    if isinstance(dictionary, SAEDictionary):
        return dictionary.sae.W_dec.detach().float().cpu().numpy()
    assert isinstance(dictionary, LinearDictionary)
    return dictionary.atoms
