"""Logistic regression for many targets at once: batched Newton with conjugate gradients, one shared factorisation.

Every target, strength, shuffled copy and row mask of an address shares the design matrix X, so their Newton
systems are solved side by side: each conjugate-gradient step is two matrix products for all of them, and one
eigendecomposition of XᵀX preconditions them all. Where rows are many, a first pass over a sample of them gives
the start. Nothing is capped in silence: every problem reports its gradient norm and whether it converged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import UsageError
from probes.solvers.design import Design, InMemory, Rows, Streamed
from probes.solvers.likelihood import Likelihood, Problems, binary, loss, multinomial

__all__ = ["InMemory", "LogisticFit", "Problems", "Streamed", "binary", "fit_logistic", "multinomial"]

_WARM_SHARE = 8  # the first pass sees one row in this many
_CG_STEPS = 25
_FORCING = (0.1, 0.3)  # how far a Newton system is solved: close to the optimum, and far from it
_SHRINK = 0.7  # the share of Newton systems still open at which they go on without the others
_HALVINGS = 12


@dataclass(frozen=True)
class LogisticFit:
    """Coefficients for rows as they came (not standardised), and how each problem ended.

    `coef` is d x problems x width, `intercept` problems x width. `gradient` is the norm of each problem's
    gradient over its total weight, in standardised coordinates.
    """

    coef: Float[Tensor, "d problems width"]
    intercept: Float[Tensor, "problems width"]
    gradient: Float[Tensor, " problems"]
    converged: Tensor
    iterations: Int[Tensor, " problems"]

    def scores(self, rows: Float[Tensor, "rows d"]) -> Float[Tensor, "rows problems width"]:
        d, problems, width = self.coef.shape
        rows = rows.to(self.coef.device)
        return (rows @ self.coef.reshape(d, -1)).reshape(len(rows), problems, width) + self.intercept


def fit_logistic(
    rows: Rows,
    problems: Problems,
    *,
    tolerance: float = 1e-5,
    max_iterations: int = 50,
    scale_weights: Float[Tensor, " rows"] | None = None,
) -> LogisticFit:
    """Solve all problems to a gradient norm of at most `tolerance` (per unit of weight).

    Rows are standardised over all of them, or with `scale_weights`. The work is done where the rows lie, on a GPU if
    that is where they are, and the fit stays there. Raises `UsageError` when a row is not
    finite, with its number, or when shapes do not fit.
    """
    if problems.codes.shape[0] != rows.n:
        raise UsageError(f"{rows.n} rows came with labels for {problems.codes.shape[0]}.")
    columns = problems.codes.shape[1] * problems.width
    design = Design(rows, scale_weights, columns)
    problems = problems.to(design.mean)
    state = _State.zero(design.d, problems, design.dtype)
    sample = max(rows.n // _WARM_SHARE, 1)
    # Classes are coupled, so a sample of the rows gives many-class problems a poorer start than zero does.
    if problems.width == 1 and isinstance(rows, InMemory) and sample >= 4 * rows.d:
        chosen = torch.randperm(rows.n, generator=torch.Generator().manual_seed(0))[:sample]
        chosen = chosen.to(design.mean.device)
        part = problems.of(rows=chosen)
        scaled = Problems(part.codes, part.n_classes, part.strength * sample / rows.n, part.weights)
        state, *_ = _newton(design.sample(chosen), scaled, state, 1e-2, 6)
    state, gradient, iterations = _newton(design, problems, state, tolerance, max_iterations)
    turned = (design.vectors @ state.coef.reshape(design.d, -1)).reshape(state.coef.shape)
    coef = turned / design.scale[:, None, None]
    intercept = state.intercept - torch.einsum("d,dpw->pw", design.mean, coef)
    return LogisticFit(coef, intercept, gradient, gradient <= tolerance, iterations)


@dataclass
class _State:
    coef: Float[Tensor, "d problems width"]
    intercept: Float[Tensor, "problems width"]

    @classmethod
    def zero(cls, d: int, problems: Problems, dtype: torch.dtype) -> _State:
        device, count = problems.codes.device, problems.codes.shape[1]
        return cls(
            torch.zeros(d, count, problems.width, device=device, dtype=dtype),
            torch.zeros(count, problems.width, device=device, dtype=dtype),
        )


def _newton(
    design: Design, problems: Problems, start: _State, tolerance: float, max_iterations: int
) -> tuple[_State, Tensor, Tensor]:
    """Newton steps for the problems that have not converged, with a line search for each."""
    count, width, d = problems.codes.shape[1], problems.width, design.d
    coef, intercept = start.coef.clone(), start.intercept.clone()
    norms = torch.full((count,), float("inf"), device=coef.device, dtype=coef.dtype)
    iterations = torch.zeros(count, dtype=torch.long, device=coef.device)
    start_norms: Tensor | None = None
    active = torch.arange(count, device=coef.device)
    here = problems
    logits = intercept.expand(design.n, count, width).clone()
    if coef.any():
        logits = logits + design.times(coef.reshape(d, -1)).reshape(design.n, count, width)
    for iteration in range(max_iterations + 1):
        model = Likelihood(here, logits)
        grad = design.transposed_times(model.residual.reshape(design.n, -1)).reshape(d, len(active), width)
        grad += here.strength[None, :, None] * coef[:, active]
        grad_intercept = model.residual.sum(dim=0)
        size = (grad.pow(2).sum(dim=(0, 2)) + grad_intercept.pow(2).sum(dim=1)).sqrt() / model.mass
        norms[active] = size
        start_norms = size.clone() if start_norms is None else start_norms
        going = size > tolerance
        if iteration == max_iterations or not going.any():
            break
        if not going.all():
            active, here = active[going], here.of(problems=going)
            logits, grad, grad_intercept = logits[:, going], grad[:, going], grad_intercept[going]
            model = Likelihood(here, logits)
        # Far from the optimum a rough step is as good as an exact one (inexact Newton, Eisenstat & Walker 1996).
        forcing = (norms[active] / start_norms[active]).sqrt().clamp(*_FORCING)
        step, step_intercept = _solve(design, here, model, grad, grad_intercept, forcing)
        moved = design.times(step.reshape(d, -1)).reshape(design.n, len(active), width) + step_intercept
        length = _line_search(here, logits, moved, coef[:, active], step, grad, grad_intercept, step_intercept)
        coef[:, active] += length[None, :, None] * step
        intercept[active] += length[:, None] * step_intercept
        logits = logits + length[None, :, None] * moved
        iterations[active] += 1
        if not (length > 0).any():
            break
    return _State(coef, intercept), norms, iterations


def _solve(
    design: Design,
    problems: Problems,
    model: Likelihood,
    grad: Tensor,
    grad_intercept: Tensor,
    forcing: Float[Tensor, " problems"],
) -> tuple[Tensor, Tensor]:
    """Conjugate gradients on the Newton systems of all problems, preconditioned in the shared eigenbasis.

    A system is done when its residual, in the preconditioner's norm, is at most its `forcing` times the first. Once
    many are done, the others go on alone.
    """
    found, found_intercept = torch.zeros_like(grad), torch.zeros_like(grad_intercept)
    system = _System.of_model(design, model, problems.strength)
    at = torch.arange(grad.shape[1], device=grad.device)
    x, xi = torch.zeros_like(grad), torch.zeros_like(grad_intercept)
    r, ri = -grad, -grad_intercept
    z, zi = system.precondition(r, ri)
    p, pi = z.clone(), zi.clone()
    rz = first = _dot(r, ri, z, zi)
    goal = forcing.square() * first
    for _ in range(_CG_STEPS):
        bent, benti = system.times(p, pi)
        along = _dot(p, pi, bent, benti)
        alpha = torch.where(along > 0, rz / along.clamp(min=1e-30), 0.0)
        x, xi = x.addcmul_(alpha[:, None], p), xi.addcmul_(alpha[:, None], pi)
        r, ri = r.addcmul_(alpha[:, None], bent, value=-1), ri.addcmul_(alpha[:, None], benti, value=-1)
        z, zi = system.precondition(r, ri)
        new = _dot(r, ri, z, zi)
        open_ = new > goal
        if not bool(open_.any()):
            break
        beta = torch.where(rz > 0, new / rz.clamp(min=1e-30), 0.0)
        p, pi, rz = z.addcmul(beta[:, None], p), zi.addcmul(beta[:, None], pi), new
        if open_.sum() <= _SHRINK * len(at):
            found[:, at], found_intercept[at] = x, xi
            at, system = at[open_], system.of(open_)
            x, r, p = x[:, open_], r[:, open_], p[:, open_]
            xi, ri, pi = xi[open_], ri[open_], pi[open_]
            rz, goal = rz[open_], goal[open_]
    found[:, at], found_intercept[at] = x, xi
    return found, found_intercept


@dataclass(frozen=True)
class _System:
    """The Newton systems of several problems over one design, and their preconditioner.

    The preconditioner is the inverse of what the curvature would be had every row the mean one: then rows and classes
    come apart, rows in the eigenbasis in which the design lies, and classes in `classes`.
    """

    design: Design
    model: Likelihood
    strength: Float[Tensor, " problems"]
    classes: Float[Tensor, "problems width width"]
    shrink: Float[Tensor, "d problems width"]
    shrink_intercept: Float[Tensor, "problems width"]

    @classmethod
    def of_model(cls, design: Design, model: Likelihood, strength: Tensor) -> _System:
        curvature, classes = model.curvature()
        share = model.mass / design.n
        ridge = strength[:, None].expand(curvature.shape)
        shrink = 1.0 / (design.values[:, None, None] * (curvature * share[:, None]) + ridge).clamp(min=1e-8)
        return cls(design, model, strength, classes, shrink, 1.0 / (curvature * model.mass[:, None]))

    def of(self, problems: Tensor) -> _System:
        """The same for some of the problems."""
        return _System(
            self.design,
            self.model.of(problems),
            self.strength[problems],
            self.classes[problems],
            self.shrink[:, problems],
            self.shrink_intercept[problems],
        )

    def precondition(self, g: Tensor, gi: Tensor) -> tuple[Tensor, Tensor]:
        if g.shape[2] == 1:
            return g * self.shrink, gi * self.shrink_intercept
        inner = torch.einsum("dpa,pab->dpb", g, self.classes) * self.shrink
        inner_intercept = torch.einsum("pa,pab->pb", gi, self.classes) * self.shrink_intercept
        return (
            torch.einsum("dpb,pab->dpa", inner, self.classes),
            torch.einsum("pb,pab->pa", inner_intercept, self.classes),
        )

    def times(self, v: Tensor, vi: Tensor) -> tuple[Tensor, Tensor]:
        d, n = v.shape[0], self.design.n
        moved = self.design.rough_times(v.reshape(d, -1)).reshape(n, *v.shape[1:]) + vi
        bent = self.model.curve(moved)
        back = self.design.rough_transposed_times(bent.reshape(n, -1)).reshape(v.shape)
        return back.addcmul_(self.strength[:, None], v), bent.sum(dim=0)


def _dot(a: Tensor, ai: Tensor, b: Tensor, bi: Tensor) -> Float[Tensor, " problems"]:
    return (a * b).sum(dim=(0, 2)) + (ai * bi).sum(dim=1)


def _line_search(
    problems: Problems,
    logits: Tensor,
    moved: Tensor,
    coef: Tensor,
    step: Tensor,
    grad: Tensor,
    grad_intercept: Tensor,
    step_intercept: Tensor,
) -> Float[Tensor, " problems"]:
    """The longest of 1, 1/2, 1/4, … that lowers each problem's objective enough (Armijo); 0 where none does."""

    def objective(of: Problems, logits: Tensor, coef: Tensor) -> Tensor:
        return loss(of, logits) + 0.5 * of.strength.double() * coef.double().pow(2).sum(dim=(0, 2))

    slope = ((grad * step).sum(dim=(0, 2)) + (grad_intercept * step_intercept).sum(dim=1)).double()
    before = objective(problems, logits, coef)
    slack = torch.finfo(logits.dtype).eps * before.abs()  # no smaller change of the objective can be seen
    length = torch.ones(len(slope), dtype=torch.float64, device=logits.device)
    settled = torch.zeros(len(slope), dtype=torch.bool, device=logits.device)
    for _ in range(_HALVINGS):
        open_ = ~settled
        t = length[open_].to(logits.dtype)[None, :, None]
        after = objective(
            problems.of(problems=open_),
            logits[:, open_] + t * moved[:, open_],
            coef[:, open_] + t * step[:, open_],
        )
        enough = after <= before[open_] + 1e-4 * length[open_] * slope[open_] + slack[open_]
        settled[open_] = enough
        if bool(settled.all()):
            break
        length[~settled] *= 0.5
    length[~settled] = 0.0
    return length.to(logits.dtype)
