"""A linear probe as a decoder: one probe for all steps, so that it has to mean the same at each."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.activations import Store
from interp.decoders.base import Readings, ranked
from interp.models.address import Address
from probes.estimators import RidgeProbe


class ProbeDecoder:
    """`RidgeProbe` behind the `Decoder` protocol; `probe_` is the fitted estimator."""

    name = "probe"

    def fit(self, store: Store, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> ProbeDecoder:
        self.probe_ = RidgeProbe().fit(store.acts(address, rows), np.asarray(targets, dtype=str))
        return self

    def decode(self, store: Store, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> Readings:
        return ranked(self.probe_.predict_proba(store.acts(address, rows)), self.probe_.classes_, top_k)
