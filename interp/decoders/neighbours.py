"""Nearest neighbours: the token, the step text, or the labelled training latents nearest to a latent."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar

from interp.activations import ActivationSource
from interp.decoders.base import STEP_TEXT, DecoderTraits, RankedTexts, rank_classes
from interp.decoders.logit_lens import require_same_model
from interp.errors import UsageError, checked_count
from interp.models.address import Address
from interp.statistics.class_names import classes_by_name

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

Vectors = Float[np.ndarray, "rows d_model"]


class Neighbours:
    """The labels of the nearest training latents, weighted by inverse distance.

    Latents are standardised by the training rows; distances are Euclidean.

    Args:
        k: Number of neighbours.
    """

    name = "neighbours"
    traits: ClassVar[DecoderTraits] = DecoderTraits()

    def __init__(self, k: int = 15) -> None:
        self.k = checked_count("k", k)

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> Neighbours:
        """Keep the training latents and their labels."""
        from sklearn.neighbors import KNeighborsClassifier

        if not len(rows):
            raise UsageError("expected training latents for the nearest neighbours, got no rows; choose other rows.")
        acts = store.acts(address, rows)
        self.mean_, self.scale_ = acts.mean(axis=0), np.maximum(acts.std(axis=0), 1e-6)
        classifier = KNeighborsClassifier(min(self.k, len(rows)), weights="distance", algorithm="brute")
        names = np.asarray(targets, dtype=str)
        with classes_by_name(names):
            self.classifier_ = classifier.fit((acts - self.mean_) / self.scale_, names)
        return self

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> RankedTexts:
        """Return the labels with the largest votes."""
        acts = (store.acts(address, rows) - self.mean_) / self.scale_
        return rank_classes(self.classifier_.predict_proba(acts), self.classifier_.classes_, top_k)


class _Nearest:
    """Candidates with vectors in the model's embedding space, ranked by their cosine with a latent.

    Only the temperature that turns cosines into probabilities is fitted, to the labels of training rows.
    """

    def __init__(self, reasoner: Reasoner) -> None:
        self.reasoner = reasoner

    def _set_candidates(self, names: list[str], vectors: Vectors) -> None:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        self.names_, self.vectors_ = names, vectors / np.maximum(lengths, 1e-9)

    def _fit_temperature(
        self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray
    ) -> None:
        codes_by_name = {name: code for code, name in enumerate(self.names_)}
        known = np.array([target in codes_by_name for target in targets], dtype=bool)
        self.temperature_ = 0.1
        if known.any():
            codes = np.array([codes_by_name[target] for target in targets[known]])
            self.temperature_ = _temperature(self._cosines(store, address, rows[known]), codes)

    def _cosines(self, store: ActivationSource, address: Address, rows: pd.DataFrame) -> np.ndarray:
        acts = store.acts(address, rows)
        return (acts / np.maximum(np.linalg.norm(acts, axis=1, keepdims=True), 1e-9)) @ self.vectors_.T

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> RankedTexts:
        """Return the candidates with the largest cosines; scores are their softmax."""
        require_same_model(store, self.reasoner, "this decoder")
        scores = self._cosines(store, address, rows) / self.temperature_
        return rank_classes(_softmax(scores), self.names_, top_k)


class NearestToken(_Nearest):
    """The token whose input embedding has the largest cosine with the latent.

    Args:
        reasoner: The model that the store was captured from.
    """

    name = "nearest_token"
    traits: ClassVar[DecoderTraits] = DecoderTraits(needs_model=True)

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> NearestToken:
        """Take the embeddings of all tokens, and fit the temperature."""
        require_same_model(store, self.reasoner, "this decoder")
        table = self.reasoner.embed.weight.detach().float().cpu().numpy()
        self._set_candidates(self.reasoner.tokenizer.convert_ids_to_tokens(range(len(table))), table)
        self._fit_temperature(store, address, rows, targets)
        return self


class NearestText(_Nearest):
    """The step text of training whose tokens' mean embedding has the largest cosine with the latent.

    Args:
        reasoner: The model that the store was captured from.
    """

    name = "nearest_text"
    traits: ClassVar[DecoderTraits] = DecoderTraits(output=STEP_TEXT, needs_model=True)

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> NearestText:
        """Embed the training texts, and fit the temperature."""
        require_same_model(store, self.reasoner, "this decoder")
        table = self.reasoner.embed.weight.detach().float().cpu().numpy()
        texts = sorted(set(map(str, targets)))
        if not texts:
            raise UsageError("expected training rows, whose texts are the candidates, got none; choose other rows.")
        ids = [self.reasoner.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        self._set_candidates(texts, np.stack([table[of_text].mean(axis=0) for of_text in ids]))
        self._fit_temperature(store, address, rows, targets)
        return self


def _softmax(scores: np.ndarray) -> np.ndarray:
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def _temperature(scores: Float[np.ndarray, "rows classes"], codes: Int[np.ndarray, " rows"]) -> float:
    """Return the temperature at which the softmax of the scores has the lowest log-loss."""

    def loss(log_temperature: float) -> float:
        scaled = scores / np.exp(log_temperature)
        top = scaled.max(axis=1)
        total = np.log(np.exp(scaled - top[:, None]).sum(axis=1)) + top
        return float((total - scaled[np.arange(len(codes)), codes]).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-6.0, 3.0), method="bounded").x))
