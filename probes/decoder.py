"""Probes as decoders: one probe for all steps, so that it has to mean the same at each."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.decoders.base import Readings, ranked
from interp.decoders.sites import STEP_TEXT
from interp.models.address import Address
from probes.estimators.linear import RidgeProbe
from probes.estimators.step_embedding import StepEmbeddingProbe


class ProbeDecoder:
    """`RidgeProbe` behind the `Decoder` protocol; `probe_` is the fitted estimator."""

    name = "probe"

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> ProbeDecoder:
        self.probe_ = RidgeProbe().fit(store.acts(address, rows), np.asarray(targets, dtype=str))
        return self

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> Readings:
        return ranked(self.probe_.predict_proba(store.acts(address, rows)), self.probe_.classes_, top_k)


class StepEmbeddingDecoder:
    """`StepEmbeddingProbe` behind the `Decoder` protocol: a map into text space, and the nearest text of training.

    Large concept models (arXiv 2412.08821) reason in such a space, where a step is one sentence's embedding; here a
    text's embedding is made of its words, so that a text can be said that no training row had.
    """

    name = "step_embedding"
    says = STEP_TEXT

    def fit(
        self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray
    ) -> StepEmbeddingDecoder:
        self.probe_ = StepEmbeddingProbe().fit(store.acts(address, rows), np.asarray(targets, dtype=str))
        return self

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> Readings:
        return ranked(self.probe_.predict_proba(store.acts(address, rows)), self.probe_.classes_, top_k)
