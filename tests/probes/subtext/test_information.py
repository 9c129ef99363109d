"""Usable information: none on noise, all of a planted signal, and the power to detect a planted effect."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy, kstest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from interp.errors import UsageError
from probes.subtext.information import information_gain, p_value, summary
from probes.subtext.power import channel_bits, power
from probes.subtext.readers import class_costs, folds

N = 600


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _labels(rng: np.random.Generator, classes: int = 2) -> np.ndarray:
    return rng.integers(classes, size=N).astype(str).astype(object)


GROUPS = np.arange(N) // 2
NOTHING = np.empty((N, 0))


@pytest.mark.parametrize("classes", [2, 4])
def test_a_copy_holds_the_whole_entropy_and_noise_holds_none(rng: np.random.Generator, classes: int) -> None:
    y = _labels(rng, classes)
    copy = np.eye(classes)[y.astype(int)]
    noise = rng.normal(size=(N, 12))
    result = information_gain({"y": y}, [NOTHING], np.concatenate([copy, noise], axis=1), GROUPS)["y"]
    share = np.bincount(y.astype(int)) / N
    assert result.entropy.value == pytest.approx(entropy(share, base=2), abs=0.01)
    assert result.bits.mean() == pytest.approx(result.entropy.value, abs=0.06)
    assert result.estimate(GROUPS).high <= np.log2(classes) and result.estimate(GROUPS).value <= result.entropy.value
    assert abs(information_gain({"y": y}, [NOTHING], noise, GROUPS)["y"].bits.mean()) < 0.02


def test_what_is_given_is_not_counted_again(rng: np.random.Generator) -> None:
    y = _labels(rng)
    copy = np.eye(2)[y.astype(int)]
    result = information_gain({"y": y}, [copy], copy, GROUPS)["y"]
    assert abs(result.bits.mean()) < 0.01 and result.without.mean() < 0.05


def test_a_noisy_channel_holds_its_mutual_information(rng: np.random.Generator) -> None:
    y = _labels(rng)
    output = np.where(rng.random(N) < 0.3, rng.integers(2, size=N), y.astype(int))
    result = information_gain({"y": y}, [NOTHING], np.eye(2)[output], GROUPS)["y"]
    assert result.bits.mean() == pytest.approx(channel_bits(np.array([0.5, 0.5]), 0.3), abs=0.1)


def test_a_stand_in_of_the_same_capacity_takes_its_share(rng: np.random.Generator) -> None:
    y = _labels(rng)
    copy = np.eye(2)[y.astype(int)]
    assert information_gain({"y": y}, [NOTHING, copy], copy, GROUPS)["y"].bits.mean() < 0.02


def test_costs_are_those_of_a_plain_logistic_regression(rng: np.random.Generator) -> None:
    y, x = _labels(rng, 3), rng.normal(size=(N, 5))
    x[:, 0] += 1.5 * y.astype(int)
    costs, classes = class_costs(x, y, GROUPS)
    fold = folds(GROUPS)
    expected = np.zeros((N, 3))
    for k in range(5):
        train = (fold != k) & (fold != (k + 1) % 5)
        scaled = (x - x[train].mean(0)) / x[train].std(0)
        fit = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(scaled[train], y[train].astype(str))
        expected[fold == k] = fit.predict_proba(scaled[fold == k])
    ours = float(costs[np.arange(N), np.searchsorted(classes, y.astype(str))].mean())
    assert ours == pytest.approx(log_loss(y.astype(str), expected) / np.log(2), abs=0.02)


def test_a_group_lies_in_one_fold_and_few_groups_are_refused() -> None:
    result = folds(GROUPS)
    assert all(len(set(result[g == GROUPS])) == 1 for g in np.unique(GROUPS)) and set(result) == set(range(5))
    with pytest.raises(UsageError, match=r"expected at least 10 problem structures to cross-fit over 5 folds, got 8"):
        folds(np.arange(8))


def test_labels_that_not_every_row_has_are_measured_on_theirs(rng: np.random.Generator) -> None:
    y = _labels(rng)
    copy = np.eye(2)[y.astype(int)]
    part = y.copy()
    part[: N // 2] = None
    few = np.full(N, None, dtype=object)
    few[:10] = "a"
    result = information_gain(
        {"all": y, "part": part, "few": few, "one": np.full(N, "x", object)}, [NOTHING], copy, GROUPS
    )
    assert list(result) == ["all", "part"] and (result["part"].rows == np.arange(N // 2, N)).all()
    table = summary(result, GROUPS)
    assert (table["q"] < 1e-6).all() and list(table["n"]) == [N, N // 2]


def test_p_values_of_gains_that_are_none_are_not_small() -> None:
    values = []
    for seed in range(200):
        bits = np.random.default_rng(seed).normal(size=60)
        values.append(p_value(bits, np.arange(60)))
    assert kstest(values, "uniform").pvalue > 0.01
    assert p_value(np.zeros(20), np.arange(20)) == 1.0 and p_value(np.ones(20), np.arange(20)) < 1e-100


def test_power_grows_with_the_sample_and_says_what_it_cannot_plant(rng: np.random.Generator) -> None:
    y, noise = _labels(rng), rng.normal(size=(N, 4))
    many = power(y, [NOTHING], noise, GROUPS, draws=8)
    few = power(y[:60], [NOTHING[:60]], noise[:60], GROUPS[:60], draws=8)
    assert many.share is not None and few.share is not None and many.share > 0.8 > few.share
    assert (many.enough and "with probability 1.00" in many.sentence()) or many.share < 1
    rare = np.full(N, "a", dtype=object)
    rare[:3] = "b"
    assert power(rare, [NOTHING], noise, GROUPS, draws=2).share is None
