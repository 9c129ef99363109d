"""Reading a step out of a latent by where its text lies in an embedding space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from interp.errors import UsageError, checked_count
from probes.estimators.base import SMALL, Probe, temperature
from probes.solvers.ridge import STRENGTHS, fit_ridge


class StepEmbeddingProbe(Probe):
    """A linear map from a latent to the embedding of its step's text, read out by the nearest candidate text.

    Ridge regression onto embeddings, with the strength chosen by exact leave-one-out error; candidates are ranked by
    the cosine between the predicted embedding and theirs. A candidate that no training row had can be read too, where
    its embedding says what it is made of. Probabilities are a softmax of the cosines at a temperature that minimises
    the leave-one-out log-loss. Candidates with the same embedding cannot be told apart, and the first is said.

    Parameters
    ----------
    candidates : the texts to choose from; by default those of the training rows.
    embeddings : a fixed embedding of each candidate, candidates x width; by default `bag_of_tokens(candidates)`.
    strengths : regularisation strengths to choose from, relative to the mean eigenvalue of XᵀX.
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
        """Fit to rows and the text of each row's step. Raises `UsageError` on a text that is no candidate."""
        X, codes, weights = self._begin(X, y, sample_weight)  # noqa: N806
        texts = self.classes_
        if self.candidates is None and self.embeddings is not None:
            raise UsageError("embeddings came without the candidates that they are of. Give both.")
        if self.candidates is not None:
            self.classes_, order = _different(self.candidates)
            places = {text: place for place, text in enumerate(self.classes_)}
            strange = [text for text in texts if text not in places]
            if strange:
                raise UsageError(
                    f"{len(strange)} training texts are no candidates, for example {str(strange[0])!r}. Add them."
                )
            codes = np.array([places[text] for text in texts])[codes]
        if self.embeddings is None:
            self.embeddings_ = bag_of_tokens([str(text) for text in self.classes_])
        else:
            self.embeddings_ = _checked(self.embeddings, len(order))[order]
        lengths = np.linalg.norm(self.embeddings_, axis=1)
        if not lengths.all():
            empty = str(self.classes_[int(lengths.argmin())])
            raise UsageError(f"the embedding of {empty!r} is nil, so that nothing is near it. Leave it out.")
        fit = fit_ridge(X, [self.embeddings_[codes]], self.strengths, weights, precise=X.size <= SMALL)
        self.coef_ = np.ascontiguousarray((fit.coef / fit.scale[:, None]).T)
        self.intercept_ = fit.intercept - self.coef_ @ fit.mean
        self.strength_ = float(fit.strength[0])
        self.temperature_ = temperature(self._cosines(fit.held_out), codes, weights)
        return self

    def embed(self, X: Any) -> Float[np.ndarray, "rows width"]:  # noqa: N803
        """The predicted embedding of each row."""
        return self._rows(X) @ self.coef_.T + self.intercept_

    def top_k(self, X: Any, k: int = 5) -> tuple[np.ndarray, Float[np.ndarray, "rows k"]]:  # noqa: N803
        """The `k` nearest candidates of each row, nearest first, and their cosines; all where there are fewer."""
        cosines = self._cosines(self.embed(X))
        nearest = np.argsort(-cosines, axis=1, kind="stable")[:, : checked_count("k", k)]
        return self.classes_[nearest], np.take_along_axis(cosines, nearest, axis=1)

    def _scores(self, X: np.ndarray) -> Float[np.ndarray, "rows classes"]:  # noqa: N803
        return self._cosines(X @ self.coef_.T + self.intercept_)

    def _cosines(self, predicted: Float[np.ndarray, "rows width"]) -> Float[np.ndarray, "rows classes"]:
        lengths = np.linalg.norm(predicted, axis=1, keepdims=True)
        known = self.embeddings_ / np.linalg.norm(self.embeddings_, axis=1, keepdims=True)
        return (predicted / np.where(lengths > 0, lengths, 1.0)) @ known.T


def bag_of_tokens(
    texts: Sequence[str], vectors: Mapping[str, Float[np.ndarray, " width"]] | None = None
) -> Float[np.ndarray, "texts width"]:
    """Each text as the mean of the vectors of its words, split at white space.

    Without `vectors` each word is a dimension of its own, so that texts are near by the words they share. Raises
    `UsageError` on a word without a vector.
    """
    bags = [text.split() for text in texts]
    words = sorted({word for bag in bags for word in bag})
    if vectors is None:
        table = np.eye(len(words))
    else:
        missing = [word for word in words if word not in vectors]
        if missing:
            raise UsageError(f"{len(missing)} words have no vector, for example {missing[0]!r}. Give one for each.")
        table = np.array([vectors[word] for word in words], dtype=float).reshape(len(words), -1)
    number = {word: k for k, word in enumerate(words)}
    counts = np.zeros((len(bags), len(words)))
    for row, bag in zip(counts, bags, strict=True):
        for word in bag:
            row[number[word]] += 1 / len(bag)
    return counts @ table


def _different(candidates: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    given = np.asarray(candidates)
    found, order = np.unique(given, return_index=True)
    if given.ndim != 1 or len(found) != len(given) or len(found) < 2:
        raise UsageError(
            f"candidates must be two or more different texts, but {len(given)} came, {len(found)} different."
        )
    return found, order


def _checked(embeddings: Any, count: int) -> Float[np.ndarray, "candidates width"]:
    table = np.asarray(embeddings, dtype=float)
    if table.ndim != 2 or len(table) != count:
        raise UsageError(f"{count} candidates came with embeddings of shape {table.shape}; give one row for each.")
    if not np.isfinite(table).all():
        bad = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
        raise UsageError(f"row {bad} of the embeddings is not finite. Leave that candidate out.")
    return table
