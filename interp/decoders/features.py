"""Sparse read-outs: one feature of a dictionary for each value, whatever the dictionary.

A trained sparse autoencoder only says something if an untrained one says less, so the same read-out is
given a random dictionary, principal components and single neurons to choose from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import rankdata

from interp.activations import ActivationSource
from interp.decoders.base import Readings, ranked
from interp.errors import unknown
from interp.models.address import Address
from interp.runtime.progress import Progress
from interp.sae.dictionaries import NAMES, Dictionary, SAEDictionary, baseline

if TYPE_CHECKING:
    from sae_lens import SAE


class FeatureReadout:
    """For each value the one feature that separates it best, then the value whose feature speaks loudest.

    Features are chosen on training rows by the area under the ROC curve, each turned into a log-odds by a
    logistic regression on that feature alone. `chosen_` maps each value to (feature, its area). A dictionary that is
    there already is taken as it is.
    """

    def __init__(
        self,
        dictionary: Literal["sae", "random_dictionary", "pca", "neurons"] | Dictionary = "sae",
        *,
        d_sae: int = 512,
        k: int = 16,
        samples: int = 100_000,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self._given = None if isinstance(dictionary, str) else dictionary
        if self._given is None and dictionary not in NAMES:
            raise unknown("dictionary", dictionary, NAMES)
        self.name: Any = dictionary if self._given is None else "dictionary"
        self.d_sae, self.k, self.samples, self.seed = d_sae, k, samples, seed
        self.progress = progress
        self.sae_: SAE | None = None

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> FeatureReadout:
        acts = store.acts(address, rows)
        self.dictionary_ = self._learn(store, address, rows, acts)
        features = self.dictionary_.encode(acts)
        self.classes_ = np.array(sorted(set(targets)), dtype=object)
        is_class = targets[:, None] == self.classes_[None, :]
        area = _areas(features, is_class)
        best = area.argmax(axis=0)
        self.chosen_ = {
            value: (int(f), float(area[f, c])) for c, (value, f) in enumerate(zip(self.classes_, best, strict=True))
        }
        self._columns = best
        self._slope, self._offset = _log_odds(features[:, best], is_class)
        return self

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> Readings:
        features = self.dictionary_.encode(store.acts(address, rows))[:, self._columns]
        odds = features * self._slope + self._offset
        odds -= odds.max(axis=1, keepdims=True)
        scores = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
        return ranked(scores, self.classes_, top_k)

    def _learn(self, store: ActivationSource, address: Address, rows: pd.DataFrame, acts: np.ndarray) -> Dictionary:
        if self._given is not None:
            return self._given
        if self.name in ("random_dictionary", "pca", "neurons"):
            k = self.k if self.name == "random_dictionary" else None
            return baseline(self.name, acts, d_sae=self.d_sae, k=k, seed=self.seed)
        from interp.sae import train_sae

        self.sae_ = train_sae(
            store,
            address,
            rows,
            d_sae=self.d_sae,
            k=self.k,
            samples=self.samples,
            seed=self.seed,
            progress=self.progress,
        )
        return SAEDictionary(self.sae_)


def _areas(features: Float[np.ndarray, "rows features"], is_class: np.ndarray) -> Float[np.ndarray, "features classes"]:
    """The area under the ROC curve of every feature for every class; ties count half."""
    ranks = rankdata(features, axis=0)
    positives = is_class.sum(axis=0).astype(float)
    negatives = len(is_class) - positives
    sums = ranks.T @ is_class.astype(float)
    return (sums - positives * (positives + 1) / 2) / np.maximum(positives * negatives, 1)


def _log_odds(features: np.ndarray, is_class: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and offset of a one-feature logistic regression for each class."""
    from sklearn.linear_model import LogisticRegression

    slopes, offsets = np.empty(features.shape[1]), np.empty(features.shape[1])
    for c in range(features.shape[1]):
        column = features[:, c]
        spread = column.std() or 1.0
        model = LogisticRegression(C=100.0, max_iter=500).fit(column[:, None] / spread, is_class[:, c])
        slopes[c], offsets[c] = model.coef_[0, 0] / spread, model.intercept_[0]
    return slopes, offsets
