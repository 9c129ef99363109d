"""Splits keep groups whole; intervals, p-values and q-values equal slow or independent computations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, false_discovery_control

from interp.errors import UsageError
from interp.statistics.intervals import first_within_error, grouped_mean_interval, matches_p_value, q_values
from interp.statistics.splits import SHARES, grouped_split


def part_names(masks: object) -> np.ndarray:
    out = np.full(masks.train.shape, "", dtype=object)
    for name in SHARES:
        mask = getattr(masks, name)
        assert (out[mask] == "").all(), "parts overlap"
        out[mask] = name
    assert (out != "").all(), "a row is in no part"
    return out


@given(n_groups=st.integers(200, 400), draw=st.integers(0, 10_000), seed=st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_a_group_is_never_divided(n_groups: int, draw: int, seed: int) -> None:
    groups = np.array([f"{draw}:{k}" for k in np.random.default_rng(draw).integers(0, n_groups, 4 * n_groups)])
    part = part_names(grouped_split(groups, seed))
    for group in np.unique(groups):
        assert len(set(part[groups == group])) == 1


def test_the_part_of_a_group_does_not_depend_on_other_rows() -> None:
    groups = np.array([f"g{k}" for k in range(400)])
    whole = dict(zip(groups, part_names(grouped_split(groups, 0)), strict=True))
    rng = np.random.default_rng(0)
    fewer = rng.choice(groups, 150)
    for group, part in zip(fewer, part_names(grouped_split(fewer, 0)), strict=True):
        assert whole[group] == part


def test_shares_hold_and_seeds_differ() -> None:
    groups = np.array([f"g{k}" for k in range(5000)])
    first, second = (part_names(grouped_split(groups, seed)) for seed in (0, 1))
    for name, share in SHARES.items():
        assert (first == name).mean() == pytest.approx(share, abs=0.03)
    # Independent seeds agree as often as chance says.
    expected = sum(share**2 for share in SHARES.values())
    assert (first == second).mean() == pytest.approx(expected, abs=0.03)


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(UsageError, match=r"1 problem structures are too few to split: the \w+ part is empty"):
        grouped_split(np.array(["a"] * 50), 0)


def slow_bootstrap(right: np.ndarray, groups: np.ndarray, draws: int, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    means = []
    for _ in range(draws):
        chosen = rng.integers(0, len(members), len(members))
        means.append(right[np.concatenate([members[c] for c in chosen])].mean())
    return tuple(np.quantile(means, [0.025, 0.975]))


def grouped_data(rng: np.random.Generator, n_groups: int, p: float, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose chance of being right is shared within groups of 1 to 6 rows, p on average over groups."""
    sizes = rng.integers(1, 7, n_groups)
    chance = rng.beta(p * spread, (1 - p) * spread, n_groups)
    groups = np.repeat(np.arange(n_groups), sizes)
    return (rng.random(len(groups)) < chance[groups]).astype(float), groups


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_equals_that_of_a_simple_bootstrap_over_groups(seed: int) -> None:
    right, groups = grouped_data(np.random.default_rng(seed), 60, 0.7, 2.0)
    low, high = grouped_mean_interval(right, groups, draws=20000)
    slow_low, slow_high = slow_bootstrap(right, groups, 3000, seed)
    width = slow_high - slow_low
    assert low == pytest.approx(slow_low, abs=0.06 * width)
    assert high == pytest.approx(slow_high, abs=0.06 * width)


def test_with_seeds_groups_and_seeds_are_both_resampled() -> None:
    """The definition: a row counts as often as its group is drawn times as its seed is."""
    rng = np.random.default_rng(8)
    groups, seeds = np.repeat(np.arange(50), 4), np.tile(np.arange(4), 50)
    chance = 0.6 + 0.15 * rng.normal(size=50)[groups] + 0.1 * np.array([-1, -0.5, 0.5, 1])[seeds]
    right = (rng.random(200) < chance).astype(float)
    low, high = grouped_mean_interval(right, groups, seeds=seeds, draws=20000)
    means = []
    for _ in range(4000):
        times = (
            np.bincount(rng.integers(0, 50, 50), minlength=50)[groups]
            * np.bincount(rng.integers(0, 4, 4), minlength=4)[seeds]
        )
        means.append((right * times).sum() / times.sum())
    slow_low, slow_high = np.quantile(means, [0.025, 0.975])
    width = slow_high - slow_low
    assert low == pytest.approx(slow_low, abs=0.08 * width) and high == pytest.approx(slow_high, abs=0.08 * width)
    alone = grouped_mean_interval(right, groups, draws=20000)
    assert high - low > 1.15 * (alone[1] - alone[0]), "differences between seeds widen the interval"


def test_the_interval_covers_the_truth_at_about_its_level() -> None:
    rng = np.random.default_rng(5)
    covered = grouped = 0
    for _ in range(400):
        right, groups = grouped_data(rng, 80, 0.75, 1.0)
        low, high = grouped_mean_interval(right, groups)
        covered += low <= 0.75 <= high
        low, high = grouped_mean_interval(right, np.arange(len(right)))
        grouped += low <= 0.75 <= high
    assert 0.91 <= covered / 400 <= 0.985
    # Treating rows as independent gives intervals that are too narrow.
    assert grouped / 400 < covered / 400 - 0.04


def test_the_interval_does_not_depend_on_the_order_of_rows_or_the_names_of_groups() -> None:
    rng = np.random.default_rng(0)
    right, groups = grouped_data(rng, 40, 0.6, 2.0)
    order = rng.permutation(len(right))
    assert grouped_mean_interval(right, groups) == grouped_mean_interval(right[order], groups[order])
    assert grouped_mean_interval(right, groups, seed=1) != grouped_mean_interval(right, groups, seed=2)


@pytest.mark.parametrize("n", [1, 7, 200])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_where_all_rows_agree_the_interval_is_clopper_pearsons_over_groups(n: int, level: float) -> None:
    groups = np.repeat(np.arange(n), 3)
    for value, successes in ((1.0, n), (0.0, 0)):
        exact = binomtest(successes, n).proportion_ci(level, method="exact")
        values = grouped_mean_interval(np.full(3 * n, value), groups, level=level)
        assert values == pytest.approx((exact.low, exact.high), abs=1e-12)


def test_no_rows_have_no_interval() -> None:
    assert np.isnan(grouped_mean_interval(np.array([]), np.array([]))).all()


@pytest.mark.parametrize(("n", "signal"), [(60, 0.0), (60, 0.12), (200, 0.08), (400, -0.05)])
def test_the_p_value_equals_that_of_a_permutation_test(n: int, signal: float) -> None:
    rng = np.random.default_rng(n)
    gold = rng.choice(list("abcde"), n, p=[0.4, 0.3, 0.1, 0.1, 0.1])
    predicted = rng.choice(list("abcde"), n, p=[0.3, 0.3, 0.2, 0.1, 0.1])
    hit = rng.random(n) < abs(signal)
    predicted = np.where(hit, gold if signal > 0 else "e", predicted)
    observed = (predicted == gold).sum()
    draws = np.array([(predicted == rng.permutation(gold)).sum() for _ in range(20000)])
    assert matches_p_value(predicted, gold) == pytest.approx((draws >= observed).mean(), abs=0.015)


def test_p_values_are_uniform_under_the_null_hypothesis() -> None:
    rng = np.random.default_rng(1)
    p = [matches_p_value(rng.integers(0, 10, 150), rng.integers(0, 10, 150)) for _ in range(1500)]
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(p) < level) <= level + 0.02
    assert np.mean(np.array(p) < 0.2) > 0.1


def test_p_values_of_everything_right_and_of_one_class() -> None:
    gold = np.arange(200) % 10
    assert matches_p_value(gold, gold) < 1e-30
    assert matches_p_value(np.zeros(50, int), np.zeros(50, int)) == 1.0
    assert matches_p_value(np.array([1]), np.array([1])) == 1.0
    assert matches_p_value(np.zeros(200, int), gold) > 0.4, "a constant guess is no evidence, however often it is right"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_q_values_equal_scipys(p: list[float]) -> None:
    np.testing.assert_allclose(q_values(np.array(p)), false_discovery_control(p, method="bh"), atol=1e-12)


def test_nan_p_values_stay_and_do_not_count() -> None:
    values = q_values(np.array([0.01, np.nan, 0.04, np.nan]))
    np.testing.assert_allclose(values, [0.02, np.nan, 0.04, np.nan])
    assert np.isnan(q_values(np.array([np.nan]))).all()
    assert q_values(np.array([])).shape == (0,)


def test_the_first_within_one_standard_error_wins() -> None:
    # The error at 0.90 of 100 is 0.030 (with one success and one failure added).
    assert first_within_error([0.88, 0.90], [100, 100]) == 0
    assert first_within_error([0.86, 0.90], [100, 100]) == 1
    assert first_within_error([0.86, 0.90], [25, 25]) == 0, "with fewer rows the error is larger"
    assert first_within_error([0.5, 0.9, 0.89], [400, 400, 400]) == 1
    assert first_within_error([1.0, 1.0], [10, 10]) == 0
    assert first_within_error([0.3], [10]) == 0


def test_a_perfect_score_still_has_an_error() -> None:
    assert first_within_error([0.97, 1.0], [20, 20]) == 0
    assert first_within_error([0.97, 1.0], [5000, 5000]) == 1
