"""What a decoder is: something that reads rows of a store and says, with scores, what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.activations import ActivationSource
from interp.models.address import Address


@dataclass(frozen=True)
class Readings:
    """Ranked texts for each row: `texts` and `scores` are rows x top_k, best first; scores sum to at most 1."""

    texts: np.ndarray
    scores: Float[np.ndarray, "rows top_k"]


@runtime_checkable
class Decoder(Protocol):
    """Reads activations at one address. `fit` is a no-op for decoders that need no training.

    `fit` sees the labels of training rows only, `decode` never sees labels.
    """

    name: str

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> Decoder: ...

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> Readings: ...


def ranked(scores: Float[np.ndarray, "rows classes"], names: Sequence[str] | np.ndarray, top_k: int) -> Readings:
    """The `top_k` best classes of each row."""
    top_k = min(top_k, scores.shape[1])
    part = np.argpartition(-scores, top_k - 1, axis=1)[:, :top_k]
    order = np.take_along_axis(part, np.argsort(-np.take_along_axis(scores, part, 1), axis=1, kind="stable"), 1)
    return Readings(np.asarray(names, dtype=object)[order], np.take_along_axis(scores, order, 1))
