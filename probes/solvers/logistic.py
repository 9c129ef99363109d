"""Logistic regression for many targets at once: batched Newton steps with conjugate gradients.

Every target, strength, shuffled copy and row mask of an address shares the design matrix X. Their Newton systems are
therefore solved together: each conjugate-gradient step is two matrix products for all of them, and one
eigendecomposition of XᵀX preconditions them all. At the start every row has the same probabilities, and the first Newton
step is then exact without conjugate gradients. Every labelling reports its gradient norm and whether it converged.

The steps are those of `probes.solvers.newton`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import UsageError
from probes.solvers.design import Design, InMemory, Rows, Streamed
from probes.solvers.likelihood import Labellings, binary, multinomial
from probes.solvers.newton import Parameters, Point, newton, norms

__all__ = [
    "Design",
    "InMemory",
    "Labellings",
    "LogisticFit",
    "Streamed",
    "binary",
    "fit_logistic",
    "multinomial",
    "rotated_back",
]


@dataclass(frozen=True)
class LogisticFit:
    """Fitted logistic regressions for rows that are not standardised.

    Attributes:
        coef: Coefficients, shape (d, labellings, width); width is 1 for two classes, else the number of classes.
        intercept: Intercepts, shape (labellings, width).
        gradient: Norm of each labelling's gradient over its total weight, in standardised coordinates,
            shape (labellings,).
        converged: Whether that norm is at most the tolerance, shape (labellings,).
        iterations: Newton steps of each labelling, shape (labellings,).
    """

    coef: Float[Tensor, "d labellings width"]
    intercept: Float[Tensor, "labellings width"]
    gradient: Float[Tensor, " labellings"]
    converged: Tensor
    iterations: Int[Tensor, " labellings"]

    def scores(self, rows: Float[Tensor, "rows d"]) -> Float[Tensor, "rows labellings width"]:
        """Return the logits of each row in each labelling.

        Args:
            rows: Rows in their original units, shape (rows, d).

        Returns:
            Logits, shape (rows, labellings, width).
        """
        labellings, width = self.coef.shape[1:]
        rows = rows.to(self.coef.device)
        return (rows @ self.coef.flatten(1)).reshape(len(rows), labellings, width) + self.intercept

    def of(self, labellings: Tensor) -> LogisticFit:
        """Return the fits of some of the labellings: their indices or a mask."""
        return LogisticFit(
            self.coef[:, labellings],
            self.intercept[labellings],
            self.gradient[labellings],
            self.converged[labellings],
            self.iterations[labellings],
        )


def fit_logistic(
    rows: Rows | Design,
    labellings: Labellings,
    *,
    tolerance: float = 1e-5,
    max_iterations: int = 50,
    scale_weights: Float[Tensor, " rows"] | None = None,
    start: LogisticFit | None = None,
) -> LogisticFit:
    """Fit all labellings together, each to a gradient norm of at most `tolerance`.

    Each labelling is the same model as scikit-learn's `StandardScaler` followed by `LogisticRegression`. The work is
    done on the device of the rows, and the fit stays there.

    Args:
        rows: The rows that all labellings share, or their design, where several fits share it.
        labellings: Classes, penalties and row weights.
        tolerance: Norm of the gradient of the mean loss (per unit of weight) at which a labelling has converged.
        max_iterations: Newton steps at most.
        scale_weights: Weight of each row in the mean and standard deviation, shape (rows,); all 1 by default. A design
            has its own.
        start: A fit of the same labellings to begin from, such as one with another penalty.

    Returns:
        The fits, with the gradient norm of each; a labelling that did not converge is marked, not dropped.

    Raises:
        UsageError: A row is not finite, or rows and labels differ in number.
    """
    if labellings.codes.shape[1] != rows.n:
        raise UsageError(f"expected labels for {rows.n} rows, got {labellings.codes.shape[1]}; give one for each row.")
    if not isinstance(rows, Design):
        rows = Design(rows, scale_weights, len(labellings) * labellings.width)
    labellings = labellings.to(rows.mean)
    begin = None if start is None else Point.at(rows, labellings, _to_eigenbasis(rows, start))
    point, iterations = newton(rows, begin, labellings, tolerance, max_iterations)
    gradient = norms(point.gradient(rows), point)
    return LogisticFit(*rotated_back(rows, point.parameters), gradient, gradient <= tolerance, iterations)


def rotated_back(
    design: Design, parameters: Parameters
) -> tuple[Float[Tensor, "d labellings width"], Float[Tensor, "labellings width"]]:
    """Return coefficients and intercepts for rows in their original units of parameters in a design's eigenbasis.

    Args:
        design: The design.
        parameters: Its parameters, shape (labellings, width, d + 1).

    Returns:
        Coefficients, shape (d, labellings, width), and intercepts, shape (labellings, width).
    """
    coef = (parameters[:, :, :-1] @ design.vectors.T) / design.scale
    return coef.permute(2, 0, 1), parameters[:, :, -1] - coef @ design.mean


def _to_eigenbasis(design: Design, fit: LogisticFit) -> Parameters:
    """Return the parameters of a fit for the standardised rows in the eigenbasis."""
    coef = fit.coef.permute(1, 2, 0)
    intercept = fit.intercept + coef @ design.mean
    return torch.cat([(coef * design.scale) @ design.vectors, intercept[:, :, None]], dim=2)
