"""A decoder of another package: the value whose mean training latent is nearest."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.decoders.base import DecoderTraits, RankedTexts, rank_classes
from interp.models.address import Address


class NearestMean:
    """The value whose mean training latent is nearest.

    Args:
        sharpness: Factor on squared distances before the softmax.
    """

    name = "nearest_mean"
    traits: ClassVar[DecoderTraits] = DecoderTraits()

    def __init__(self, sharpness: float = 0.1) -> None:
        self.sharpness = sharpness

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> NearestMean:
        """Compute the mean latent of each value."""
        acts = store.acts(address, rows)
        self.classes_ = np.unique(targets)
        self.means_ = np.stack([acts[targets == value].mean(axis=0) for value in self.classes_])
        return self

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> RankedTexts:
        """Return the values with the nearest means."""
        distances = ((store.acts(address, rows)[:, None] - self.means_) ** 2).sum(axis=2)
        scores = np.exp(-self.sharpness * (distances - distances.min(axis=1, keepdims=True)))
        return rank_classes(scores / scores.sum(axis=1, keepdims=True), self.classes_, top_k)
