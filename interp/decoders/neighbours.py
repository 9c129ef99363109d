"""Nearest neighbours: the token, the step text, or the labelled training latent that lies closest to a latent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar

from interp.activations import ActivationSource
from interp.decoders.base import Readings, ranked
from interp.decoders.logit_lens import refuse_other_model
from interp.decoders.sites import STEP_TEXT
from interp.errors import UsageError, checked_count
from interp.models.address import Address
from interp.statistics.class_names import classes_by_name

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

Vectors = Float[np.ndarray, "rows d_model"]


class Neighbours:
    """The labels of the `k` nearest training latents, each weighing as much as it is near.

    Latents are standardised by training rows; distances are Euclidean.
    """

    name = "neighbours"

    def __init__(self, k: int = 15) -> None:
        self.k = checked_count("k", k)

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> Neighbours:
        from sklearn.neighbors import KNeighborsClassifier

        if not len(rows):
            raise UsageError("nearest neighbours need training latents, but no rows came.")
        acts = store.acts(address, rows)
        self.mean_, self.scale_ = acts.mean(axis=0), np.maximum(acts.std(axis=0), 1e-6)
        near = KNeighborsClassifier(min(self.k, len(rows)), weights="distance", algorithm="brute")
        names = np.asarray(targets, dtype=str)
        with classes_by_name(names):
            self.classifier_ = near.fit((acts - self.mean_) / self.scale_, names)
        return self

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> Readings:
        acts = (store.acts(address, rows) - self.mean_) / self.scale_
        return ranked(self.classifier_.predict_proba(acts), self.classifier_.classes_, top_k)


class _Nearest:
    """Candidates with vectors in the model's embedding space, ranked by the cosine of a latent with each.

    Only the temperature that turns cosines into probabilities is fitted, to the labels of training rows.
    """

    needs_model = True

    def __init__(self, reasoner: Reasoner) -> None:
        self.reasoner = reasoner

    def _keep(self, names: list[str], vectors: Vectors) -> None:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        self.names_, self.vectors_ = names, vectors / np.maximum(lengths, 1e-9)

    def _warm(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> None:
        places = {name: k for k, name in enumerate(self.names_)}
        known = np.array([target in places for target in targets], dtype=bool)
        self.temperature_ = 0.1
        if known.any():
            codes = np.array([places[target] for target in targets[known]])
            self.temperature_ = _temperature(self._cosines(store, address, rows[known]), codes)

    def _cosines(self, store: ActivationSource, address: Address, rows: pd.DataFrame) -> np.ndarray:
        acts = store.acts(address, rows)
        return (acts / np.maximum(np.linalg.norm(acts, axis=1, keepdims=True), 1e-9)) @ self.vectors_.T

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> Readings:
        refuse_other_model(store, self.reasoner, "this decoder")
        scores = self._cosines(store, address, rows) / self.temperature_
        return ranked(_softmax(scores), self.names_, top_k)


class NearestToken(_Nearest):
    """The token whose input embedding points most nearly the way of the latent."""

    name = "nearest_token"

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> NearestToken:
        refuse_other_model(store, self.reasoner, "this decoder")
        table = self.reasoner.embed.weight.detach().float().cpu().numpy()
        self._keep(self.reasoner.tokenizer.convert_ids_to_tokens(range(len(table))), table)
        self._warm(store, address, rows, targets)
        return self


class NearestText(_Nearest):
    """The step text, of those in training, whose tokens' mean embedding points most nearly the way of the latent."""

    name = "nearest_text"
    says = STEP_TEXT

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> NearestText:
        refuse_other_model(store, self.reasoner, "this decoder")
        table = self.reasoner.embed.weight.detach().float().cpu().numpy()
        texts = sorted(set(map(str, targets)))
        if not texts:
            raise UsageError("nearest texts are those of training rows, but no rows came.")
        ids = [self.reasoner.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        self._keep(texts, np.stack([table[each].mean(axis=0) for each in ids]))
        self._warm(store, address, rows, targets)
        return self


def _softmax(scores: np.ndarray) -> np.ndarray:
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def _temperature(scores: Float[np.ndarray, "rows classes"], codes: Int[np.ndarray, " rows"]) -> float:
    """The temperature at which the softmax of the scores has the lowest log-loss."""

    def loss(log_temperature: float) -> float:
        scaled = scores / np.exp(log_temperature)
        top = scaled.max(axis=1)
        total = np.log(np.exp(scaled - top[:, None]).sum(axis=1)) + top
        return float((total - scaled[np.arange(len(codes)), codes]).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-6.0, 3.0), method="bounded").x))
