"""Linear probes that are solved: ridge regression and logistic regression."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from probes.estimators.base import SMALL, LinearProbe, softmax, temperature
from probes.solvers.ridge import STRENGTHS, fit_ridge, one_hot

__all__ = ["LogisticProbe", "RidgeProbe", "softmax", "temperature"]


class RidgeProbe(LinearProbe):
    """Ridge regression onto one-hot labels, with the strength chosen by exact leave-one-out error.

    Probabilities are a softmax of the scores at a temperature that minimises the leave-one-out log-loss, so
    they are fitted on predictions that never saw their own row.

    Parameters
    ----------
    strengths : regularisation strengths to choose from, relative to the mean eigenvalue of XᵀX.
    """

    fitted_shapes: ClassVar = {**LinearProbe.fitted_shapes, "temperature_": (), "strength_": ()}

    def __init__(self, strengths: tuple[float, ...] = STRENGTHS) -> None:
        self.strengths = strengths

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RidgeProbe:  # noqa: N803
        """Fit to rows, labels and, where given, row weights. Leaving one out leaves out one unit of weight."""
        X, codes, weights = self._begin(X, y, sample_weight)  # noqa: N806
        targets = one_hot(codes, np.arange(len(self.classes_)))
        fit = fit_ridge(X, [targets], self.strengths, weights, precise=X.size <= SMALL)
        coef = (fit.coef / fit.scale[:, None]).T
        self._set(coef, fit.intercept - coef @ fit.mean)
        self.strength_ = float(fit.strength[0])
        self.temperature_ = temperature(fit.held_out, codes, weights)
        return self


class LogisticProbe(LinearProbe):
    """Logistic regression, binary or multinomial, on standardised rows, by the batched solver.

    The same model as scikit-learn's `StandardScaler` followed by `LogisticRegression(C=C)`; `coef_` and
    `intercept_` are for rows as they come.

    Parameters
    ----------
    C : inverse strength of the L2 penalty on the coefficients of the standardised rows.
    tol : norm of the gradient of the mean loss at which the solver stops.
    max_iter : Newton steps at most; stopping there raises a `ConvergenceWarning`.
    """

    fitted_shapes: ClassVar = {**LinearProbe.fitted_shapes, "n_iter_": (), "gradient_norm_": ()}

    def __init__(self, C: float = 1.0, tol: float = 1e-5, max_iter: int = 50) -> None:  # noqa: N803
        self.C = C
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LogisticProbe:  # noqa: N803
        """Fit to rows, labels and, where given, row weights."""
        import torch

        from probes.solvers.logistic import InMemory, fit_logistic, multinomial

        X, codes, weights = self._begin(X, y, sample_weight, dtype=[np.float64, np.float32])  # noqa: N806
        if X.size > SMALL:
            X = X.astype(np.float32, copy=False)  # noqa: N806
        fit = fit_logistic(
            InMemory(torch.from_numpy(np.array(X, order="C"))),
            multinomial(
                codes[:, None], len(self.classes_), 1.0 / self.C, None if weights is None else weights[:, None]
            ),
            tolerance=self.tol,
            max_iterations=self.max_iter,
            scale_weights=None if weights is None else torch.from_numpy(weights),
        )
        self._set(fit.coef[:, 0].T.double().numpy(), fit.intercept[0].double().numpy())
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
