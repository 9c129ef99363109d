"""What every probe shares: scikit-learn's contract, rows and weights that are checked, scores that become probabilities."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import brentq
from scipy.special import softmax as _softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from interp.errors import UsageError
from interp.statistics.class_names import classes_by_name

# Problems of at most this many numbers are solved in float64 when they come in it; it costs nothing there.
SMALL = 1_000_000
# How far a temperature may make scores flatter or sharper, as the log of their spread in nats.
_FLATTEST, _SHARPEST = -7.0, 4.0


class Probe(ClassifierMixin, BaseEstimator):
    """A classifier of rows of activations; a subclass gives `fit` and `_scores`.

    Weights count rows: a row of weight 2 is that row twice, one of weight 0 is not there.
    """

    # The learned arrays by name, each with its axes: what a saved probe holds. `features` and `classes` are known sizes,
    # a number is itself, and any other name stands for one size wherever it occurs.
    fitted_shapes: ClassVar[dict[str, tuple[str, ...]]] = {}

    classes_: np.ndarray
    n_features_in_: int

    def _begin(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        dtype: Any = np.float64,
    ) -> tuple[np.ndarray, Int[np.ndarray, " rows"], Float[np.ndarray, " rows"] | None]:
        """Rows, class numbers and weights, checked; sets `classes_`. Rows of weight 0 are left out.

        Raises `UsageError` on a row or weight that is not finite, with its number, and on a single class.
        """
        X, y = validate_data(self, X, y, dtype=dtype, ensure_min_samples=2, ensure_all_finite=False)  # noqa: N806
        refuse_unfinished(X)
        with classes_by_name(y):
            check_classification_targets(y)
        weights = None
        if sample_weight is not None:
            weights = checked_weights(_check_sample_weight(sample_weight, X, dtype=np.float64, force_float_dtype=True))
            kept = weights > 0
            if not kept.all():
                X, y, weights = X[kept], y[kept], weights[kept]  # noqa: N806
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise UsageError(
                f"a probe needs two classes to tell apart, but the only one here is {str(self.classes_[0])!r}."
            )
        return X, codes, weights

    def _rows(self, X: Any, dtype: Any = np.float64) -> np.ndarray:  # noqa: N803
        """Rows to read, checked against those that the probe was fitted to."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=dtype, reset=False, ensure_all_finite=False)  # noqa: N806
        refuse_unfinished(X)
        return X

    def _scores(self, X: np.ndarray) -> Float[np.ndarray, "rows outputs"]:  # noqa: N803
        """One score a class, or a single column of the second class against the first."""
        raise NotImplementedError

    def _margins(self, scores: Float[np.ndarray, "rows outputs"]) -> np.ndarray:
        """Scores as scikit-learn gives them: with two classes, one number a row."""
        if len(self.classes_) > 2:
            return scores
        return scores[:, 0] if scores.shape[1] == 1 else scores[:, 1] - scores[:, 0]

    def _probabilities(self, margins: np.ndarray) -> Float[np.ndarray, "rows classes"]:
        if margins.ndim == 1:
            margins = np.stack([np.zeros_like(margins), margins], axis=1)
        return softmax(getattr(self, "temperature_", 1.0) * margins)

    def _labels(self, margins: np.ndarray) -> np.ndarray:
        return self.classes_[(margins > 0).astype(int) if margins.ndim == 1 else margins.argmax(axis=1)]

    def decision_function(self, X: Any) -> np.ndarray:  # noqa: N803
        """Scores, rows x classes; with two classes one number a row, positive for the second."""
        return self._margins(self._scores(self._rows(X)))

    def predict_proba(self, X: Any) -> Float[np.ndarray, "rows classes"]:  # noqa: N803
        """The probability of each of `classes_`."""
        return self._probabilities(self.decision_function(X))

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The likeliest class of each row."""
        return self._labels(self.decision_function(X))


class LinearProbe(Probe):
    """A probe that is `coef_` (outputs x features) and `intercept_`, for rows as they come."""

    fitted_shapes: ClassVar[dict[str, tuple[str, ...]]] = {"coef_": ("outputs", "features"), "intercept_": ("outputs",)}

    coef_: np.ndarray
    intercept_: np.ndarray

    def _set(self, coef: Float[np.ndarray, "outputs features"], intercept: Float[np.ndarray, " outputs"]) -> Self:
        # In one order in memory, so that a probe that was saved and loaded multiplies in that order too.
        self.coef_, self.intercept_ = np.ascontiguousarray(coef), np.ascontiguousarray(intercept)
        return self

    def _scores(self, X: np.ndarray) -> Float[np.ndarray, "rows outputs"]:  # noqa: N803
        return X @ self.coef_.T + self.intercept_


def softmax(scores: Float[np.ndarray, "rows classes"]) -> Float[np.ndarray, "rows classes"]:
    """Probabilities from scores, row by row."""
    return _softmax(scores, axis=1)


def refuse_unfinished(rows: np.ndarray, what: str = "the probe's input") -> None:
    """Raise `UsageError` when a row holds NaN or inf, with the number of the first."""
    bad = np.flatnonzero(~np.isfinite(rows).reshape(len(rows), -1).all(axis=1))
    if len(bad):
        raise UsageError(
            f"row {bad[0]} of {what} is not finite: it holds NaN or inf ({len(bad)} such rows). Leave them out."
        )


def checked_weights(weights: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    """Row weights, refused with a `UsageError` unless finite, not negative, and some of them positive."""
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        raise UsageError(
            f"a row's weight must be a finite number of at least 0, but that of row {bad[0]} is {weights[bad[0]]}."
        )
    if not weights.any():
        raise UsageError("every row has weight 0, so no class is left to learn. Give some rows a positive weight.")
    return weights


def temperature(
    scores: Float[np.ndarray, "rows classes"],
    codes: Int[np.ndarray, " rows"],
    weights: Float[np.ndarray, " rows"] | None = None,
) -> float:
    """The factor on scores at which their softmax has the least log-loss; they should be of rows left out.

    It is kept where the factor times the scores' spread lies between e⁻⁷ and e⁴, so that neither noise nor a
    perfect separation makes it degenerate.
    """
    weights = np.ones(len(codes)) if weights is None else weights
    centred = scores - scores.mean(axis=1, keepdims=True)
    spread = float(np.sqrt(np.average((centred**2).mean(axis=1), weights=weights)))
    if not spread > 0:
        return 1.0
    unit = centred / spread
    gold = unit[np.arange(len(codes)), codes]

    def slope(log_factor: float) -> float:
        p = softmax(np.exp(log_factor) * unit)
        return float(weights @ ((p * unit).sum(axis=1) - gold))

    # The log-loss is convex in the factor, so that its slope has one root at most.
    if slope(_FLATTEST) >= 0:
        found = _FLATTEST
    elif slope(_SHARPEST) <= 0:
        found = _SHARPEST
    else:
        found = float(brentq(slope, _FLATTEST, _SHARPEST, xtol=1e-13, rtol=1e-13))
    return float(np.exp(found) / spread)
