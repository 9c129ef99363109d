"""Logistic regression for many targets at once: batched Newton with conjugate gradients, one shared factorisation.

Every target, strength, shuffled copy and row mask of an address shares the design matrix X, so their Newton
systems are solved side by side: each conjugate-gradient step is two matrix products for all of them, and one
eigendecomposition of XᵀX preconditions them all. Where rows are many, a first pass over a sample of them gives
the start. Nothing is capped in silence: every problem reports its gradient norm and whether it converged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import UsageError
from probes.rows import Design, InMemory, Rows, Streamed

__all__ = ["InMemory", "LogisticFit", "Problems", "Streamed", "binary", "fit_logistic", "multinomial"]

_WARM_SHARE = 8  # the first pass sees one row in this many
_CG_STEPS = 12
_CG_TOLERANCE = 1e-3
_HALVINGS = 12


@dataclass(frozen=True)
class Problems:
    """Several targets over the same rows, all binary or all with the same number of classes.

    `codes` is rows x problems: 0 or 1, or the class from 0. `strength` is the L2 penalty of each problem: the
    objective is the weighted sum of log-losses plus strength/2 times the squared norm of the coefficients of the
    standardised rows (scikit-learn's 1/C). Intercepts are free. `weights` is rows x problems, 0 leaves a row out.
    """

    codes: Int[Tensor, "rows problems"]
    n_classes: int
    strength: Float[Tensor, " problems"]
    weights: Float[Tensor, "rows problems"] | None = None

    @property
    def width(self) -> int:
        """Columns of coefficients: one for a binary problem, one for each class otherwise."""
        return 1 if self.n_classes == 2 else self.n_classes

    def to(self, dtype: torch.dtype) -> Problems:
        """The same with strengths and weights in `dtype`."""
        weights = None if self.weights is None else self.weights.to(dtype)
        return Problems(self.codes, self.n_classes, self.strength.to(dtype), weights)

    def of(self, rows: Tensor | None = None, problems: Tensor | None = None) -> Problems:
        """The same for some of the rows or some of the problems."""
        codes, weights, strength = self.codes, self.weights, self.strength
        if rows is not None:
            codes = codes[rows]
            weights = None if weights is None else weights[rows]
        if problems is not None:
            codes, strength = codes[:, problems], strength[problems]
            weights = None if weights is None else weights[:, problems]
        return Problems(codes, self.n_classes, strength, weights)


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

    Rows are standardised over all of them, or with `scale_weights`. Raises `UsageError` when a row is not
    finite, with its number, or when shapes do not fit.
    """
    if problems.codes.shape[0] != rows.n:
        raise UsageError(f"{rows.n} rows came with labels for {problems.codes.shape[0]}.")
    design = Design(rows, scale_weights)
    problems = problems.to(design.dtype)
    state = _State.zero(design.d, problems, design.dtype)
    sample = max(rows.n // _WARM_SHARE, 1)
    # Classes are coupled, so a sample of the rows gives many-class problems a poorer start than zero does.
    if problems.width == 1 and isinstance(rows, InMemory) and sample >= 4 * rows.d:
        chosen = torch.randperm(rows.n, generator=torch.Generator().manual_seed(0))[:sample]
        part = problems.of(rows=chosen)
        scaled = Problems(part.codes, part.n_classes, part.strength * sample / rows.n, part.weights)
        state, *_ = _newton(design.sample(chosen), scaled, state, 1e-2, 6)
    state, gradient, iterations = _newton(design, problems, state, tolerance, max_iterations)
    coef = state.coef / design.scale[:, None, None]
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
    active = torch.arange(count, device=coef.device)
    here = problems
    logits = design.times(coef.reshape(d, -1)).reshape(design.n, count, width) + intercept
    for iteration in range(max_iterations + 1):
        model = _Likelihood(here, logits)
        grad = design.transposed_times(model.residual.reshape(design.n, -1)).reshape(d, len(active), width)
        grad += here.strength[None, :, None] * coef[:, active]
        grad_intercept = model.residual.sum(dim=0)
        size = (grad.pow(2).sum(dim=(0, 2)) + grad_intercept.pow(2).sum(dim=1)).sqrt() / model.mass
        norms[active] = size
        going = size > tolerance
        if iteration == max_iterations or not going.any():
            break
        if not going.all():
            active, here = active[going], here.of(problems=going)
            logits, grad, grad_intercept = logits[:, going], grad[:, going], grad_intercept[going]
            model = _Likelihood(here, logits)
        step, step_intercept = _solve(design, here, model, grad, grad_intercept)
        moved = design.times(step.reshape(d, -1)).reshape(design.n, len(active), width) + step_intercept
        length = _line_search(here, model, logits, moved, coef[:, active], step, grad, grad_intercept, step_intercept)
        coef[:, active] += length[None, :, None] * step
        intercept[active] += length[:, None] * step_intercept
        logits = logits + length[None, :, None] * moved
        iterations[active] += 1
        if not (length > 0).any():
            break
    return _State(coef, intercept), norms, iterations


class _Likelihood:
    """Probabilities at some logits, and the residuals and curvature that follow from them."""

    def __init__(self, problems: Problems, logits: Float[Tensor, "rows problems width"]) -> None:
        self.problems = problems
        self.weights = problems.weights
        self.p = torch.sigmoid(logits) if problems.width == 1 else torch.softmax(logits, dim=2)
        self.residual = self._weighted(self.p - _targets(problems).to(logits.dtype))
        self.mass = torch.full((logits.shape[1],), float(len(logits)), device=logits.device, dtype=logits.dtype)
        if self.weights is not None:
            self.mass = self.weights.sum(dim=0).clamp(min=1e-12)

    def curve(self, moved: Float[Tensor, "rows problems width"]) -> Float[Tensor, "rows problems width"]:
        """The second derivative of the loss times a change of the logits."""
        if self.problems.width == 1:
            return self._weighted(self.p * (1 - self.p) * moved)
        along = self.p * moved
        return self._weighted(along - self.p * along.sum(dim=2, keepdim=True))

    def curvature(self) -> Float[Tensor, "problems width"]:
        """The mean curvature of each column, for the preconditioner."""
        return (self._weighted(self.p * (1 - self.p)).sum(dim=0) / self.mass[:, None]).clamp(min=1e-6)

    def _weighted(self, values: Tensor) -> Tensor:
        return values if self.weights is None else values * self.weights[:, :, None]


def _targets(problems: Problems) -> Int[Tensor, "rows problems width"]:
    if problems.width == 1:
        return problems.codes[:, :, None]
    return torch.nn.functional.one_hot(problems.codes, problems.n_classes)


def _loss(problems: Problems, logits: Float[Tensor, "rows problems width"]) -> Float[Tensor, " problems"]:
    """The weighted sum of log-losses of each problem, added up in float64."""
    if problems.width == 1:
        z = logits[:, :, 0]
        each = torch.nn.functional.softplus(z) - problems.codes * z
    else:
        each = torch.logsumexp(logits, dim=2) - logits.gather(2, problems.codes[:, :, None])[:, :, 0]
    if problems.weights is not None:
        each = each * problems.weights
    return each.sum(dim=0, dtype=torch.float64)


def _solve(
    design: Design, problems: Problems, model: _Likelihood, grad: Tensor, grad_intercept: Tensor
) -> tuple[Tensor, Tensor]:
    """Conjugate gradients on the Newton systems of all problems, preconditioned in the shared eigenbasis."""
    d, count, width = grad.shape
    curvature = model.curvature()
    ridge = problems.strength[:, None].expand(count, width)
    share = model.mass / design.n
    shrink = 1.0 / (design.values[:, None, None] * (curvature * share[:, None]) + ridge).clamp(min=1e-8)
    shrink_intercept = 1.0 / (curvature * model.mass[:, None])

    def precondition(g: Tensor, gi: Tensor) -> tuple[Tensor, Tensor]:
        rotated = (design.vectors.T @ g.reshape(d, -1)).reshape(d, count, width) * shrink
        return (design.vectors @ rotated.reshape(d, -1)).reshape(d, count, width), gi * shrink_intercept

    def curve(v: Tensor, vi: Tensor) -> tuple[Tensor, Tensor]:
        moved = design.times(v.reshape(d, -1)).reshape(design.n, count, width) + vi
        bent = model.curve(moved)
        back = design.transposed_times(bent.reshape(design.n, -1)).reshape(d, count, width)
        return back + problems.strength[None, :, None] * v, bent.sum(dim=0)

    def dot(a: Tensor, ai: Tensor, b: Tensor, bi: Tensor) -> Tensor:
        return (a * b).sum(dim=(0, 2)) + (ai * bi).sum(dim=1)

    x, xi = torch.zeros_like(grad), torch.zeros_like(grad_intercept)
    r, ri = -grad, -grad_intercept
    z, zi = precondition(r, ri)
    p, pi = z.clone(), zi.clone()
    rz = first = dot(r, ri, z, zi)
    for _ in range(_CG_STEPS):
        bent, benti = curve(p, pi)
        along = dot(p, pi, bent, benti)
        alpha = torch.where(along > 0, rz / along.clamp(min=1e-30), 0.0)
        x, xi = x + alpha[:, None] * p, xi + alpha[:, None] * pi
        r, ri = r - alpha[:, None] * bent, ri - alpha[:, None] * benti
        z, zi = precondition(r, ri)
        new = dot(r, ri, z, zi)
        if bool((new <= _CG_TOLERANCE * first).all()):
            break
        beta = torch.where(rz > 0, new / rz.clamp(min=1e-30), 0.0)
        p, pi, rz = z + beta[:, None] * p, zi + beta[:, None] * pi, new
    return x, xi


def _line_search(
    problems: Problems,
    model: _Likelihood,
    logits: Tensor,
    moved: Tensor,
    coef: Tensor,
    step: Tensor,
    grad: Tensor,
    grad_intercept: Tensor,
    step_intercept: Tensor,
) -> Float[Tensor, " problems"]:
    """The longest of 1, 1/2, 1/4, … that lowers each problem's objective enough (Armijo); 0 where none does."""
    strength = problems.strength.double()

    def penalty(at: Tensor) -> Tensor:
        return 0.5 * strength * at.double().pow(2).sum(dim=(0, 2))

    slope = ((grad * step).sum(dim=(0, 2)) + (grad_intercept * step_intercept).sum(dim=1)).double()
    before = _loss(problems, logits) + penalty(coef)
    slack = torch.finfo(logits.dtype).eps * before.abs()  # no smaller change of the objective can be seen
    length = torch.ones(len(slope), dtype=torch.float64, device=logits.device)
    settled = torch.zeros(len(slope), dtype=torch.bool, device=logits.device)
    for _ in range(_HALVINGS):
        open_ = ~settled
        t = length[open_].to(logits.dtype)
        part = problems.of(problems=open_)
        after = _loss(part, logits[:, open_] + t[None, :, None] * moved[:, open_])
        after = after + 0.5 * strength[open_] * (coef[:, open_] + t[None, :, None] * step[:, open_]).double().pow(
            2
        ).sum(dim=(0, 2))
        enough = after <= before[open_] + 1e-4 * length[open_] * slope[open_] + slack[open_]
        settled[open_] = enough
        if bool(settled.all()):
            break
        length[~settled] *= 0.5
    length[~settled] = 0.0
    return length.to(logits.dtype)


def binary(labels: Sequence[Sequence[int]] | np.ndarray, strength: float | Sequence[float] = 1.0) -> Problems:
    """Binary problems from a rows x problems array of 0 and 1."""
    codes = torch.as_tensor(np.asarray(labels), dtype=torch.long)
    return Problems(codes, 2, _strengths(strength, codes.shape[1]))


def multinomial(
    codes: np.ndarray, n_classes: int, strength: float | Sequence[float] = 1.0, weights: np.ndarray | None = None
) -> Problems:
    """Problems with `n_classes` classes each, from a rows x problems array of class numbers."""
    made = torch.as_tensor(np.asarray(codes), dtype=torch.long)
    given = None if weights is None else torch.as_tensor(np.asarray(weights, np.float64))
    return Problems(made, n_classes, _strengths(strength, made.shape[1]), given)


def _strengths(strength: float | Sequence[float], count: int) -> Tensor:
    return torch.as_tensor(np.broadcast_to(np.asarray(strength, np.float64), count).copy())
