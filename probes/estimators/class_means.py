"""Probes from class means: the mass-mean probe and linear discriminant analysis."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int

from interp.errors import UsageError
from interp.runtime.threads import one_thread_if_narrow
from probes.estimators.base import LinearProbe, Probe, temperature

Shrinkage = float | Literal["auto"] | None


class MassMeanProbe(LinearProbe):
    """The mass-mean probe, for any number of classes.

    A class scores higher the nearer its mean is to the row. Between two classes the direction is the difference of
    their means, and the boundary lies midway whatever the class sizes. With `whitening`, distances use the covariance
    within classes (the "iid" form of the paper). Probabilities are a softmax at a temperature fitted to leave-one-out
    scores.

    Args:
        whitening: Multiply by the inverse of the covariance within classes.
        shrinkage: Shrinkage of that covariance, as in `LDAProbe`. None is the paper's estimate, with a
            pseudo-inverse.

    Attributes:
        means_: Class means, shape (classes, features).
        temperature_: Factor on the scores.

    References:
        Marks and Tegmark, "The geometry of truth" (arXiv 2310.06824, section 5).
    """

    fitted_shapes: ClassVar = {**LinearProbe.fitted_shapes, "means_": ("classes", "features"), "temperature_": ()}

    def __init__(self, whitening: bool = False, shrinkage: Shrinkage = "auto") -> None:
        self.whitening = whitening
        self.shrinkage = shrinkage

    @classmethod
    def variants(cls) -> list[Probe]:
        """Return the probe without and with whitening."""
        return [cls(), cls(whitening=True)]

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MassMeanProbe:  # noqa: N803
        """Fit the probe.

        Args:
            X: Rows, shape (rows, features).
            y: Class labels, shape (rows,).
            sample_weight: Weight of each row, shape (rows,).

        Returns:
            The fitted probe itself.
        """
        X, codes, weights = self._validate_fit(X, y, sample_weight)  # noqa: N806
        with one_thread_if_narrow(X.shape[1]):
            return self._fit(X, codes, np.ones(len(X)) if weights is None else weights)

    def _fit(self, X: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> MassMeanProbe:  # noqa: N803
        self.means_, sizes = class_means(X, codes, weights)
        # Distances about the middle keep their digits when activations lie far from the origin.
        middle = np.average(X, axis=0, weights=weights)
        centred, means = X - middle, self.means_ - middle
        precision = None
        if self.whitening:
            precision = pseudo_inverse(covariance_within(X, codes, weights, self.shrinkage))
        directions = means if precision is None else means @ precision
        offset = -0.5 * (means * directions).sum(axis=1)
        scores = _leave_one_out_scores(centred, means, codes, weights, sizes, precision)
        not_alone = sizes[codes] > np.minimum(weights, 1.0)  # the only row of a class cannot be left out
        self.temperature_ = 1.0
        if not_alone.any():
            self.temperature_ = temperature(scores[not_alone], codes[not_alone], weights[not_alone])
        return self._set(*_one_output_if_binary(directions, offset - directions @ middle))


class LDAProbe(LinearProbe):
    """Linear discriminant analysis: scikit-learn's `LinearDiscriminantAnalysis(solver="lsqr")`, with row weights.

    Scores of three or more classes are relative to the mean of the rows, which keeps digits and does not change
    probabilities.

    Args:
        shrinkage: None for the empirical covariance; a number between 0 and 1 for that share of a multiple of the
            identity; "auto" for the share of Ledoit and Wolf for each class, on standardised rows.

    Attributes:
        means_: Class means, shape (classes, features).
    """

    fitted_shapes: ClassVar = {**LinearProbe.fitted_shapes, "means_": ("classes", "features")}

    def __init__(self, shrinkage: Shrinkage = "auto") -> None:
        self.shrinkage = shrinkage

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LDAProbe:  # noqa: N803
        """Fit the probe.

        Args:
            X: Rows, shape (rows, features).
            y: Class labels, shape (rows,).
            sample_weight: Weight of each row, shape (rows,).

        Returns:
            The fitted probe itself.
        """
        X, codes, weights = self._validate_fit(X, y, sample_weight)  # noqa: N806
        with one_thread_if_narrow(X.shape[1]):
            return self._fit(X, codes, np.ones(len(X)) if weights is None else weights)

    def _fit(self, X: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> LDAProbe:  # noqa: N803
        self.means_, sizes = class_means(X, codes, weights)
        middle = np.average(X, axis=0, weights=weights)
        means = self.means_ - middle
        directions = means @ pseudo_inverse(covariance_within(X, codes, weights, self.shrinkage))
        offset = np.log(sizes / sizes.sum()) - 0.5 * (means * directions).sum(axis=1)
        return self._set(*_one_output_if_binary(directions, offset - directions @ middle))


def class_means(
    X: Float[np.ndarray, "rows d"],  # noqa: N803
    codes: Int[np.ndarray, " rows"],
    weights: Float[np.ndarray, " rows"],
) -> tuple[Float[np.ndarray, "classes d"], Float[np.ndarray, " classes"]]:
    """Return the weighted mean and the total weight of each class."""
    member = (codes[:, None] == np.arange(codes.max() + 1)) * weights[:, None]
    sizes = member.sum(axis=0)
    return (member.T @ X) / sizes[:, None], sizes


def covariance_within(
    X: Float[np.ndarray, "rows d"],  # noqa: N803
    codes: Int[np.ndarray, " rows"],
    weights: Float[np.ndarray, " rows"],
    shrinkage: Shrinkage = None,
) -> Float[np.ndarray, "d d"]:
    """Return the pooled covariance about the class means, per unit of weight.

    Args:
        X: Rows, shape (rows, d).
        codes: The class of each row, counted from 0, shape (rows,).
        weights: Weight of each row, shape (rows,).
        shrinkage: As in `LDAProbe`.

    Returns:
        The covariance, shape (d, d).

    Raises:
        UsageError: `shrinkage` is not None, "auto" or a number between 0 and 1.
    """
    if shrinkage is not None and shrinkage != "auto":
        number = isinstance(shrinkage, (int, float)) and not isinstance(shrinkage, bool)
        if not number or not 0 <= float(shrinkage) <= 1:
            raise UsageError(f'expected shrinkage to be None, "auto" or between 0 and 1, got {shrinkage!r}; change it.')
    means, sizes = class_means(X, codes, weights)
    centred = X - means[codes]
    if shrinkage != "auto":
        pooled = (centred * weights[:, None]).T @ centred / weights.sum()
        share = 0.0 if shrinkage is None else float(shrinkage)
        return (1 - share) * pooled + share * np.trace(pooled) / len(pooled) * np.eye(len(pooled))
    total = np.zeros((X.shape[1], X.shape[1]))
    for c, size in enumerate(sizes):
        members = codes == c
        total += size / weights.sum() * _ledoit_wolf(centred[members], weights[members])
    return total


def _ledoit_wolf(centred: Float[np.ndarray, "rows d"], weights: Float[np.ndarray, " rows"]) -> np.ndarray:
    """Return the covariance estimate of Ledoit and Wolf (2004, lemma 3.1 and section 3.3) on standardised columns."""
    mass, d = weights.sum(), centred.shape[1]
    spread = np.sqrt(weights @ centred**2 / mass)
    # As in scikit-learn, a column that varies only by rounding keeps its own scale.
    scale = np.where(spread > 10 * np.finfo(float).eps, spread, 1.0)
    z = centred / scale
    empirical = (z * weights[:, None]).T @ z / mass
    level = np.trace(empirical) / d
    squares = (z**2).sum(axis=1)
    size = (empirical**2).sum()
    # Both per column: the distance of single rows from the estimate, and of the estimate from a multiple of the identity.
    noise = max(((weights @ squares**2) / mass - size) / mass, 0.0)
    signal = size - d * level**2
    share = min(noise / signal, 1.0) if signal > 0 else 0.0
    shrunk = (1 - share) * empirical + share * level * np.eye(d)
    return shrunk * np.outer(scale, scale)


def pseudo_inverse(covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """Return the inverse of a covariance on the directions whose variance is more than rounding.

    Rounding is judged in units of each column's standard deviation.
    """
    spread = np.sqrt(covariance.diagonal().clip(min=0.0))
    scale = np.where(spread > 0, spread, 1.0)
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    kept = values > len(values) * np.finfo(float).eps * max(values.max(), 0.0)
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
    return inverse / np.outer(scale, scale)


def _one_output_if_binary(directions: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, with two classes, one direction from the first class to the second; else the input."""
    return (directions[1:] - directions[:1], offset[1:] - offset[:1]) if len(offset) == 2 else (directions, offset)


def _leave_one_out_scores(
    X: Float[np.ndarray, "rows d"],  # noqa: N803
    means: Float[np.ndarray, "classes d"],
    codes: Int[np.ndarray, " rows"],
    weights: Float[np.ndarray, " rows"],
    sizes: Float[np.ndarray, " classes"],
    precision: Float[np.ndarray, "d d"] | None,
) -> Float[np.ndarray, "rows classes"]:
    """Return the scores of each row from means (and a covariance) without one unit of the row's weight.

    Without a row u = x - m of a class of weight s, the class mean moves away from the row by the factor s / (s - v),
    and the scatter loses v s / (s - v) u uᵀ, a rank-one change of the inverse (Lachenbruch 1967). The amount of
    shrinkage is not changed.
    """
    left_out = np.minimum(weights, 1.0)
    size = sizes[codes]
    factor = size / np.maximum(size - left_out, 1e-12)
    own_class = np.arange(len(means)) == codes[:, None]
    centred = X - means[codes]
    rotated, rotated_means = (X, means) if precision is None else (X @ precision, means @ precision)
    # With P the precision: (x - m)' P (x - m) and (x - m)' P u for every class mean m.
    distance = (X * rotated).sum(axis=1)[:, None] - 2 * X @ rotated_means.T + (means * rotated_means).sum(axis=1)
    rotated_centred = rotated - rotated_means[codes]
    product = (X * rotated_centred).sum(axis=1)[:, None] - rotated_centred @ means.T
    distance = np.where(own_class, factor[:, None] ** 2 * (centred * rotated_centred).sum(axis=1)[:, None], distance)
    if precision is not None:
        product = np.where(own_class, factor[:, None] * product, product)
        removed = left_out * factor / sizes.sum()
        remaining = np.maximum(1 - removed * (centred * rotated_centred).sum(axis=1), 1e-6)
        distance = (distance + (removed / remaining)[:, None] * product**2) * (1 - left_out / sizes.sum())[:, None]
    return -0.5 * distance
