"""Newton steps with conjugate gradients for many labellings of the same rows.

References:
    Newton's method with conjugate gradients: Nocedal and Wright, "Numerical Optimization" (2006), algorithm 7.1.
    Forcing terms: Eisenstat and Walker, "Choosing the forcing terms in an inexact Newton method" (1996).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probes.solvers.design import Design
from probes.solvers.likelihood import Labellings, Likelihood

# Coefficients in the eigenbasis and, last, intercepts; or a gradient by them, or a change of them.
Parameters = Float[Tensor, "labellings width parameters"]
Logits = Float[Tensor, "labellings width rows"]
OfEach = Float[Tensor, " labellings"]

_CG_STEPS = 25
# Relative residual at which a Newton system counts as solved: near the optimum, and far from it.
_FORCING = (0.1, 0.3)
# Solved Newton systems are dropped once at most this share is still open.
_OPEN_SHARE = 0.7
_HALVINGS = 12
# Intercept of a class that a labelling does not have; in float32 its probability is exactly 0.
_ABSENT = -1e4


@dataclass
class Point:
    """Parameters of several labellings and what follows from them.

    Attributes:
        labellings: The labellings.
        parameters: The parameters, shape (labellings, width, d + 1).
        logits: Logits of the rows, shape (labellings, width, rows).
        slope: Gradient of the losses by the parameters, without the penalty; None until it is computed.
    """

    labellings: Labellings
    parameters: Parameters
    logits: Logits
    slope: Parameters | None = None

    @classmethod
    def at(cls, design: Design, labellings: Labellings, parameters: Parameters) -> Point:
        """Return the point at these parameters."""
        logits = design.times(parameters.flatten(0, 1)).unflatten(0, parameters.shape[:2])
        return cls(labellings, parameters, logits)

    @cached_property
    def likelihood(self) -> Likelihood:
        """Losses and their derivatives at these logits."""
        return Likelihood(self.labellings, self.logits)

    def of(self, labellings: Tensor) -> Point:
        """Return the point of some of the labellings."""
        slope = None if self.slope is None else self.slope[labellings]
        part = Point(self.labellings.of(labellings), self.parameters[labellings], self.logits[labellings], slope)
        if "likelihood" in self.__dict__:
            part.__dict__["likelihood"] = self.likelihood.of(labellings)
        return part

    def with_strength(self, strength: float) -> Point:
        """Return the same point under another penalty, the same for all labellings."""
        other = Point(self.labellings.with_strength(strength), self.parameters, self.logits, self.slope)
        if "likelihood" in self.__dict__:
            other.__dict__["likelihood"] = self.likelihood.with_labellings(other.labellings)
        return other

    def put(self, labellings: Tensor, part: Point) -> None:
        """Replace some of the labellings, in place; the likelihood is computed again where it is asked for."""
        self.parameters[labellings], self.logits[labellings] = part.parameters, part.logits
        if self.slope is not None and part.slope is not None:
            self.slope[labellings] = part.slope
        else:
            self.slope = None
        self.__dict__.pop("likelihood", None)

    def copy(self) -> Point:
        """Return a point whose parameters, logits and slope may be replaced."""
        slope = None if self.slope is None else self.slope.clone()
        return Point(self.labellings, self.parameters.clone(), self.logits.clone(), slope)

    def moved(self, length: OfEach, step: Parameters, change: Logits) -> Point:
        """Return the point after a share of a step, whose whole changes the logits by `change`."""
        share = length[:, None, None]
        return Point(self.labellings, self.parameters.addcmul(share, step), self.logits.addcmul(share, change))

    def objective(self) -> OfEach:
        """Return the penalised loss of each labelling, in float64."""
        coef = self.parameters[:, :, :-1].double()
        return self.likelihood.loss + 0.5 * self.labellings.strength.double() * coef.square().sum(dim=(1, 2))

    def gradient(self, design: Design) -> Parameters:
        """Return the gradient of the objective."""
        if self.slope is None:
            residual = self.likelihood.residual
            self.slope = design.transposed_times(residual.flatten(0, 1)).reshape(self.parameters.shape)
        return _add_penalty(self.slope.clone(), self.labellings.strength, self.parameters)


def constant(design: Design, labellings: Labellings) -> Point:
    """Return the point with coefficients of 0, and intercepts with which every row has the same probabilities.

    Two classes have their shares; more classes are equally likely.
    """
    device, count = labellings.codes.device, len(labellings)
    parameters = torch.zeros(count, labellings.width, design.d + 1, device=device, dtype=design.dtype)
    if labellings.width == 1:
        weights = torch.ones_like(labellings.codes) if labellings.weights is None else labellings.weights
        ones, mass = (labellings.codes * weights).sum(dim=1), weights.sum(dim=1)
        # One half of a row more in each class, so that a class without rows has a finite intercept.
        parameters[:, 0, -1] = torch.logit((ones + 0.5) / (mass + 1)).to(design.dtype)
    elif labellings.present is not None:
        parameters[:, :, -1][~labellings.present] = _ABSENT
    logits = parameters[:, :, -1:].expand(-1, -1, design.n)
    return Point(labellings, parameters, logits)


def newton(
    design: Design, start: Point | None, labellings: Labellings, tolerance: float, max_iterations: int
) -> tuple[Point, Int[Tensor, " labellings"]]:
    """Take Newton steps for the labellings that have not converged, with a line search for each.

    Args:
        design: The rows.
        start: Where to begin; at constant probabilities by default.
        labellings: The labels of the rows.
        tolerance: Norm of the gradient of the mean loss at which a labelling has converged.
        max_iterations: Newton steps at most.

    Returns:
        The point reached, and the number of steps of each labelling.
    """
    # Where every row has the same probabilities and weight, the preconditioner is the inverse of the curvature.
    exact_start = start is None and labellings.weights is None
    point = constant(design, labellings) if start is None else start
    iterations = torch.zeros(len(labellings), dtype=torch.long, device=point.parameters.device)
    active = torch.arange(len(labellings), device=iterations.device)
    whole, first = None, torch.zeros(())
    for iteration in range(max_iterations):
        gradient = point.gradient(design)
        size = norms(gradient, point)
        first = size if iteration == 0 else first
        unsolved = (size > tolerance).nonzero()[:, 0]
        if not len(unsolved):
            break
        if len(unsolved) < len(active):
            whole = _with(whole, active, point)
            active, point = active[unsolved], point.of(unsolved)
            gradient, size, first = gradient[unsolved], size[unsolved], first[unsolved]
        system = System.at(design, point.likelihood)
        if iteration == 0 and exact_start:
            step, change = -gradient * system.inverse, None
        else:
            # Far from the optimum a rough step is as good as an exact one.
            step, change = solve(system, gradient, (size / first).sqrt().clamp(*_FORCING))
        if change is None:
            change = design.times(step.flatten(0, 1)).reshape(point.logits.shape)
        point, length = line_search(point, gradient, step, change)
        iterations[active] += 1
        if not bool((length > 0).any()):
            break
    return (point if whole is None else _with(whole, active, point)), iterations


def norms(gradient: Parameters, point: Point) -> OfEach:
    """Return the norm of the gradient of each labelling's mean loss."""
    return _dot(gradient, gradient).sqrt() / point.labellings.mass.to(gradient)


def _with(whole: Point | None, active: Tensor, point: Point) -> Point:
    """Return the point of all labellings, some of which have moved to `point`."""
    if whole is None:
        return point.copy()
    whole.put(active, point)
    return whole


@dataclass(frozen=True)
class System:
    """The Newton systems of several labellings over one design, and their preconditioner.

    Attributes:
        design: The rows.
        likelihood: The losses, at the point where the step begins.
        inverse: The preconditioner, which is diagonal in the eigenbasis of the design: the inverse of the curvature if
            every row had the mean curvature; shape (labellings, width, d + 1).
    """

    design: Design
    likelihood: Likelihood
    inverse: Parameters

    @classmethod
    def at(cls, design: Design, likelihood: Likelihood) -> System:
        """Return the systems at a point."""
        curvature = likelihood.curvature() * (likelihood.mass / design.n)[:, None]
        # The rows' sum is 0 in every feature, so the ones of the intercept are one more eigenvector.
        values = torch.nn.functional.pad(design.values, (0, 1), value=float(design.n))
        diagonal = curvature[:, :, None] * values
        diagonal[:, :, :-1] += likelihood.labellings.strength[:, None, None]
        return cls(design, likelihood, diagonal.clamp_(min=1e-8).reciprocal_())

    def of(self, labellings: Tensor) -> System:
        """Return the systems of some of the labellings."""
        return System(self.design, self.likelihood.of(labellings), self.inverse[labellings])

    def logits(self, direction: Parameters) -> Logits:
        """Return the change of the logits along a direction."""
        return self.design.rough_times(direction.flatten(0, 1)).unflatten(0, direction.shape[:2])

    def times(self, direction: Parameters, logits: Logits) -> Parameters:
        """Return the Hessian of the objective times a direction, whose `logits` are given."""
        curved = self.likelihood.curve(logits)
        out = self.design.rough_transposed_times(curved.flatten(0, 1)).reshape(direction.shape)
        return _add_penalty(out, self.likelihood.labellings.strength, direction)


def solve(system: System, gradient: Parameters, forcing: OfEach) -> tuple[Parameters, Logits | None]:
    """Solve the Newton systems of all labellings by conjugate gradients, preconditioned in the shared eigenbasis.

    Args:
        system: The systems.
        gradient: Gradient of the objective.
        forcing: A system is solved when its residual, in the preconditioner's norm, is at most this share of the first.
            Solved systems are dropped once they are many.

    Returns:
        The steps, and the change of the logits, which the products add up to; None where they are rough.
    """
    steps, active = torch.zeros_like(gradient), torch.arange(len(gradient), device=gradient.device)
    changes = torch.zeros_like(system.likelihood.p) if system.design.exact else None
    step, change = steps, changes
    residual = -gradient
    direction = preconditioned = residual * system.inverse
    size = _dot(residual, preconditioned)
    goal = forcing.square() * size
    for _ in range(_CG_STEPS):
        along = system.logits(direction)
        product = system.times(direction, along)
        curvature = _dot(direction, product)
        length = torch.where(curvature > 0, size / curvature.clamp(min=1e-30), 0.0)[:, None, None]
        step = step.addcmul(length, direction)
        if change is not None:
            change = change.addcmul(length, along)
        residual = residual.addcmul_(length, product, value=-1)
        preconditioned = residual * system.inverse
        before, size = size, _dot(residual, preconditioned)
        unsolved = (size > goal).nonzero()[:, 0]
        if not len(unsolved):
            break
        ratio = torch.where(before > 0, size / before.clamp(min=1e-30), 0.0)[:, None, None]
        direction = preconditioned.addcmul_(ratio, direction)
        if len(unsolved) <= _OPEN_SHARE * len(active):
            steps[active] = step
            if changes is not None and change is not None:
                changes[active] = change
                change = change[unsolved]
            active, system, step = active[unsolved], system.of(unsolved), step[unsolved]
            residual, direction = residual[unsolved], direction[unsolved]
            size, goal = size[unsolved], goal[unsolved]
    if len(active) == len(steps):
        return step, change
    steps[active] = step
    if changes is not None and change is not None:
        changes[active] = change
    return steps, changes


def line_search(point: Point, gradient: Parameters, step: Parameters, change: Logits) -> tuple[Point, OfEach]:
    """Take for each labelling the longest of 1, 1/2, 1/4, … of a step that lowers its objective enough (Armijo).

    Args:
        point: Where the step begins.
        gradient: Gradient of the objective there.
        step: The whole step.
        change: Change of the logits at the whole step.

    Returns:
        The point reached, and the share of the step taken; 0 where none lowers the objective enough.
    """
    slope, before = _dot(gradient, step).double(), point.objective()
    slack = torch.finfo(point.logits.dtype).eps * before.abs()  # smaller changes of the objective are rounding
    length = torch.ones_like(point.likelihood.mass)
    reached = point.moved(length, step, change)
    settled = reached.objective() <= before + 1e-4 * slope + slack
    # Nearly every full step is enough, and picking labellings would copy the logits of all.
    if bool(settled.all()):
        return reached, length
    for _ in range(_HALVINGS - 1):
        open_ = (~settled).nonzero()[:, 0]
        length[open_] *= 0.5
        tried = point.of(open_).moved(length[open_], step[open_], change[open_])
        settled[open_] = tried.objective() <= before[open_] + 1e-4 * length[open_] * slope[open_] + slack[open_]
        if bool(settled.all()):
            break
    length[~settled] = 0.0
    return point.moved(length, step, change), length


def _add_penalty(out: Parameters, strength: OfEach, parameters: Parameters) -> Parameters:
    """Add the gradient of the penalty, in place; intercepts are not penalised."""
    out[:, :, :-1].addcmul_(strength[:, None, None], parameters[:, :, :-1])
    return out


def _dot(a: Parameters, b: Parameters) -> OfEach:
    return torch.linalg.vecdot(a.flatten(1), b.flatten(1))
