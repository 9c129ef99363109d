"""Sparse read-outs: one feature of a dictionary for each value.

A trained sparse autoencoder is only informative where an untrained dictionary is less so. The same read-out therefore also
chooses from a random dictionary, principal components and single neurons.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import rankdata

from interp.activations import ActivationSource
from interp.decoders.base import DecoderTraits, RankedTexts, rank_classes
from interp.errors import unknown
from interp.models.address import Address
from interp.runtime.progress import Progress
from interp.sae.dictionaries import NAMES, Dictionary, SAEDictionary, baseline

if TYPE_CHECKING:
    from sae_lens import SAE

DictionaryName = Literal["sae", "random_dictionary", "pca", "neurons"]


class FeatureReadout:
    """For each value the one feature that separates it best; a row is read as the value with the highest odds.

    Features are chosen on training rows by the area under the ROC curve. A logistic regression on that feature alone turns
    it into a log-odds.

    Args:
        dictionary: The name of a dictionary, which is fitted to the training rows, or a fitted one.
        d_sae: Number of features of the SAE and the random dictionary.
        k: Active features of the SAE and the random dictionary.
        samples: Training samples of the SAE, in rows.
        seed: Seed of the dictionary.
        progress: Called with (samples done, samples) while the SAE trains.

    Attributes:
        chosen_: Value to (feature, its area under the ROC curve).
        sae_: The trained SAE, where the dictionary is one.
    """

    traits: ClassVar[DecoderTraits] = DecoderTraits(dictionary=True, follows_probe=True)

    def __init__(
        self,
        dictionary: DictionaryName | Dictionary = "sae",
        *,
        d_sae: int = 512,
        k: int = 16,
        samples: int = 100_000,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self._fixed: Dictionary | None
        if isinstance(dictionary, str):
            if dictionary not in NAMES:
                raise unknown("dictionary", dictionary, NAMES)
            self.name, self._fixed = str(dictionary), None
        else:
            self.name, self._fixed = "dictionary", dictionary
        self.d_sae, self.k, self.samples, self.seed = d_sae, k, samples, seed
        self.progress = progress
        self.sae_: SAE | None = None

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> FeatureReadout:
        """Fit the dictionary, and choose one feature for each value of `targets`."""
        acts = store.acts(address, rows)
        self.dictionary_ = self._fit_dictionary(store, address, rows, acts)
        features = self.dictionary_.encode(acts)
        self.classes_ = np.array(sorted(set(targets)), dtype=object)
        is_class = targets[:, None] == self.classes_[None, :]
        areas = _areas(features, is_class)
        best = areas.argmax(axis=0)
        self.chosen_ = {
            value: (int(feature), float(areas[feature, column]))
            for column, (value, feature) in enumerate(zip(self.classes_, best, strict=True))
        }
        self._columns = best
        self._slopes, self._intercepts = _fit_log_odds(features[:, best], is_class)
        return self

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> RankedTexts:
        """Return the values with the highest odds; scores are their softmax."""
        features = self.dictionary_.encode(store.acts(address, rows))[:, self._columns]
        log_odds = features * self._slopes + self._intercepts
        log_odds -= log_odds.max(axis=1, keepdims=True)
        scores = np.exp(log_odds) / np.exp(log_odds).sum(axis=1, keepdims=True)
        return rank_classes(scores, self.classes_, top_k)

    def _fit_dictionary(
        self, store: ActivationSource, address: Address, rows: pd.DataFrame, acts: np.ndarray
    ) -> Dictionary:
        if self._fixed is not None:
            return self._fixed
        if self.name != "sae":
            k = self.k if self.name == "random_dictionary" else None
            return baseline(self.name, acts, d_sae=self.d_sae, k=k, seed=self.seed)  # type: ignore[arg-type]
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
    """Return the area under the ROC curve of every feature for every class; ties count half."""
    ranks = rankdata(features, axis=0)
    positives = is_class.sum(axis=0).astype(float)
    negatives = len(is_class) - positives
    sums = ranks.T @ is_class.astype(float)
    return (sums - positives * (positives + 1) / 2) / np.maximum(positives * negatives, 1)


def _fit_log_odds(features: np.ndarray, is_class: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the slope and intercept of a logistic regression on one feature, for each class."""
    from sklearn.linear_model import LogisticRegression

    slopes, intercepts = np.empty(features.shape[1]), np.empty(features.shape[1])
    for c in range(features.shape[1]):
        column = features[:, c]
        spread = column.std() or 1.0
        model = LogisticRegression(C=100.0, max_iter=500).fit(column[:, None] / spread, is_class[:, c])
        slopes[c], intercepts[c] = model.coef_[0, 0] / spread, model.intercept_[0]
    return slopes, intercepts
