"""Logistic regression for many targets at once: batched Newton steps with conjugate gradients.

Every target, strength, shuffled copy and row mask of an address shares the design matrix X. Their Newton systems are
therefore solved together: each conjugate-gradient step is two matrix products for all of them, and one
eigendecomposition of XᵀX preconditions them all. With many rows, a first pass over a sample of them gives the start.
Every labelling reports its gradient norm and whether it converged.

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

# The first pass sees one row in this many.
_WARM_SHARE = 8
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
    state = _State.zero(design.d, labellings, design.dtype)
    sample = max(rows.n // _WARM_SHARE, 1)
    # Classes are coupled, so a sample of the rows is a worse start than zero for labellings with many classes.
    if labellings.width == 1 and isinstance(rows, InMemory) and sample >= 4 * rows.d:
        # On the CPU whatever the default device, so that the sample is the same everywhere.
        chosen = torch.randperm(rows.n, generator=torch.Generator("cpu").manual_seed(0), device="cpu")[:sample]
        chosen = chosen.to(design.mean.device)
        part = labellings.of(rows=chosen)
        scaled = Labellings(part.codes, part.n_classes, part.strength * sample / rows.n, part.weights)
        state, *_ = _newton(design.sample(chosen), scaled, state, 1e-2, 6)
    state, gradient, iterations = _newton(design, labellings, state, tolerance, max_iterations)
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
    def zero(cls, d: int, labellings: Labellings, dtype: torch.dtype) -> _State:
        device, count = labellings.codes.device, labellings.codes.shape[1]
        return cls(
            torch.zeros(d, count, labellings.width, device=device, dtype=dtype),
            torch.zeros(count, labellings.width, device=device, dtype=dtype),
        )


def _newton(
    design: Design, labellings: Labellings, start: _State, tolerance: float, max_iterations: int
) -> tuple[_State, Tensor, Tensor]:
    """Take Newton steps for the labellings that have not converged, with a line search for each.

    Returns the final state, gradient norms and numbers of steps.
    """
    count, width, d = labellings.codes.shape[1], labellings.width, design.d
    coef, intercept = start.coef.clone(), start.intercept.clone()
    norms = torch.full((count,), float("inf"), device=coef.device, dtype=coef.dtype)
    iterations = torch.zeros(count, dtype=torch.long, device=coef.device)
    start_norms: Tensor | None = None
    active = torch.arange(count, device=coef.device)
    active_labellings = labellings
    logits = intercept.expand(design.n, count, width).clone()
    if coef.any():
        logits = logits + design.times(coef.flatten(1)).reshape(design.n, count, width)
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
            likelihood = Likelihood(active_labellings, logits)
        # Far from the optimum a rough step is as good as an exact one.
        forcing = (norms[active] / start_norms[active]).sqrt().clamp(*_FORCING)
        step, step_intercept = _solve(design, active_labellings, likelihood, grad, grad_intercept, forcing)
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
) -> tuple[Tensor, Tensor]:
    """Solve the Newton systems of all labellings by conjugate gradients, preconditioned in the shared eigenbasis.

    A system is solved when its residual, in the preconditioner's norm, is at most `forcing` times the first. Solved
    systems are dropped once they are many. Returns the steps of coefficients and intercepts.
    """
    steps, steps_intercept = torch.zeros_like(grad), torch.zeros_like(grad_intercept)
    system = _System.of_likelihood(design, likelihood, labellings.strength)
    active = torch.arange(grad.shape[1], device=grad.device)
    x, xi = torch.zeros_like(grad), torch.zeros_like(grad_intercept)
    r, ri = -grad, -grad_intercept
    z, zi = system.precondition(r, ri)
    p, pi = z.clone(), zi.clone()
    rz = first = _dot(r, ri, z, zi)
    goal = forcing.square() * first
    for _ in range(_CG_STEPS):
        product, product_intercept = system.times(p, pi)
        curvature = _dot(p, pi, product, product_intercept)
        alpha = torch.where(curvature > 0, rz / curvature.clamp(min=1e-30), 0.0)
        x, xi = x.addcmul_(alpha[:, None], p), xi.addcmul_(alpha[:, None], pi)
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
            active, system = active[unsolved], system.of(unsolved)
            x, r, p = x[:, unsolved], r[:, unsolved], p[:, unsolved]
            xi, ri, pi = xi[unsolved], ri[unsolved], pi[unsolved]
            rz, goal = rz[unsolved], goal[unsolved]
    steps[:, active], steps_intercept[active] = x, xi
    return steps, steps_intercept


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

    def times(self, v: Tensor, vi: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Hessian of the objective times a vector of coefficients and intercepts."""
        n = self.design.n
        change = self.design.rough_times(v.flatten(1)).reshape(n, *v.shape[1:]) + vi
        curved = self.likelihood.curve(change)
        product = self.design.rough_transposed_times(curved.reshape(n, -1)).reshape(v.shape)
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
    settled = torch.zeros(len(slope), dtype=torch.bool, device=logits.device)
    for _ in range(_HALVINGS):
        unsettled = ~settled
        t = length[unsettled].to(logits.dtype)[None, :, None]
        after = objective(
            labellings.of(labellings=unsettled),
            logits[:, unsettled] + t * change[:, unsettled],
            coef[:, unsettled] + t * step[:, unsettled],
        )
        enough = after <= before[unsettled] + 1e-4 * length[unsettled] * slope[unsettled] + slack[unsettled]
        settled[unsettled] = enough
        if bool(settled.all()):
            break
        length[~settled] *= 0.5
    length[~settled] = 0.0
    return length.to(logits.dtype)
