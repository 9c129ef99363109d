"""A probe that reads a step's text: a linear map into an embedding space, and the nearest candidate text there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from interp.errors import UsageError, checked_count
from probes.estimators.base import SMALL, Probe, temperature
from probes.solvers.ridge import STRENGTHS, check_finite, fit_ridge


class StepEmbeddingProbe(Probe):
    """A linear map from a latent to the embedding of its step's text, read out as the nearest candidate text.

    The map is ridge regression onto embeddings; its strength minimises the exact leave-one-out squared error.
    Candidates are ranked by the cosine between the predicted embedding and theirs. A candidate that no training row
    has can be read too if its embedding shares components with those of training. Probabilities are a softmax of the
    cosines at the temperature that minimises the leave-one-out log-loss. Of candidates with equal embeddings, the
    first is returned.

    Args:
        candidates: Texts to choose from; those of the training rows by default.
        embeddings: Embedding of each candidate, shape (candidates, width); `bag_of_tokens(candidates)` by default.
        strengths: Regularisation strengths to choose from, relative to the mean eigenvalue of XᵀX.

    Attributes:
        coef_: Coefficients of the map, shape (width, features).
        intercept_: Intercepts of the map, shape (width,).
        embeddings_: Embedding of each of `classes_`, shape (classes, width).
        strength_: The chosen strength, absolute.
        temperature_: Factor on the cosines.
    """

    fitted_shapes: ClassVar = {
        "coef_": ("width", "features"),
        "intercept_": ("width",),
        "embeddings_": ("classes", "width"),
        "temperature_": (),
        "strength_": (),
    }

    def __init__(
        self,
        candidates: Sequence[str] | None = None,
        embeddings: Float[np.ndarray, "candidates width"] | None = None,
        strengths: tuple[float, ...] = STRENGTHS,
    ) -> None:
        self.candidates = candidates
        self.embeddings = embeddings
        self.strengths = strengths

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> StepEmbeddingProbe:  # noqa: N803
        """Fit the map.

        Args:
            X: Rows, shape (rows, features).
            y: Text of each row's step, shape (rows,).
            sample_weight: Weight of each row, shape (rows,).

        Returns:
            The fitted probe itself.

        Raises:
            UsageError: A training text is not a candidate, or candidates and embeddings do not fit.
        """
        X, codes, weights = self._validate_fit(X, y, sample_weight)  # noqa: N806
        texts = self.classes_
        if self.candidates is None and self.embeddings is not None:
            raise UsageError("expected candidates with the embeddings, got embeddings alone; give both.")
        if self.candidates is not None:
            self.classes_, order = _sorted_candidates(self.candidates)
            code = {text: number for number, text in enumerate(self.classes_)}
            missing = [text for text in texts if text not in code]
            if missing:
                raise UsageError(
                    f"expected every training text among the candidates, got {len(missing)} others, "
                    f"for example {str(missing[0])!r}; add them."
                )
            codes = np.array([code[text] for text in texts])[codes]
        if self.embeddings is None:
            self.embeddings_ = bag_of_tokens([str(text) for text in self.classes_])
        else:
            self.embeddings_ = _checked_embeddings(self.embeddings, len(order))[order]
        lengths = np.linalg.norm(self.embeddings_, axis=1)
        if not lengths.all():
            empty = str(self.classes_[int(lengths.argmin())])
            raise UsageError(f"expected embeddings that are not zero, got zero for {empty!r}; leave that text out.")
        fit = fit_ridge(X, [self.embeddings_[codes]], self.strengths, weights, precise=X.size <= SMALL)
        self.coef_ = np.ascontiguousarray((fit.coef / fit.scale[:, None]).T)
        self.intercept_ = fit.intercept - self.coef_ @ fit.mean
        self.strength_ = float(fit.strength[0])
        self.temperature_ = temperature(self._cosines(fit.held_out), codes, weights)
        return self

    def embed(self, X: Any) -> Float[np.ndarray, "rows width"]:  # noqa: N803
        """Return the predicted embedding of each row.

        Args:
            X: Rows, shape (rows, features).

        Returns:
            Embeddings, shape (rows, width).
        """
        return self._validate_rows(X) @ self.coef_.T + self.intercept_

    def top_k(self, X: Any, k: int = 5) -> tuple[np.ndarray, Float[np.ndarray, "rows k"]]:  # noqa: N803
        """Return the nearest candidates of each row and their cosines, nearest first.

        Args:
            X: Rows, shape (rows, features).
            k: Number of candidates; all if there are fewer.

        Returns:
            Texts and cosines, each of shape (rows, k).
        """
        cosines = self._cosines(self.embed(X))
        nearest = np.argsort(-cosines, axis=1, kind="stable")[:, : checked_count("k", k)]
        return self.classes_[nearest], np.take_along_axis(cosines, nearest, axis=1)

    def _scores(self, X: np.ndarray) -> Float[np.ndarray, "rows classes"]:  # noqa: N803
        return self._cosines(X @ self.coef_.T + self.intercept_)

    def _cosines(self, predicted: Float[np.ndarray, "rows width"]) -> Float[np.ndarray, "rows classes"]:
        lengths = np.linalg.norm(predicted, axis=1, keepdims=True)
        unit = self.embeddings_ / np.linalg.norm(self.embeddings_, axis=1, keepdims=True)
        return (predicted / np.where(lengths > 0, lengths, 1.0)) @ unit.T


def bag_of_tokens(
    texts: Sequence[str], vectors: Mapping[str, Float[np.ndarray, " width"]] | None = None
) -> Float[np.ndarray, "texts width"]:
    """Return the mean of the vectors of each text's words, split at white space.

    Args:
        texts: The texts.
        vectors: Vector of each word, shape (width,). By default each word is a separate dimension, so texts are
            near if they share words.

    Returns:
        Embeddings, shape (texts, width).

    Raises:
        UsageError: A word has no vector.
    """
    bags = [text.split() for text in texts]
    words = sorted({word for bag in bags for word in bag})
    if vectors is None:
        table = np.eye(len(words))
    else:
        missing = [word for word in words if word not in vectors]
        if missing:
            raise UsageError(
                f"expected a vector for each word, got none for {len(missing)} words, for example {missing[0]!r}; "
                "add them."
            )
        table = np.array([vectors[word] for word in words], dtype=float).reshape(len(words), -1)
    number = {word: k for k, word in enumerate(words)}
    counts = np.zeros((len(bags), len(words)))
    for row, bag in zip(counts, bags, strict=True):
        for word in bag:
            row[number[word]] += 1 / len(bag)
    return counts @ table


def _sorted_candidates(candidates: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the candidates sorted, and the order that sorts them."""
    texts = np.asarray(candidates)
    unique, order = np.unique(texts, return_index=True)
    if texts.ndim != 1 or len(unique) != len(texts) or len(unique) < 2:
        raise UsageError(
            f"expected two or more different candidates, got {len(texts)}, {len(unique)} of them different; "
            "remove duplicates or add texts."
        )
    return unique, order


def _checked_embeddings(embeddings: Any, count: int) -> Float[np.ndarray, "candidates width"]:
    table = np.asarray(embeddings, dtype=float)
    if table.ndim != 2 or len(table) != count:
        raise UsageError(
            f"expected embeddings of {count} candidates, got shape {table.shape}; give one row for each candidate."
        )
    check_finite(table, "the embeddings")
    return table
