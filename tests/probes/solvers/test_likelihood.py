"""Losses, residuals and curvature of several labellings against PyTorch's cross-entropy and automatic derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from probes.solvers.likelihood import Labellings, Likelihood, binary, multinomial


def labellings(classes: int, weighted: bool, rows: int = 30, count: int = 3) -> Labellings:
    rng = np.random.default_rng(classes)
    codes = rng.integers(0, classes, (rows, count))
    weights = rng.choice([0.0, 0.5, 1.0, 3.0], (rows, count)) if weighted else None
    return multinomial(codes, classes, [0.5, 1.0, 2.0], weights)


def logits_for(some: Labellings, seed: int = 0) -> Tensor:
    shape = (len(some), some.width, some.codes.shape[1])
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference_loss(some: Labellings, logits: Tensor) -> Tensor:
    """The same losses by `torch.nn.functional.cross_entropy`, one labelling at a time."""
    if some.width == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    totals = []
    for k in range(len(some)):
        losses = torch.nn.functional.cross_entropy(logits[k].T, some.codes[k], reduction="none")
        totals.append((losses if some.weights is None else losses * some.weights[k]).sum())
    return torch.stack(totals)


cases = pytest.mark.parametrize(("classes", "weighted"), [(2, False), (2, True), (4, False), (4, True)])


@cases
def test_the_loss_is_pytorchs_cross_entropy(classes: int, weighted: bool) -> None:
    some = labellings(classes, weighted)
    logits = logits_for(some)
    torch.testing.assert_close(Likelihood(some, logits).loss, reference_loss(some, logits), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_loss_is_finite_for_extreme_logits(classes: int) -> None:
    some = labellings(classes, False)
    logits = logits_for(some) * 1e3
    torch.testing.assert_close(Likelihood(some, logits).loss, reference_loss(some, logits), rtol=1e-10, atol=1e-8)


@cases
def test_the_residual_is_the_gradient_of_the_loss(classes: int, weighted: bool) -> None:
    some = labellings(classes, weighted)
    logits = logits_for(some).requires_grad_()
    (gradient,) = torch.autograd.grad(reference_loss(some, logits).sum(), logits)
    likelihood = Likelihood(some, logits.detach())
    torch.testing.assert_close(likelihood.residual, gradient, rtol=1e-10, atol=1e-12)


@cases
def test_curve_is_the_second_derivative_times_a_change(classes: int, weighted: bool) -> None:
    some = labellings(classes, weighted)
    logits, change = logits_for(some), logits_for(some, seed=1)
    _, product = torch.autograd.functional.hvp(lambda z: reference_loss(some, z).sum(), logits, change)
    torch.testing.assert_close(Likelihood(some, logits).curve(change), product, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("weighted", [False, True])
def test_curvature_times_a_change_is_exact_where_classes_are_equally_likely(weighted: bool) -> None:
    some = labellings(4, weighted)
    likelihood = Likelihood(some, torch.zeros_like(logits_for(some)))
    change = logits_for(some, seed=1)
    change = change - change.mean(dim=1, keepdim=True)  # all changes add up to 0 over classes
    weights = 1.0 if some.weights is None else some.weights[:, None]
    torch.testing.assert_close(likelihood.curve(change), weights * likelihood.curvature()[:, :, None] * change)


def test_curvature_of_two_classes_is_the_mean_variance() -> None:
    some = labellings(2, True)
    likelihood = Likelihood(some, logits_for(some))
    p = likelihood.p[:, 0]
    assert some.weights is not None
    expected = (some.weights * p * (1 - p)).sum(dim=1) / some.weights.sum(dim=1)
    torch.testing.assert_close(likelihood.curvature()[:, 0], expected)


def test_a_class_that_a_labelling_does_not_have_changes_nothing() -> None:
    """With the intercept that such a class has, everything is as with the other classes alone."""
    three = labellings(3, False)
    logits = logits_for(three)
    present = torch.tensor([True, True, True, False]).expand(3, 4)
    padded = Labellings(three.codes, 4, three.strength, present=present)
    absent = torch.full((3, 1, logits.shape[2]), -1e4, dtype=torch.float64)
    alone, with_absent = Likelihood(three, logits), Likelihood(padded, torch.cat([logits, absent], dim=1))
    torch.testing.assert_close(with_absent.loss, alone.loss)
    torch.testing.assert_close(with_absent.residual[:, :3], alone.residual)
    torch.testing.assert_close(with_absent.curvature()[:, :3], alone.curvature())
    assert (with_absent.residual[:, 3] == 0).all() and (with_absent.p[:, 3] == 0).all()


def test_mass_is_the_total_weight() -> None:
    unweighted, weighted = labellings(3, False), labellings(3, True)
    assert Likelihood(unweighted, logits_for(unweighted)).mass.tolist() == [30.0, 30.0, 30.0]
    assert weighted.weights is not None
    torch.testing.assert_close(Likelihood(weighted, logits_for(weighted)).mass, weighted.weights.sum(dim=1))


@cases
def test_some_of_the_labellings_are_those_labellings(classes: int, weighted: bool) -> None:
    some = labellings(classes, weighted)
    logits = logits_for(some)
    kept = torch.tensor([True, False, True])
    part = Likelihood(some, logits).of(kept)
    fresh = Likelihood(some.of(kept), logits[kept])
    change = logits_for(some, seed=1)[kept]
    torch.testing.assert_close(part.p, fresh.p)
    torch.testing.assert_close(part.residual, fresh.residual)
    torch.testing.assert_close(part.mass, fresh.mass)
    torch.testing.assert_close(part.loss, fresh.loss)
    torch.testing.assert_close(part.curve(change), fresh.curve(change))
    assert part.labellings.strength.tolist() == [0.5, 2.0]


def test_another_penalty_changes_nothing_else() -> None:
    some = labellings(3, True)
    likelihood = Likelihood(some, logits_for(some))
    other = likelihood.with_labellings(some.with_strength(7.0))
    assert other.labellings.strength.tolist() == [7.0, 7.0, 7.0] and some.strength.tolist() == [0.5, 1.0, 2.0]
    assert other.residual is likelihood.residual and torch.equal(other.labellings.codes, some.codes)


def test_to_takes_the_dtype_of_another_tensor() -> None:
    converted = labellings(3, True).to(torch.zeros(1, dtype=torch.float32))
    assert converted.weights is not None
    assert converted.strength.dtype == converted.weights.dtype == torch.float32
    assert converted.codes.dtype == torch.long


def test_one_strength_is_for_all_labellings() -> None:
    assert binary([[0, 1], [1, 0]], 3.0).strength.tolist() == [3.0, 3.0]
    assert binary([[0, 1], [1, 0]], [1.0, 2.0]).strength.tolist() == [1.0, 2.0]
    assert binary([[0], [1]]).width == 1 and multinomial(np.zeros((2, 1), int), 5).width == 5
