"""Probes from class means: the mass-mean probe and linear discriminant analysis."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int

from interp.errors import UsageError
from probes.estimators.base import LinearProbe, temperature

Shrinkage = float | Literal["auto"] | None


class MassMeanProbe(LinearProbe):
    """The mass-mean probe of Marks & Tegmark (arXiv 2310.06824, section 5), for any number of classes.

    Each class scores by how near its mean is, so that between two classes the direction is the difference of
    their means. With `whitening` nearness is measured by the covariance within classes (their Mahalanobis, or
    "iid", form). Boundaries lie midway whatever the class sizes. Probabilities are a softmax at a temperature fitted
    to leave-one-out scores.

    Parameters
    ----------
    whitening : multiply by the inverse of the covariance within classes.
    shrinkage : how that covariance is shrunk, as in `LDAProbe`; None is the paper's, with a pseudo-inverse.
    """

    fitted_shapes: ClassVar = {**LinearProbe.fitted_shapes, "means_": ("classes", "features"), "temperature_": ()}

    def __init__(self, whitening: bool = False, shrinkage: Shrinkage = "auto") -> None:
        self.whitening = whitening
        self.shrinkage = shrinkage

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MassMeanProbe:  # noqa: N803
        """Fit to rows, labels and, where given, row weights."""
        X, codes, weights = self._begin(X, y, sample_weight)  # noqa: N806
        weights = np.ones(len(X)) if weights is None else weights
        self.means_, sizes = class_means(X, codes, weights)
        # Distances about the middle keep their digits when activations lie far from the origin.
        middle = np.average(X, axis=0, weights=weights)
        centred, means = X - middle, self.means_ - middle
        precision = None
        if self.whitening:
            precision = pseudo_inverse(covariance_within(X, codes, weights, self.shrinkage))
        directions = means if precision is None else means @ precision
        offset = -0.5 * (means * directions).sum(axis=1)
        scores = _scores_left_out(centred, means, codes, weights, sizes, precision)
        several = sizes[codes] > np.minimum(weights, 1.0)  # the only row of a class cannot be left out
        self.temperature_ = 1.0
        if several.any():
            self.temperature_ = temperature(scores[several], codes[several], weights[several])
        return self._set(*_binary(directions, offset - directions @ middle))


class LDAProbe(LinearProbe):
    """Linear discriminant analysis: scikit-learn's `LinearDiscriminantAnalysis(solver="lsqr")`, with row weights.

    Scores of three or more classes are about the mean of the rows, which keeps digits and changes no probability.

    Parameters
    ----------
    shrinkage : None for the covariance as it is, a number between 0 and 1 for that share of a multiple of the
        identity, or "auto" for Ledoit and Wolf's share of each class, on standardised rows.
    """

    fitted_shapes: ClassVar = {**LinearProbe.fitted_shapes, "means_": ("classes", "features")}

    def __init__(self, shrinkage: Shrinkage = "auto") -> None:
        self.shrinkage = shrinkage

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LDAProbe:  # noqa: N803
        """Fit to rows, labels and, where given, row weights."""
        X, codes, weights = self._begin(X, y, sample_weight)  # noqa: N806
        weights = np.ones(len(X)) if weights is None else weights
        self.means_, sizes = class_means(X, codes, weights)
        middle = np.average(X, axis=0, weights=weights)
        means = self.means_ - middle
        directions = means @ pseudo_inverse(covariance_within(X, codes, weights, self.shrinkage))
        offset = np.log(sizes / sizes.sum()) - 0.5 * (means * directions).sum(axis=1)
        return self._set(*_binary(directions, offset - directions @ middle))


def class_means(
    X: Float[np.ndarray, "rows d"],  # noqa: N803
    codes: Int[np.ndarray, " rows"],
    weights: Float[np.ndarray, " rows"],
) -> tuple[Float[np.ndarray, "classes d"], Float[np.ndarray, " classes"]]:
    """The weighted mean and the weight of each class."""
    member = (codes[:, None] == np.arange(codes.max() + 1)) * weights[:, None]
    sizes = member.sum(axis=0)
    return (member.T @ X) / sizes[:, None], sizes


def covariance_within(
    X: Float[np.ndarray, "rows d"],  # noqa: N803
    codes: Int[np.ndarray, " rows"],
    weights: Float[np.ndarray, " rows"],
    shrinkage: Shrinkage = None,
) -> Float[np.ndarray, "d d"]:
    """The covariance about class means (per unit of weight), each class shrunk as `LDAProbe` says.

    Raises `UsageError` when `shrinkage` is not "auto", None or between 0 and 1.
    """
    if shrinkage is not None and shrinkage != "auto":
        number = isinstance(shrinkage, (int, float)) and not isinstance(shrinkage, bool)
        if not number or not 0 <= float(shrinkage) <= 1:
            raise UsageError(f'shrinkage must be None, "auto" or between 0 and 1, but {shrinkage!r} came.')
    means, sizes = class_means(X, codes, weights)
    apart = X - means[codes]
    if shrinkage != "auto":
        pooled = (apart * weights[:, None]).T @ apart / weights.sum()
        share = 0.0 if shrinkage is None else float(shrinkage)
        return (1 - share) * pooled + share * np.trace(pooled) / len(pooled) * np.eye(len(pooled))
    total = np.zeros((X.shape[1], X.shape[1]))
    for c, size in enumerate(sizes):
        here = codes == c
        total += size / weights.sum() * _ledoit_wolf(apart[here], weights[here])
    return total


def _ledoit_wolf(centred: Float[np.ndarray, "rows d"], weights: Float[np.ndarray, " rows"]) -> np.ndarray:
    """Ledoit and Wolf's estimate (2004, lemma 3.1 and section 3.3) of a class's covariance, on standardised columns."""
    mass, d = weights.sum(), centred.shape[1]
    spread = np.sqrt(weights @ centred**2 / mass)
    # As scikit-learn has it: a column that does not vary beyond rounding is left at its own scale.
    scale = np.where(spread > 10 * np.finfo(float).eps, spread, 1.0)
    z = centred / scale
    empirical = (z * weights[:, None]).T @ z / mass
    level = np.trace(empirical) / d
    squares = (z**2).sum(axis=1)
    size = (empirical**2).sum()
    # Both are per column: how far single rows are from the estimate, and how far it is from a multiple of the identity.
    noise = max(((weights @ squares**2) / mass - size) / mass, 0.0)
    signal = size - d * level**2
    share = min(noise / signal, 1.0) if signal > 0 else 0.0
    shrunk = (1 - share) * empirical + share * level * np.eye(d)
    return shrunk * np.outer(scale, scale)


def pseudo_inverse(covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """The inverse of a covariance on the directions in which it is more than rounding, in units of each column's spread."""
    spread = np.sqrt(covariance.diagonal().clip(min=0.0))
    scale = np.where(spread > 0, spread, 1.0)
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    kept = values > len(values) * np.finfo(float).eps * max(values.max(), 0.0)
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
    return inverse / np.outer(scale, scale)


def _binary(directions: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """With two classes, one direction from the first to the second."""
    return (directions[1:] - directions[:1], offset[1:] - offset[:1]) if len(offset) == 2 else (directions, offset)


def _scores_left_out(
    X: Float[np.ndarray, "rows d"],  # noqa: N803
    means: Float[np.ndarray, "classes d"],
    codes: Int[np.ndarray, " rows"],
    weights: Float[np.ndarray, " rows"],
    sizes: Float[np.ndarray, " classes"],
    precision: Float[np.ndarray, "d d"] | None,
) -> Float[np.ndarray, "rows classes"]:
    """Each row's scores from means (and a covariance) that one unit of its weight was taken out of.

    Leaving a row u = x - m of a class of weight s out moves the class's mean away from it, so that it lies
    s / (s - v) times as far, and lowers the scatter by v s / (s - v) u uᵀ, whose effect on the inverse is of rank
    one (Lachenbruch 1967). The amount of shrinkage is held.
    """
    left_out = np.minimum(weights, 1.0)
    size = sizes[codes]
    farther = size / np.maximum(size - left_out, 1e-12)
    own = np.arange(len(means)) == codes[:, None]
    apart = X - means[codes]
    turned, turned_means = (X, means) if precision is None else (X @ precision, means @ precision)
    # With P the precision: (x - m)' P (x - m) and (x - m)' P u for every class mean m.
    distance = (X * turned).sum(axis=1)[:, None] - 2 * X @ turned_means.T + (means * turned_means).sum(axis=1)
    turned_apart = turned - turned_means[codes]
    along = (X * turned_apart).sum(axis=1)[:, None] - turned_apart @ means.T
    distance = np.where(own, farther[:, None] ** 2 * (apart * turned_apart).sum(axis=1)[:, None], distance)
    if precision is not None:
        along = np.where(own, farther[:, None] * along, along)
        removed = left_out * farther / sizes.sum()
        remaining = np.maximum(1 - removed * (apart * turned_apart).sum(axis=1), 1e-6)
        distance = (distance + (removed / remaining)[:, None] * along**2) * (1 - left_out / sizes.sum())[:, None]
    return -0.5 * distance
