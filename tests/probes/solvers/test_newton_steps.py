"""The parts of the logistic solver: Newton systems, line search, first step, and device."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from probes.solvers import logistic
from probes.solvers.design import Design
from probes.solvers.likelihood import Likelihood
from probes.solvers.logistic import InMemory, Labellings, LogisticFit, binary, fit_logistic, multinomial

N, D, COUNT = 80, 5, 3


class Start(NamedTuple):
    """A design, three labellings that differ in everything, and parameters far from their optimum."""

    design: Design
    labellings: Labellings
    parameters: Tensor  # shape (d + 1, labellings, width), the intercepts last

    def logits(self, parameters: Tensor) -> Tensor:
        coef = parameters[:-1].reshape(D, -1)
        return self.design.times(coef).reshape(N, *parameters.shape[1:]) + parameters[-1]

    def objective(self, parameters: Tensor, k: int) -> Tensor:
        """The objective of labelling `k`, with its own `parameters` of shape (d + 1, width)."""
        logits = self.design.times(parameters[:-1]) + parameters[-1]
        if self.labellings.width == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        losses = torch.nn.functional.cross_entropy(logits, self.labellings.codes[:, k], reduction="none")
        assert self.labellings.weights is not None
        penalty = 0.5 * self.labellings.strength[k] * parameters[:-1].pow(2).sum()
        return (losses * self.labellings.weights[:, k]).sum() + penalty

    def gradient(self) -> Tensor:
        parts = [
            torch.func.grad(lambda parameters, k=k: self.objective(parameters, k))(self.parameters[:, k])
            for k in range(COUNT)
        ]
        return torch.stack(parts, dim=1)


@pytest.fixture(params=[2, 3, 4])
def start(request: pytest.FixtureRequest) -> Start:
    rng, classes = np.random.default_rng(0), request.param
    rows = rng.normal(size=(N, D)) * rng.uniform(0.2, 3, D) + rng.normal(size=D)
    scores = rows[:, None, :classes] * [[1.0], [-1.0], [0.2]] + rng.gumbel(size=(N, COUNT, classes))
    codes = (scores + np.arange(classes) * [[0.0], [1.0], [2.0]]).argmax(axis=2)
    labellings = multinomial(codes, classes, [0.1, 3.0, 40.0], rng.uniform(0.2, 3, size=(N, COUNT)))
    parameters = torch.from_numpy(rng.normal(size=(D + 1, COUNT, labellings.width)))
    return Start(Design(InMemory(torch.from_numpy(rows)), None), labellings, parameters)


def test_a_step_solves_the_newton_system_of_each_labelling(start: Start) -> None:
    gradient = start.gradient()
    likelihood = Likelihood(start.labellings, start.logits(start.parameters))
    forcing = torch.tensor([1e-7, 1e-3, 1e-9], dtype=torch.float64)
    step = torch.cat(
        [
            part.reshape(-1, *gradient.shape[1:])
            for part in logistic._solve(
                start.design, start.labellings, likelihood, gradient[:-1], gradient[-1], forcing
            )[:2]
        ]
    )
    for k in range(COUNT):
        hessian = torch.func.hessian(lambda parameters, k=k: start.objective(parameters, k))(start.parameters[:, k])
        product = torch.tensordot(hessian, step[:, k], 2)
        error = (product + gradient[:, k]).norm() / gradient[:, k].norm()
        assert error <= 10 * forcing[k], k


@pytest.mark.parametrize("scale", [1e-4, 0.02, 1.0, 300.0, -1.0])
def test_the_line_search_takes_the_first_half_that_lowers_the_objective_enough(start: Start, scale: float) -> None:
    """Steps down the gradient, short and far too long; the last goes up, and nothing of it is taken."""
    gradient, parameters = start.gradient(), start.parameters
    step = -scale * gradient * torch.tensor([1.0, 0.1, 0.01])[:, None]
    change = start.logits(parameters + step) - start.logits(parameters)
    lengths = logistic._line_search(
        start.labellings,
        start.logits(parameters),
        change,
        parameters[:-1],
        step[:-1],
        gradient[:-1],
        gradient[-1],
        step[-1],
    )
    for k in range(COUNT):
        before, slope = start.objective(parameters[:, k], k), (gradient[:, k] * step[:, k]).sum()
        tried = [0.5**halvings for halvings in range(logistic._HALVINGS)]
        enough = [
            t for t in tried if start.objective(parameters[:, k] + t * step[:, k], k) <= before + 1e-4 * t * slope
        ]
        assert lengths[k] == (enough[0] if enough else 0.0), k


@pytest.mark.parametrize("classes", [2, 3])
def test_the_first_step_is_exact_without_conjugate_gradients(monkeypatch: pytest.MonkeyPatch, classes: int) -> None:
    """Where every row has the same probabilities, the preconditioner is the inverse of the curvature."""
    rng = np.random.default_rng(0)
    rows = InMemory(torch.from_numpy(rng.normal(size=(400, D)) * rng.uniform(0.2, 3, D)))
    labellings = multinomial(rng.integers(0, classes, size=(400, COUNT)), classes, [0.1, 3.0, 40.0])
    first = fit_logistic(rows, labellings, max_iterations=1)

    def solve(*arguments: Tensor) -> tuple[Tensor, Tensor, None]:
        raise AssertionError("expected no conjugate gradients in the first step")

    monkeypatch.setattr(logistic, "_solve", solve)
    assert torch.equal(fit_logistic(rows, labellings, max_iterations=1).coef, first.coef)
    monkeypatch.undo()
    design = Design(rows, None)
    state = logistic._State.constant(D, labellings, torch.float64)
    likelihood = Likelihood(labellings, state.intercept.expand(400, COUNT, labellings.width))
    grad = design.transposed_times(likelihood.residual.reshape(400, -1)).reshape(D, COUNT, -1)
    exact, _, _ = logistic._solve(
        design, labellings, likelihood, grad, likelihood.residual.sum(dim=0), torch.full((COUNT,), 1e-9)
    )
    expected = torch.einsum("de,epw->dpw", design.vectors, exact) / design.scale[:, None, None]
    torch.testing.assert_close(first.coef, expected)


def test_a_class_without_rows_has_a_finite_fit() -> None:
    rows = InMemory(torch.from_numpy(np.random.default_rng(0).normal(size=(50, D))))
    fit = fit_logistic(rows, binary(np.zeros((50, 1)), 1.0), max_iterations=100)
    assert torch.isfinite(fit.coef).all() and torch.isfinite(fit.intercept).all() and fit.intercept[0, 0] < -4


def test_the_change_of_the_logits_is_that_of_the_step(start: Start) -> None:
    """It is added up from the products of all conjugate-gradient steps, also of systems that end early."""
    gradient = start.gradient()
    likelihood = Likelihood(start.labellings, start.logits(start.parameters))
    forcing = torch.tensor([1e-7, 0.5, 1e-3], dtype=torch.float64)
    step, step_intercept, change = logistic._solve(
        start.design, start.labellings, likelihood, gradient[:-1], gradient[-1], forcing
    )
    expected = start.logits(torch.cat([step, step_intercept[None]]))
    torch.testing.assert_close(change, expected)


@pytest.mark.parametrize(("n", "classes"), [(60, 2), (60, 3), (400, 2)])
def test_fits_are_made_on_the_device_of_the_rows_whatever_the_default(n: int, classes: int) -> None:
    rng = np.random.default_rng(1)
    rows = InMemory(torch.from_numpy(rng.normal(size=(n, 4)).astype(np.float32)))
    labellings = multinomial(rng.integers(0, classes, size=(n, 2)), classes)
    expected = fit_logistic(rows, labellings)
    with torch.device("meta"):  # a tensor that is made on the default device holds nothing
        fit = fit_logistic(rows, labellings)
    assert torch.equal(fit.coef, expected.coef) and torch.equal(fit.intercept, expected.intercept)
    assert torch.equal(fit.gradient, expected.gradient) and torch.equal(fit.iterations, expected.iterations)


def test_rows_are_scored_on_the_device_of_the_fit() -> None:
    norms, steps = torch.zeros(2, device="meta"), torch.zeros(2, device="meta", dtype=torch.int64)
    fit = LogisticFit(torch.zeros(4, 2, 3, device="meta"), torch.zeros(2, 3, device="meta"), norms, norms < 1, steps)
    scores = fit.scores(torch.zeros(5, 4))
    assert scores.device.type == "meta" and scores.shape == (5, 2, 3)
