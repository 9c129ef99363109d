"""Linear probes: ridge regression and logistic regression."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from probes.estimators.base import SMALL, LinearProbe, Probe, softmax, temperature
from probes.solvers.ridge import STRENGTHS, fit_ridge, one_hot

__all__ = ["LOGISTIC_STRENGTHS", "LogisticProbe", "RidgeProbe", "softmax", "temperature"]

# Penalties to choose from on validation, for standardised rows (scikit-learn's 1/C).
LOGISTIC_STRENGTHS = (1.0, 10.0, 100.0)


class RidgeProbe(LinearProbe):
    """Ridge regression onto one-hot labels.

    The strength minimises the exact leave-one-out squared error. Probabilities are a softmax of the scores at the
    temperature that minimises the leave-one-out log-loss, so they are calibrated on predictions of rows left out.

    Args:
        strengths: Regularisation strengths to choose from, relative to the mean eigenvalue of XᵀX.

    Attributes:
        strength_: The chosen strength, absolute.
        temperature_: Factor on the scores.
    """

    fitted_shapes: ClassVar = {**LinearProbe.fitted_shapes, "temperature_": (), "strength_": ()}

    def __init__(self, strengths: tuple[float, ...] = STRENGTHS) -> None:
        self.strengths = strengths

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RidgeProbe:  # noqa: N803
        """Fit the probe.

        Args:
            X: Rows, shape (rows, features).
            y: Class labels, shape (rows,).
            sample_weight: Weight of each row, shape (rows,). Leaving a row out removes one unit of its weight.

        Returns:
            The fitted probe itself.
        """
        X, codes, weights = self._validate_fit(X, y, sample_weight)  # noqa: N806
        targets = one_hot(codes, np.arange(len(self.classes_)))
        fit = fit_ridge(X, [targets], self.strengths, weights, precise=X.size <= SMALL)
        coef = (fit.coef / fit.scale[:, None]).T
        self._set(coef, fit.intercept - coef @ fit.mean)
        self.strength_ = float(fit.strength[0])
        self.temperature_ = temperature(fit.held_out, codes, weights)
        return self


class LogisticProbe(LinearProbe):
    """Logistic regression, binary or multinomial, on standardised rows.

    The same model as scikit-learn's `StandardScaler` followed by `LogisticRegression(C=C)`, fitted by the batched
    solver. `coef_` and `intercept_` are for rows that are not standardised.

    Args:
        C: Inverse strength of the L2 penalty on the coefficients of the standardised rows.
        tol: Norm of the gradient of the mean loss at which the solver stops.
        max_iter: Newton steps at most; stopping there raises a `ConvergenceWarning`.

    Attributes:
        n_iter_: Newton steps taken.
        gradient_norm_: Norm of the gradient of the mean loss at the solution.
    """

    fitted_shapes: ClassVar = {**LinearProbe.fitted_shapes, "n_iter_": (), "gradient_norm_": ()}

    def __init__(self, C: float = 1.0, tol: float = 1e-5, max_iter: int = 50) -> None:  # noqa: N803
        self.C = C
        self.tol = tol
        self.max_iter = max_iter

    @classmethod
    def variants(cls) -> list[Probe]:
        """Return one probe for each of `LOGISTIC_STRENGTHS`."""
        return [cls(C=1.0 / strength) for strength in LOGISTIC_STRENGTHS]

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LogisticProbe:  # noqa: N803
        """Fit the probe.

        Args:
            X: Rows, shape (rows, features).
            y: Class labels, shape (rows,).
            sample_weight: Weight of each row, shape (rows,).

        Returns:
            The fitted probe itself.
        """
        import torch

        from probes.solvers.logistic import InMemory, fit_logistic, multinomial

        X, codes, weights = self._validate_fit(X, y, sample_weight, dtype=[np.float64, np.float32])  # noqa: N806
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
