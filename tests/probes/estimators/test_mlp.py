"""MLPProbe learns classes that are not linear, stops early on validation rows, and is reproducible."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from interp.errors import UsageError
from probes import LogisticProbe, MLPProbe
from probes.estimators.training import validation_rows


@parametrize_with_checks([MLPProbe(hidden=8, epochs=40, learning_rate=0.05)])
def test_scikit_learns_contract(estimator, check) -> None:
    check(estimator)


def exclusive_or(n: int, d: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return rows whose class is whether two signs agree, which is not linear in the rows."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return x, np.where(x[:, 0] * x[:, 1] > 0, "agree", "differ")


@pytest.fixture(scope="module")
def fitted() -> MLPProbe:
    return MLPProbe(hidden=32, learning_rate=0.01).fit(*exclusive_or(1200))


def test_it_reads_a_class_that_is_not_linear(fitted: MLPProbe) -> None:
    x, y = exclusive_or(1200)
    new, gold = exclusive_or(1000, seed=1)
    assert LogisticProbe().fit(x, y).score(new, gold) < 0.6
    assert fitted.score(new, gold) > 0.85


def test_probabilities_agree_with_predictions_and_with_the_log_loss_it_stopped_at(fitted: MLPProbe) -> None:
    new, gold = exclusive_or(1000, seed=1)
    p = fitted.predict_proba(new)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert (fitted.classes_[p.argmax(axis=1)] == fitted.predict(new)).all()
    loss = -np.log(p[np.arange(1000), np.searchsorted(fitted.classes_, gold)]).mean()
    assert loss == pytest.approx(fitted.validation_loss_, abs=0.1)


def test_it_stops_on_validation_rows_and_keeps_the_best_pass(fitted: MLPProbe) -> None:
    assert fitted.best_epoch_ + fitted.patience == fitted.n_iter_ < fitted.epochs
    x, y = exclusive_or(1200)
    shorter = clone(fitted).set_params(epochs=fitted.best_epoch_).fit(x, y)
    np.testing.assert_array_equal(shorter.inner_weight_, fitted.inner_weight_)


def test_on_noise_it_stops_before_it_memorises() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(400, 40)), rng.integers(0, 2, 400)
    stopped = MLPProbe().fit(x, y)
    memorised = MLPProbe(validation_fraction=0.0, epochs=60).fit(x, y)
    assert stopped.score(x, y) < 0.85 < memorised.score(x, y)
    assert np.isnan(memorised.validation_loss_) and memorised.best_epoch_ == memorised.n_iter_ == 60


def test_a_seed_is_reproducible_and_leaves_the_global_generator_alone() -> None:
    import torch

    x, y = exclusive_or(200)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    quick = MLPProbe(epochs=5)
    one, same = (clone(quick).fit(x, y).decision_function(x) for _ in range(2))
    assert torch.rand(1) == expected
    np.testing.assert_array_equal(one, same)
    other = clone(quick).set_params(random_state=1).fit(x, y).decision_function(x)
    assert np.abs(other - one).max() > 0.01


def test_groups_and_copies_of_a_row_stay_on_one_side() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 3))
    groups = rng.integers(0, 150, 600)
    validation = validation_rows(x, groups, 0.2, 0)
    assert 0.1 < validation.mean() < 0.3
    assert not set(groups[validation]) & set(groups[~validation])
    copied = validation_rows(np.repeat(x, 3, axis=0), None, 0.2, 0)
    np.testing.assert_array_equal(copied, np.repeat(validation_rows(x, None, 0.2, 0), 3))
    assert (validation_rows(x, None, 0.2, 1) != validation_rows(x, None, 0.2, 0)).any()


def test_with_too_few_different_rows_none_are_for_validation() -> None:
    x = np.random.default_rng(0).normal(size=(20, 3))
    assert not validation_rows(x, None, 0.2, 0).any()
    assert not validation_rows(np.repeat(x, 50, axis=0), None, 0.2, 0).any(), "copies are not more rows"


def test_groups_follow_the_rows_with_positive_weight() -> None:
    x, y = exclusive_or(400)
    groups = np.arange(400) // 2
    weights = np.arange(400) % 4 > 0
    probe = MLPProbe(epochs=4)
    dropped = clone(probe).fit(x[weights], y[weights], groups=groups[weights])
    weighted = clone(probe).fit(x, y, sample_weight=weights.astype(float), groups=groups)
    np.testing.assert_allclose(weighted.decision_function(x), dropped.decision_function(x), atol=1e-9)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"hidden": 0}, "hidden to be a whole number of at least 1, got 0"),
        ({"epochs": 2.5}, "epochs to be a whole number of at least 1, got 2.5"),
        ({"random_state": -1}, "random_state to be a whole number of at least 0, got -1"),
        ({"learning_rate": float("nan")}, "expected learning_rate to be a number of at least 0, got nan"),
        ({"validation_fraction": 1.0}, "expected validation_fraction to be at least 0 and below 1, got 1.0"),
    ],
)
def test_wrong_parameters_raise(parameters: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MLPProbe(**parameters).fit(*exclusive_or(40))


def test_groups_of_another_length_raise() -> None:
    with pytest.raises(UsageError, match=r"expected one group for each of 40 rows, got shape \(39,\); give one a row"):
        MLPProbe().fit(*exclusive_or(40), groups=np.arange(39))
