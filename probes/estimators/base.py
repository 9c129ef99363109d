"""The base classes of all probes: scikit-learn's contract, checked inputs, and calibrated probabilities."""

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
from probes.solvers.ridge import check_finite

# Inputs of at most this many numbers are solved in float64 if they come in it; that costs nothing at this size.
SMALL = 1_000_000
# Range of the temperature, as the log of the spread of the scaled scores in nats.
_FLATTEST, _SHARPEST = -7.0, 4.0


class Probe(ClassifierMixin, BaseEstimator):
    """A scikit-learn classifier of activations.

    A subclass defines `fit`, which calls `_validate_fit` first, and `_scores`. Sample weights count rows: a row of
    weight 2 equals two copies of that row, a row of weight 0 is left out.

    Attributes:
        fitted_shapes: The learned arrays by name, each with its axes; these are what a saved probe holds. The axes
            `features` and `classes` have known sizes; any other name is one size wherever it occurs.
        classes_: The class labels, sorted.
        n_features_in_: Number of features.
    """

    fitted_shapes: ClassVar[dict[str, tuple[str, ...]]] = {}

    classes_: np.ndarray
    n_features_in_: int

    @classmethod
    def variants(cls) -> list[Probe]:
        """Return the unfitted probes that `probe train` tries; the best on validation is kept."""
        return [cls()]

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Fit the probe and return it.

        Args:
            X: Rows, shape (rows, features).
            y: Class labels, shape (rows,).
            sample_weight: Weight of each row, shape (rows,).
        """
        raise NotImplementedError

    def _validate_fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        dtype: Any = np.float64,
    ) -> tuple[np.ndarray, Int[np.ndarray, " rows"], Float[np.ndarray, " rows"] | None]:
        """Check training data, set `classes_`, and return rows, class codes and weights without rows of weight 0.

        Raises:
            UsageError: A row or a weight is not finite, or there is only one class.
        """
        X, y = validate_data(self, X, y, dtype=dtype, ensure_min_samples=2, ensure_all_finite=False)  # noqa: N806
        check_finite(X)
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
                f"expected labels of at least two classes, got only {str(self.classes_[0])!r}; "
                "choose a target that varies, or capture more problems."
            )
        return X, codes, weights

    def _validate_rows(self, X: Any, dtype: Any = np.float64) -> np.ndarray:  # noqa: N803
        """Check rows to predict against the fitted ones and return them as an array."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=dtype, reset=False, ensure_all_finite=False)  # noqa: N806
        check_finite(X)
        return X

    def _scores(self, X: np.ndarray) -> Float[np.ndarray, "rows outputs"]:  # noqa: N803
        """Return one score for each class, or one column for the second class against the first."""
        raise NotImplementedError

    def _margins(self, scores: Float[np.ndarray, "rows outputs"]) -> np.ndarray:
        """Return scores in scikit-learn's form: with two classes, one number a row."""
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
        """Return the scores of rows.

        Args:
            X: Rows, shape (rows, features).

        Returns:
            Scores, shape (rows, classes); with two classes shape (rows,), positive for the second class.
        """
        return self._margins(self._scores(self._validate_rows(X)))

    def predict_proba(self, X: Any) -> Float[np.ndarray, "rows classes"]:  # noqa: N803
        """Return the probability of each of `classes_`.

        Args:
            X: Rows, shape (rows, features).

        Returns:
            Probabilities, shape (rows, classes).
        """
        return self._probabilities(self.decision_function(X))

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the most probable class of each row.

        Args:
            X: Rows, shape (rows, features).

        Returns:
            Class labels, shape (rows,).
        """
        return self._labels(self.decision_function(X))


class LinearProbe(Probe):
    """A probe with linear scores, for rows that are not standardised.

    Attributes:
        coef_: Coefficients, shape (outputs, features); one output for two classes, else one for each class.
        intercept_: Intercepts, shape (outputs,).
    """

    fitted_shapes: ClassVar[dict[str, tuple[str, ...]]] = {"coef_": ("outputs", "features"), "intercept_": ("outputs",)}

    coef_: np.ndarray
    intercept_: np.ndarray

    def _set(self, coef: Float[np.ndarray, "outputs features"], intercept: Float[np.ndarray, " outputs"]) -> Self:
        # Contiguous, so that a probe that was saved and loaded multiplies in the same order.
        self.coef_, self.intercept_ = np.ascontiguousarray(coef), np.ascontiguousarray(intercept)
        return self

    def _scores(self, X: np.ndarray) -> Float[np.ndarray, "rows outputs"]:  # noqa: N803
        return X @ self.coef_.T + self.intercept_


def softmax(scores: Float[np.ndarray, "rows classes"]) -> Float[np.ndarray, "rows classes"]:
    """Return the softmax of each row.

    Args:
        scores: Logits, shape (rows, classes).

    Returns:
        Probabilities, shape (rows, classes).
    """
    return _softmax(scores, axis=1)


def checked_weights(weights: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    """Return `weights`; raise a `UsageError` unless they are finite, not negative, and some are positive."""
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        raise UsageError(
            f"expected finite weights of at least 0, got {weights[bad[0]]} in row {bad[0]}; give 0 to leave a row out."
        )
    if not weights.any():
        raise UsageError("expected some positive weights, got 0 for every row; give some rows a positive weight.")
    return weights


def temperature(
    scores: Float[np.ndarray, "rows classes"],
    codes: Int[np.ndarray, " rows"],
    weights: Float[np.ndarray, " rows"] | None = None,
) -> float:
    """Return the factor on scores that minimises the log-loss of their softmax (temperature scaling).

    The factor times the scores' spread is kept between e⁻⁷ and e⁴, so that neither noise nor perfect separation gives
    a degenerate factor.

    Args:
        scores: Scores of rows that the probe was not fitted to, shape (rows, classes).
        codes: The class of each row, counted from 0, shape (rows,).
        weights: Weight of each row, shape (rows,); all 1 by default.

    Returns:
        The factor, the inverse of a temperature; 1 if the scores do not vary.

    References:
        Guo et al., "On calibration of modern neural networks" (arXiv 1706.04599, section 4.2).
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

    # The log-loss is convex in the factor, so its slope has at most one root.
    if slope(_FLATTEST) >= 0:
        log_factor = _FLATTEST
    elif slope(_SHARPEST) <= 0:
        log_factor = _SHARPEST
    else:
        log_factor = float(brentq(slope, _FLATTEST, _SHARPEST, xtol=1e-13, rtol=1e-13))
    return float(np.exp(log_factor) / spread)
