"""What the features of a dictionary say about known concepts: sparse probing, splitting, absorption.

Sparse probing: a logistic regression on the few features that differ most between rows with and without a concept
(Gurnee et al., arXiv 2305.01610; SAEBench, arXiv 2503.09532). Splitting: how many features it takes until one more
adds little. Absorption (Chanin et al., arXiv 2409.14507): a row has the concept, a dense probe says so, but the
concept's own features are silent, because another feature has taken its direction in.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32

from interp.sae.concepts import Concepts
from interp.sae.dictionaries import Dictionary, LinearDictionary, SAEDictionary
from interp.sae.single_features import choose, f1_scores, held_out_f1

_MOST = 5  # features of a sparse probe
_SPLIT_GAIN = 0.03  # F1 that a further feature has to add (SAEBench)
_ABSORBED_SHARE, _ABSORBED_COSINE = 0.4, 0.1
_FIT_ROWS = 20_000


def probe_concepts(
    dictionary: Dictionary,
    concepts: Concepts,
    acts: Float32[np.ndarray, "rows d"],
    train: Bool[np.ndarray, " rows"],
    test: Bool[np.ndarray, " rows"],
) -> pd.DataFrame:
    """One row for each concept: everything is chosen and fitted on `train` rows and scored on `test` rows.

    Columns: concept, feature (the best single one), f1 (its held-out F1), f1_k5 (a probe on five features), f1_dense (a
    probe on the activations), split (features that the concept takes), absorption (share of the rows that have it and
    that the dense probe finds, in which its features are silent and another one holds its direction).
    """
    fitted = np.flatnonzero(train)[:_FIT_ROWS]
    features, held_out = dictionary.encode(acts[fitted]), dictionary.encode(acts[test])
    learn, check = concepts.holds[fitted], concepts.holds[test]
    chosen = choose(features, learn)
    single = held_out_f1(chosen, held_out, check)
    scale = acts[fitted].std(axis=0) + 1e-6
    atoms = _atoms(dictionary)
    out: list[dict[str, Any]] = []
    for c, name in enumerate(concepts.names):
        has, truth = learn[:, c], check[:, c]
        order = _differing(features, has)
        scores, used = [], 0
        for k in range(1, _MOST + 1):
            said = _logistic(features[:, order[:k]], has, held_out[:, order[:k]])[0]
            scores.append(float(f1_scores(said[:, None], truth[:, None])[0]))
            if used == k - 1 and (k == 1 or scores[-1] - scores[-2] > _SPLIT_GAIN):
                used = k
        dense, direction = _logistic(acts[fitted] / scale, has, acts[test] / scale)
        main = np.unique([*order[:used], chosen.feature[c]])
        found = truth & dense
        absorbed = _absorbed(held_out[found], main, atoms, direction / scale)
        out.append(
            {
                "concept": name,
                "feature": int(chosen.feature[c]),
                "f1": float(single[c]),
                "f1_k5": scores[-1],
                "f1_dense": float(f1_scores(dense[:, None], truth[:, None])[0]),
                "split": used,
                "absorption": float(absorbed.mean()) if len(absorbed) else float("nan"),
                "n": int(truth.sum()),
            }
        )
    return pd.DataFrame(out)


def _differing(features: np.ndarray, has: np.ndarray) -> np.ndarray:
    """The features whose mean is highest in rows with a concept above rows without, in units of their spread."""
    spread = features.std(axis=0) + 1e-9
    return np.argsort(-(features[has].mean(axis=0) - features[~has].mean(axis=0)) / spread, kind="stable")[:_MOST]


def _logistic(x: np.ndarray, has: np.ndarray, held_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a logistic regression says of held-out rows, and its direction; classes weigh the same."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    spread = x.std(axis=0) + 1e-9
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=1.0, max_iter=100).fit(x / spread, has)
    # F1 wants the threshold that is best on the rows it was fitted to, not one half.
    score = model.decision_function(x / spread)
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(has[order])
    at = int((2 * hits / (np.arange(1, len(order) + 1) + has.sum())).argmax())
    return model.decision_function(held_out / spread) >= score[order[at]], model.coef_[0] / spread


def _absorbed(features: np.ndarray, main: np.ndarray, atoms: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """For each row whether its own features are silent while one other, along the probe, carries a large share."""
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
    if isinstance(dictionary, SAEDictionary):
        return dictionary.sae.W_dec.detach().float().cpu().numpy()
    assert isinstance(dictionary, LinearDictionary)
    return dictionary.atoms
