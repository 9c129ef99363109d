"""Probes as decoders: one probe for all steps, so that it has to mean the same at each."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.decoders.base import STEP_TEXT, DecoderTraits, RankedTexts, rank_classes
from interp.models.address import Address
from probes.estimators.linear import RidgeProbe
from probes.estimators.step_embedding import StepEmbeddingProbe


class ProbeDecoder:
    """`RidgeProbe` behind the `Decoder` protocol.

    Attributes:
        probe_: The fitted estimator.
    """

    name = "probe"
    traits: ClassVar[DecoderTraits] = DecoderTraits()

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> ProbeDecoder:
        """Fit the probe to the values of training rows."""
        self.probe_ = RidgeProbe().fit(store.acts(address, rows), np.asarray(targets, dtype=str))
        return self

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> RankedTexts:
        """Return the likeliest values of each row, with their probabilities."""
        return rank_classes(self.probe_.predict_proba(store.acts(address, rows)), self.probe_.classes_, top_k)


class StepEmbeddingDecoder:
    """`StepEmbeddingProbe` behind the `Decoder` protocol: a map into text space, and the nearest text of training.

    Large concept models (arXiv 2412.08821) reason in such a space, where one sentence's embedding is a step. Here the
    words of a text make its embedding, so the probe can also score a text that no training row had.

    Attributes:
        probe_: The fitted estimator.
    """

    name = "step_embedding"
    traits: ClassVar[DecoderTraits] = DecoderTraits(output=STEP_TEXT)

    def fit(
        self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray
    ) -> StepEmbeddingDecoder:
        """Fit the probe to the texts of training rows."""
        self.probe_ = StepEmbeddingProbe().fit(store.acts(address, rows), np.asarray(targets, dtype=str))
        return self

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> RankedTexts:
        """Return the nearest texts of each row, with their probabilities."""
        return rank_classes(self.probe_.predict_proba(store.acts(address, rows)), self.probe_.classes_, top_k)
