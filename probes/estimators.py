"""Linear probes with scikit-learn's contract."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from probes.solver import STRENGTHS, fit_ridge, one_hot

# Problems of at most this many numbers are solved in float64 when they come in it; it costs nothing there.
_SMALL = 1_000_000


class _LinearProbe(ClassifierMixin, BaseEstimator):
    """What follows from `classes_`, `coef_` and `intercept_`: scores, probabilities, predictions."""

    def _encode(self, y: np.ndarray) -> np.ndarray:
        """Set `classes_` and return each label's number. Raises on a single class."""
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"a probe needs two classes to tell apart, but the only one here is {str(self.classes_[0])!r}."
            )
        return codes

    def decision_function(self, X) -> np.ndarray:  # noqa: N803
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)  # noqa: N806
        scores = X @ self.coef_.T + self.intercept_
        if len(self.classes_) > 2:
            return scores
        return scores[:, 0] if scores.shape[1] == 1 else scores[:, 1] - scores[:, 0]

    def predict_proba(self, X) -> np.ndarray:  # noqa: N803
        scores = self.decision_function(X)
        if scores.ndim == 1:
            scores = np.stack([np.zeros_like(scores), scores], axis=1)
        return _softmax(getattr(self, "temperature_", 1.0) * scores)

    def predict(self, X) -> np.ndarray:  # noqa: N803
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]


class RidgeProbe(_LinearProbe):
    """Ridge regression onto one-hot labels, with the strength chosen by exact leave-one-out error.

    Probabilities are a softmax of the scores at a temperature that minimises the leave-one-out log-loss, so
    they are fitted on predictions that never saw their own row.

    Parameters
    ----------
    strengths : regularisation strengths to choose from, relative to the mean eigenvalue of XᵀX.
    """

    def __init__(self, strengths: tuple[float, ...] = STRENGTHS) -> None:
        self.strengths = strengths

    def fit(self, X, y) -> RidgeProbe:  # noqa: N803
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)  # noqa: N806
        codes = self._encode(y)
        self._fit = fit_ridge(X, [one_hot(codes, np.arange(len(self.classes_)))], self.strengths)
        self.strength_ = float(self._fit.strength[0])
        self.coef_ = (self._fit.coef / self._fit.scale[:, None]).T
        self.intercept_ = self._fit.intercept - self.coef_ @ self._fit.mean
        self.temperature_ = _temperature(self._fit.held_out, codes)
        return self


class LogisticProbe(_LinearProbe):
    """Logistic regression, binary or multinomial, on standardised rows, by the batched solver.

    The same model as scikit-learn's `StandardScaler` followed by `LogisticRegression(C=C)`; `coef_` and
    `intercept_` are for rows as they come.

    Parameters
    ----------
    C : inverse strength of the L2 penalty on the coefficients of the standardised rows.
    tol : norm of the gradient of the mean loss at which the solver stops.
    max_iter : Newton steps at most; stopping there raises a `ConvergenceWarning`.
    """

    def __init__(self, C: float = 1.0, tol: float = 1e-5, max_iter: int = 50) -> None:  # noqa: N803
        self.C = C
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X, y, sample_weight=None) -> LogisticProbe:  # noqa: N803
        import torch

        from probes.logistic import InMemory, fit_logistic, multinomial

        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], ensure_min_samples=2)  # noqa: N806
        if X.size > _SMALL:
            X = X.astype(np.float32, copy=False)  # noqa: N806
        codes = self._encode(y)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X)
        fit = fit_logistic(
            InMemory(torch.from_numpy(np.array(X, order="C"))),
            multinomial(
                codes[:, None], len(self.classes_), 1.0 / self.C, None if weights is None else weights[:, None]
            ),
            tolerance=self.tol,
            max_iterations=self.max_iter,
            scale_weights=None if weights is None else torch.from_numpy(weights),
        )
        self.coef_ = fit.coef[:, 0].T.double().numpy()
        self.intercept_ = fit.intercept[0].double().numpy()
        self.n_iter_ = int(fit.iterations[0])
        self.gradient_norm_ = float(fit.gradient[0])
        if not bool(fit.converged[0]):
            warnings.warn(
                f"the gradient norm is {self.gradient_norm_:.2g} after {self.n_iter_} steps, above tol={self.tol:g}; "
                "raise max_iter, or lower C if the classes are separable.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self


def _temperature(scores: np.ndarray, codes: np.ndarray) -> float:
    def loss(log_t: float) -> float:
        p = _softmax(np.exp(log_t) * scores)
        return -float(np.log(p[np.arange(len(codes)), codes].clip(1e-12)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-2.0, 5.0), method="bounded").x))


def _softmax(scores: np.ndarray) -> np.ndarray:
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
