"""The parts of the logistic solver: Newton systems, line search, first step, and device."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from probes.solvers import newton
from probes.solvers.design import Design
from probes.solvers.logistic import InMemory, Labellings, LogisticFit, binary, fit_logistic, multinomial, rotated_back

N, D, COUNT = 80, 5, 3


class Start(NamedTuple):
    """A design, three labellings that differ in everything, and parameters far from their optimum."""

    design: Design
    labellings: Labellings
    parameters: Tensor  # shape (labellings, width, d + 1), the intercepts last

    def logits(self, parameters: Tensor) -> Tensor:
        return self.design.times(parameters.flatten(0, 1)).reshape(*parameters.shape[:2], N)

    def objective(self, parameters: Tensor, k: int) -> Tensor:
        """The objective of labelling `k`, with its own `parameters` of shape (width, d + 1)."""
        logits = self.design.times(parameters).T
        if self.labellings.width == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        losses = torch.nn.functional.cross_entropy(logits, self.labellings.codes[k], reduction="none")
        assert self.labellings.weights is not None
        penalty = 0.5 * self.labellings.strength[k] * parameters[:, :-1].pow(2).sum()
        return (losses * self.labellings.weights[k]).sum() + penalty

    def point(self) -> newton.Point:
        return newton.Point.at(self.design, self.labellings, self.parameters)

    def gradient(self) -> Tensor:
        parts = [
            torch.func.grad(lambda parameters, k=k: self.objective(parameters, k))(self.parameters[k])
            for k in range(COUNT)
        ]
        return torch.stack(parts)


@pytest.fixture(params=[2, 3, 4])
def start(request: pytest.FixtureRequest) -> Start:
    rng, classes = np.random.default_rng(0), request.param
    rows = rng.normal(size=(N, D)) * rng.uniform(0.2, 3, D) + rng.normal(size=D)
    scores = rows[:, None, :classes] * [[1.0], [-1.0], [0.2]] + rng.gumbel(size=(N, COUNT, classes))
    codes = (scores + np.arange(classes) * [[0.0], [1.0], [2.0]]).argmax(axis=2)
    labellings = multinomial(codes, classes, [0.1, 3.0, 40.0], rng.uniform(0.2, 3, size=(N, COUNT)))
    parameters = torch.from_numpy(rng.normal(size=(COUNT, labellings.width, D + 1)))
    return Start(Design(InMemory(torch.from_numpy(rows)), None), labellings, parameters)


def test_a_step_solves_the_newton_system_of_each_labelling(start: Start) -> None:
    gradient = start.gradient()
    forcing = torch.tensor([1e-7, 1e-3, 1e-9], dtype=torch.float64)
    step, _ = newton.solve(newton.System.at(start.design, start.point().likelihood), gradient, forcing)
    for k in range(COUNT):
        hessian = torch.func.hessian(lambda parameters, k=k: start.objective(parameters, k))(start.parameters[k])
        product = torch.tensordot(hessian, step[k], 2)
        error = (product + gradient[k]).norm() / gradient[k].norm()
        assert error <= 10 * forcing[k], k


@pytest.mark.parametrize("scale", [1e-4, 0.02, 1.0, 300.0, -1.0])
def test_the_line_search_takes_the_first_half_that_lowers_the_objective_enough(start: Start, scale: float) -> None:
    """Steps down the gradient, short and far too long; the last goes up, and nothing of it is taken."""
    gradient, parameters = start.gradient(), start.parameters
    step = -scale * gradient * torch.tensor([1.0, 0.1, 0.01])[:, None, None]
    change = start.logits(parameters + step) - start.logits(parameters)
    reached, lengths = newton.line_search(start.point(), gradient, step, change)
    torch.testing.assert_close(reached.parameters, parameters + lengths[:, None, None] * step)
    torch.testing.assert_close(reached.logits, start.logits(reached.parameters))
    for k in range(COUNT):
        before, slope = start.objective(parameters[k], k), (gradient[k] * step[k]).sum()
        tried = [0.5**halvings for halvings in range(newton._HALVINGS)]
        enough = [t for t in tried if start.objective(parameters[k] + t * step[k], k) <= before + 1e-4 * t * slope]
        assert lengths[k] == (enough[0] if enough else 0.0), k


@pytest.mark.parametrize("classes", [2, 3])
def test_the_first_step_is_exact_without_conjugate_gradients(monkeypatch: pytest.MonkeyPatch, classes: int) -> None:
    """Where every row has the same probabilities, the preconditioner is the inverse of the curvature."""
    rng = np.random.default_rng(0)
    rows = InMemory(torch.from_numpy(rng.normal(size=(400, D)) * rng.uniform(0.2, 3, D)))
    labellings = multinomial(rng.integers(0, classes, size=(400, COUNT)), classes, [0.1, 3.0, 40.0])
    first = fit_logistic(rows, labellings, max_iterations=1)

    def solve(*arguments: Tensor) -> tuple[Tensor, None]:
        raise AssertionError("expected no conjugate gradients in the first step")

    monkeypatch.setattr(newton, "solve", solve)
    assert torch.equal(fit_logistic(rows, labellings, max_iterations=1).coef, first.coef)
    monkeypatch.undo()
    design = Design(rows, None)
    point = newton.constant(design, labellings)
    system = newton.System.at(design, point.likelihood)
    exact, _ = newton.solve(system, point.gradient(design), torch.full((COUNT,), 1e-9))
    expected = (exact[:, :, :-1] @ design.vectors.T / design.scale).permute(2, 0, 1)
    torch.testing.assert_close(first.coef, expected)


def test_a_class_without_rows_has_a_finite_fit() -> None:
    rows = InMemory(torch.from_numpy(np.random.default_rng(0).normal(size=(50, D))))
    fit = fit_logistic(rows, binary(np.zeros((50, 1)), 1.0), max_iterations=100)
    assert torch.isfinite(fit.coef).all() and torch.isfinite(fit.intercept).all() and fit.intercept[0, 0] < -4


def test_the_change_of_the_logits_is_that_of_the_step(start: Start) -> None:
    """It is added up from the products of all conjugate-gradient steps, also of systems that end early."""
    forcing = torch.tensor([1e-7, 0.5, 1e-3], dtype=torch.float64)
    step, change = newton.solve(newton.System.at(start.design, start.point().likelihood), start.gradient(), forcing)
    torch.testing.assert_close(change, start.logits(step))


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


@pytest.mark.parametrize("classes", [2, 3])
def test_fits_go_on_under_another_penalty_where_they_stopped(classes: int) -> None:
    """Those that converge early are kept beside those that go on, with the gradient that each has."""
    rng = np.random.default_rng(0)
    design = Design(InMemory(torch.from_numpy(rng.normal(size=(300, D)) * rng.uniform(0.2, 3, D))), None)
    clear = (design.times(torch.eye(D + 1, dtype=torch.float64)[:classes]) * 5).argmax(dim=0)
    codes = np.stack([clear.numpy(), rng.integers(0, classes, 300), rng.integers(0, classes, 300)], axis=1)
    strong = multinomial(codes, classes, 50.0).to(design.mean)
    point, steps = newton.newton(design, None, strong, 1e-7, 50)
    assert len(set(steps.tolist())) > 1, "all labellings take as many steps, so nothing is kept"
    fresh = newton.Point.at(design, strong, point.parameters)
    torch.testing.assert_close(point.logits, fresh.logits)
    torch.testing.assert_close(point.gradient(design), fresh.gradient(design))
    weak, _ = newton.newton(design, point.with_strength(2.0), strong.with_strength(2.0), 1e-9, 50)
    expected = fit_logistic(design, multinomial(codes, classes, 2.0), tolerance=1e-9)
    torch.testing.assert_close(rotated_back(design, weak.parameters)[0], expected.coef)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_fit_that_begins_at_the_optimum_stays_there(classes: int) -> None:
    rng = np.random.default_rng(0)
    rows = InMemory(torch.from_numpy(rng.normal(size=(200, D)) * rng.uniform(0.2, 3, D) + 4))
    labellings = multinomial(rng.integers(0, classes, size=(200, COUNT)), classes, [0.1, 3.0, 40.0])
    fit = fit_logistic(rows, labellings, tolerance=1e-9)
    again = fit_logistic(rows, labellings, tolerance=1e-8, start=fit)
    assert (again.iterations == 0).all() and (fit.iterations > 0).all()
    torch.testing.assert_close(again.coef, fit.coef)
    torch.testing.assert_close(again.intercept, fit.intercept)


def test_a_labelling_of_fewer_classes_beside_others_is_fitted_as_alone() -> None:
    rng = np.random.default_rng(0)
    rows = InMemory(torch.from_numpy(rng.normal(size=(300, D))))
    codes = np.stack([rng.integers(0, size, 300) for size in (3, 4, 1)], axis=1)
    present = torch.arange(4)[None] < torch.tensor([3, 4, 1])[:, None]
    padded = Labellings(torch.from_numpy(codes.T.copy()), 4, torch.ones(3, dtype=torch.float64), present=present)
    together = fit_logistic(rows, padded, tolerance=1e-9)
    assert together.converged.all()
    for k, size in enumerate((3, 4)):
        alone = fit_logistic(rows, multinomial(codes[:, [k]], size), tolerance=1e-9)
        torch.testing.assert_close(together.coef[:, k, :size], alone.coef[:, 0])
    scores = together.scores(rows.rows)
    assert (scores[:, 0].softmax(dim=1)[:, 3] == 0).all() and (scores[:, 2].softmax(dim=1)[:, 0] == 1).all()
