"""Logistic regression for many targets at once: batched Newton steps with conjugate gradients.

Every target, strength, shuffled copy and row mask of an address shares the design matrix X. Their Newton systems are
therefore solved together: each conjugate-gradient step is two matrix products for all of them, and one
eigendecomposition of XᵀX preconditions them all. At the start every row has the same probabilities, and the first Newton
step is then exact without conjugate gradients. Every labelling reports its gradient norm and whether it converged.

References:
    Newton's method with conjugate gradients: Nocedal and Wright, "Numerical Optimization" (2006), algorithm 7.1.
    Forcing terms: Eisenstat and Walker, "Choosing the forcing terms in an inexact Newton method" (1996).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import UsageError
from probes.solvers.design import Design, InMemory, Rows, Streamed
from probes.solvers.likelihood import Labellings, Likelihood, binary, loss, multinomial

__all__ = ["InMemory", "Labellings", "LogisticFit", "Streamed", "binary", "fit_logistic", "multinomial"]

_CG_STEPS = 25
# Relative residual at which a Newton system counts as solved: near the optimum, and far from it.
_FORCING = (0.1, 0.3)
# Solved Newton systems are dropped once at most this share is still open.
_OPEN_SHARE = 0.7
_HALVINGS = 12


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


def fit_logistic(
    rows: Rows,
    labellings: Labellings,
    *,
    tolerance: float = 1e-5,
    max_iterations: int = 50,
    scale_weights: Float[Tensor, " rows"] | None = None,
) -> LogisticFit:
    """Fit all labellings together, each to a gradient norm of at most `tolerance`.

    Each labelling is the same model as scikit-learn's `StandardScaler` followed by `LogisticRegression`. The work is
    done on the device of the rows, and the fit stays there.

    Args:
        rows: The rows that all labellings share.
        labellings: Classes, penalties and row weights.
        tolerance: Norm of the gradient of the mean loss (per unit of weight) at which a labelling has converged.
        max_iterations: Newton steps at most.
        scale_weights: Weight of each row in the mean and standard deviation, shape (rows,); all 1 by default.

    Returns:
        The fits, with the gradient norm of each; a labelling that did not converge is marked, not dropped.

    Raises:
        UsageError: A row is not finite, or rows and labels differ in number.
    """
    if labellings.codes.shape[0] != rows.n:
        raise UsageError(f"expected labels for {rows.n} rows, got {labellings.codes.shape[0]}; give one for each row.")
    columns = labellings.codes.shape[1] * labellings.width
    design = Design(rows, scale_weights, columns)
    labellings = labellings.to(design.mean)
    state, gradient, iterations = _newton(design, labellings, tolerance, max_iterations)
    rotated_back = (design.vectors @ state.coef.flatten(1)).reshape(state.coef.shape)
    coef = rotated_back / design.scale[:, None, None]
    intercept = state.intercept - torch.einsum("d,dpw->pw", design.mean, coef)
    return LogisticFit(coef, intercept, gradient, gradient <= tolerance, iterations)


@dataclass
class _State:
    """Coefficients in the eigenbasis, and intercepts."""

    coef: Float[Tensor, "d labellings width"]
    intercept: Float[Tensor, "labellings width"]

    @classmethod
    def constant(cls, d: int, labellings: Labellings, dtype: torch.dtype) -> _State:
        """Return coefficients of 0, and for two classes intercepts that give their shares."""
        device, count = labellings.codes.device, labellings.codes.shape[1]
        intercept = torch.zeros(count, labellings.width, device=device, dtype=dtype)
        if labellings.width == 1:
            weights = torch.ones_like(labellings.codes) if labellings.weights is None else labellings.weights
            ones, mass = (labellings.codes * weights).sum(dim=0), weights.sum(dim=0)
            # One half of a row more in each class, so that a class without rows has a finite intercept.
            intercept = torch.logit((ones + 0.5) / (mass + 1)).to(dtype)[:, None]
        return cls(torch.zeros(d, count, labellings.width, device=device, dtype=dtype), intercept)


def _newton(
    design: Design, labellings: Labellings, tolerance: float, max_iterations: int
) -> tuple[_State, Tensor, Tensor]:
    """Take Newton steps for the labellings that have not converged, with a line search for each.

    Returns the final state, gradient norms and numbers of steps.
    """
    count, width, d = labellings.codes.shape[1], labellings.width, design.d
    start = _State.constant(d, labellings, design.dtype)
    coef, intercept = start.coef, start.intercept
    norms = torch.full((count,), float("inf"), device=coef.device, dtype=coef.dtype)
    iterations = torch.zeros(count, dtype=torch.long, device=coef.device)
    start_norms: Tensor | None = None
    active = torch.arange(count, device=coef.device)
    active_labellings = labellings
    logits = intercept.expand(design.n, count, width).clone()
    for iteration in range(max_iterations + 1):
        likelihood = Likelihood(active_labellings, logits)
        grad = design.transposed_times(likelihood.residual.reshape(design.n, -1)).reshape(d, len(active), width)
        grad += active_labellings.strength[None, :, None] * coef[:, active]
        grad_intercept = likelihood.residual.sum(dim=0)
        size = (grad.pow(2).sum(dim=(0, 2)) + grad_intercept.pow(2).sum(dim=1)).sqrt() / likelihood.mass
        norms[active] = size
        start_norms = size.clone() if start_norms is None else start_norms
        unsolved = size > tolerance
        if iteration == max_iterations or not unsolved.any():
            break
        if not unsolved.all():
            active, active_labellings = active[unsolved], active_labellings.of(labellings=unsolved)
            logits, grad, grad_intercept = logits[:, unsolved], grad[:, unsolved], grad_intercept[unsolved]
            likelihood = likelihood.of(unsolved)
        # Far from the optimum a rough step is as good as an exact one.
        forcing = (norms[active] / start_norms[active]).sqrt().clamp(*_FORCING)
        if iteration == 0 and labellings.weights is None:
            system = _System.of_likelihood(design, likelihood, active_labellings.strength)
            step, step_intercept = system.precondition(-grad, -grad_intercept)
            change = None
        else:
            step, step_intercept, change = _solve(design, active_labellings, likelihood, grad, grad_intercept, forcing)
        if change is None:
            change = design.times(step.flatten(1)).reshape(design.n, len(active), width) + step_intercept
        length = _line_search(
            active_labellings, logits, change, coef[:, active], step, grad, grad_intercept, step_intercept
        )
        coef[:, active] += length[None, :, None] * step
        intercept[active] += length[:, None] * step_intercept
        logits = logits + length[None, :, None] * change
        iterations[active] += 1
        if not (length > 0).any():
            break
    return _State(coef, intercept), norms, iterations


def _solve(
    design: Design,
    labellings: Labellings,
    likelihood: Likelihood,
    grad: Tensor,
    grad_intercept: Tensor,
    forcing: Float[Tensor, " labellings"],
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Solve the Newton systems of all labellings by conjugate gradients, preconditioned in the shared eigenbasis.

    A system is solved when its residual, in the preconditioner's norm, is at most `forcing` times the first. Solved
    systems are dropped once they are many. Returns the steps of coefficients and intercepts, and the change of the
    logits, which the products add up to; None where they are rough.
    """
    steps, steps_intercept = torch.zeros_like(grad), torch.zeros_like(grad_intercept)
    changes = torch.zeros_like(likelihood.p) if design.exact else None
    change = changes
    system = _System.of_likelihood(design, likelihood, labellings.strength)
    active = torch.arange(grad.shape[1], device=grad.device)
    x, xi = torch.zeros_like(grad), torch.zeros_like(grad_intercept)
    r, ri = -grad, -grad_intercept
    z, zi = system.precondition(r, ri)
    p, pi = z.clone(), zi.clone()
    rz = first = _dot(r, ri, z, zi)
    goal = forcing.square() * first
    for _ in range(_CG_STEPS):
        along = system.logits(p, pi)
        product, product_intercept = system.times(p, along)
        curvature = _dot(p, pi, product, product_intercept)
        alpha = torch.where(curvature > 0, rz / curvature.clamp(min=1e-30), 0.0)
        x, xi = x.addcmul_(alpha[:, None], p), xi.addcmul_(alpha[:, None], pi)
        if change is not None:
            change = change.addcmul_(alpha[:, None], along)
        r = r.addcmul_(alpha[:, None], product, value=-1)
        ri = ri.addcmul_(alpha[:, None], product_intercept, value=-1)
        z, zi = system.precondition(r, ri)
        new = _dot(r, ri, z, zi)
        unsolved = new > goal
        if not bool(unsolved.any()):
            break
        beta = torch.where(rz > 0, new / rz.clamp(min=1e-30), 0.0)
        p, pi, rz = z.addcmul(beta[:, None], p), zi.addcmul(beta[:, None], pi), new
        if unsolved.sum() <= _OPEN_SHARE * len(active):
            steps[:, active], steps_intercept[active] = x, xi
            if changes is not None and change is not None:
                if change is not changes:
                    changes[:, active] = change
                change = change[:, unsolved]
            active, system = active[unsolved], system.of(unsolved)
            x, r, p = x[:, unsolved], r[:, unsolved], p[:, unsolved]
            xi, ri, pi = xi[unsolved], ri[unsolved], pi[unsolved]
            rz, goal = rz[unsolved], goal[unsolved]
    steps[:, active], steps_intercept[active] = x, xi
    if changes is not None and change is not None and change is not changes:
        changes[:, active] = change
    return steps, steps_intercept, changes


@dataclass(frozen=True)
class _System:
    """The Newton systems of several labellings over one design, and their preconditioner.

    The preconditioner is the inverse of the curvature if every row had the mean curvature. Rows and classes then
    separate: rows are diagonal in the eigenbasis of the design, classes in the basis `classes`.
    """

    design: Design
    likelihood: Likelihood
    strength: Float[Tensor, " labellings"]
    classes: Float[Tensor, "labellings width width"]
    shrink: Float[Tensor, "d labellings width"]
    shrink_intercept: Float[Tensor, "labellings width"]

    @classmethod
    def of_likelihood(cls, design: Design, likelihood: Likelihood, strength: Tensor) -> _System:
        curvature, classes = likelihood.curvature()
        share = likelihood.mass / design.n
        ridge = strength[:, None].expand(curvature.shape)
        shrink = 1.0 / (design.values[:, None, None] * (curvature * share[:, None]) + ridge).clamp(min=1e-8)
        return cls(design, likelihood, strength, classes, shrink, 1.0 / (curvature * likelihood.mass[:, None]))

    def of(self, labellings: Tensor) -> _System:
        """Return the systems of some of the labellings."""
        return _System(
            self.design,
            self.likelihood.of(labellings),
            self.strength[labellings],
            self.classes[labellings],
            self.shrink[:, labellings],
            self.shrink_intercept[labellings],
        )

    def precondition(self, g: Tensor, gi: Tensor) -> tuple[Tensor, Tensor]:
        """Return the preconditioner times a vector of coefficients and intercepts."""
        if g.shape[2] == 1:
            return g * self.shrink, gi * self.shrink_intercept
        inner = torch.einsum("dpa,pab->dpb", g, self.classes) * self.shrink
        inner_intercept = torch.einsum("pa,pab->pb", gi, self.classes) * self.shrink_intercept
        return (
            torch.einsum("dpb,pab->dpa", inner, self.classes),
            torch.einsum("pb,pab->pa", inner_intercept, self.classes),
        )

    def logits(self, v: Tensor, vi: Tensor) -> Tensor:
        """Return the logits of a vector of coefficients and intercepts, shape (rows, labellings, width)."""
        return self.design.rough_times(v.flatten(1)).reshape(self.design.n, *v.shape[1:]) + vi

    def times(self, v: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Hessian of the objective times a vector of coefficients and intercepts, whose `logits` are given."""
        curved = self.likelihood.curve(logits)
        product = self.design.rough_transposed_times(curved.reshape(self.design.n, -1)).reshape(v.shape)
        return product.addcmul_(self.strength[:, None], v), curved.sum(dim=0)


def _dot(a: Tensor, ai: Tensor, b: Tensor, bi: Tensor) -> Float[Tensor, " labellings"]:
    return (a * b).sum(dim=(0, 2)) + (ai * bi).sum(dim=1)


def _line_search(
    labellings: Labellings,
    logits: Tensor,
    change: Tensor,
    coef: Tensor,
    step: Tensor,
    grad: Tensor,
    grad_intercept: Tensor,
    step_intercept: Tensor,
) -> Float[Tensor, " labellings"]:
    """Return for each labelling the longest of 1, 1/2, 1/4, … that lowers its objective enough (Armijo); 0 if none does.

    `change` is the change of the logits at the full step.
    """

    def objective(some: Labellings, logits: Tensor, coef: Tensor) -> Tensor:
        return loss(some, logits) + 0.5 * some.strength.double() * coef.double().pow(2).sum(dim=(0, 2))

    slope = ((grad * step).sum(dim=(0, 2)) + (grad_intercept * step_intercept).sum(dim=1)).double()
    before = objective(labellings, logits, coef)
    slack = torch.finfo(logits.dtype).eps * before.abs()  # smaller changes of the objective are rounding
    length = torch.ones(len(slope), dtype=torch.float64, device=logits.device)
    # Nearly every full step is enough, and picking labellings would copy the logits of all.
    settled = objective(labellings, logits + change, coef + step) <= before + 1e-4 * slope + slack
    for _ in range(_HALVINGS - 1):
        if bool(settled.all()):
            break
        length[~settled] *= 0.5
        unsettled = ~settled
        t = length[unsettled].to(logits.dtype)[None, :, None]
        after = objective(
            labellings.of(labellings=unsettled),
            logits[:, unsettled] + t * change[:, unsettled],
            coef[:, unsettled] + t * step[:, unsettled],
        )
        enough = after <= before[unsettled] + 1e-4 * length[unsettled] * slope[unsettled] + slack[unsettled]
        settled[unsettled] = enough
    length[~settled] = 0.0
    return length.to(logits.dtype)
