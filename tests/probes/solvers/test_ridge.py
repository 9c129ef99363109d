"""The batched ridge solver against scikit-learn and against loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from interp.errors import UsageError
from probes.solvers.ridge import STRENGTHS, fit_ridge, one_hot


def data(n: int = 40, d: int = 12, columns: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, d)) * rng.uniform(0.1, 5, d) + rng.normal(size=d)
    targets = rows @ rng.normal(size=(d, columns)) * 0.3 + rng.normal(size=(n, columns))
    return rows, targets


def standardised(rows: np.ndarray) -> np.ndarray:
    spread = rows.std(axis=0)
    return (rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1)


def absolute(rows: np.ndarray, strength: float) -> float:
    """Return scikit-learn's alpha for a relative strength: times the mean eigenvalue of the Gram matrix."""
    design = standardised(rows)
    return strength * np.trace(design.T @ design) / design.shape[1]


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize(("n", "d"), [(40, 12), (300, 20), (25, 60)])
def test_coefficients_and_predictions_equal_scikit_learn(n: int, d: int, strength: float) -> None:
    rows, targets = data(n, d)
    fit = fit_ridge(rows, [targets], [strength])
    alpha = absolute(rows, strength)
    assert fit.strength[0] == pytest.approx(alpha)
    ridge = Ridge(alpha=alpha, solver="svd").fit(standardised(rows), targets)
    np.testing.assert_allclose(fit.coef, ridge.coef_.T, atol=2e-4)
    np.testing.assert_allclose(fit.intercept, ridge.intercept_, atol=1e-6)
    new = data(50, d, seed=9)[0]
    expected = ridge.predict((new - rows.mean(axis=0)) / rows.std(axis=0))
    np.testing.assert_allclose(fit.predict(new), expected, atol=5e-3, rtol=1e-3)


@pytest.mark.parametrize(("n", "d"), [(40, 12), (30, 45)])
@pytest.mark.parametrize("strength", [1e-2, 1e-1, 1.0])
def test_leave_one_out_predictions_equal_an_explicit_loop(n: int, d: int, strength: float) -> None:
    rows, targets = data(n, d)
    fit = fit_ridge(rows, [targets], [strength])
    design, alpha = standardised(rows), absolute(rows, strength)
    for k in range(n):
        others = np.arange(n) != k
        ridge = Ridge(alpha=alpha, solver="svd").fit(design[others], targets[others])
        np.testing.assert_allclose(fit.held_out[k], ridge.predict(design[k : k + 1])[0], atol=2e-3)
    assert np.abs(fit.held_out - fit.predict(rows)).max() > 0.05, "leaving a row out changes nothing"


def test_each_block_keeps_the_strength_with_the_least_leave_one_out_error() -> None:
    rows, targets = data(60, 20, 3)
    noise = np.random.default_rng(5).normal(size=(60, 2))
    exact = rows @ np.random.default_rng(6).normal(size=(20, 2))
    fit = fit_ridge(rows, [targets, noise, exact])
    for b, block in enumerate((targets, noise, exact)):
        errors = []
        for strength in STRENGTHS:
            single = fit_ridge(rows, [block], [strength])
            errors.append(((single.held_out - block) ** 2).sum())
        best = STRENGTHS[int(np.argmin(errors))]
        assert fit.strength[b] == pytest.approx(absolute(rows, best))
    assert fit.strength[1] == pytest.approx(absolute(rows, max(STRENGTHS))), "noise needs the strongest penalty"
    assert fit.strength[2] == pytest.approx(absolute(rows, min(STRENGTHS))), "an exact map needs the weakest penalty"


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_all_blocks_together_equal_each_single_fit(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(35, 9))
    blocks = [rng.normal(size=(35, size)) + rows[:, :1] for size in sizes]
    together, edge = fit_ridge(rows, blocks), 0
    for b, block in enumerate(blocks):
        single, span = fit_ridge(rows, [block]), slice(edge, edge + block.shape[1])
        assert together.strength[b] == single.strength[0]
        np.testing.assert_allclose(together.coef[:, span], single.coef, atol=1e-5)
        np.testing.assert_allclose(together.intercept[span], single.intercept)
        np.testing.assert_allclose(together.held_out[:, span], single.held_out, atol=1e-5)
        edge += block.shape[1]


def test_constant_columns_change_nothing() -> None:
    rows, targets = data(60, 8)
    plain = fit_ridge(rows, [targets], [1e-2])
    for value in (0.0, 1.0, -3e6, 1e-9):
        padded = np.column_stack([rows, np.full(60, value)])
        # One column more lowers the mean eigenvalue; the strength is the same in absolute terms.
        fit = fit_ridge(padded, [targets], [1e-2 * 9 / 8])
        assert np.isfinite(fit.coef).all()
        np.testing.assert_allclose(fit.predict(padded), plain.predict(rows), atol=1e-3)
        np.testing.assert_allclose(fit.coef[-1], 0, atol=1e-6)


@pytest.mark.filterwarnings("error")
def test_no_columns_at_all_predict_the_mean() -> None:
    targets = data(30)[1]
    fit = fit_ridge(np.empty((30, 0)), [targets])
    np.testing.assert_allclose(fit.predict(np.empty((5, 0))), np.tile(targets.mean(0), (5, 1)), atol=1e-6)


def test_only_constant_columns_predict_the_mean() -> None:
    targets = data(30)[1]
    fit = fit_ridge(np.ones((30, 3)), [targets])
    np.testing.assert_allclose(fit.predict(np.full((5, 3), 7.0)), np.tile(targets.mean(0), (5, 1)), atol=1e-6)


def test_collinear_columns_share_the_weight() -> None:
    rows, targets = data(60, 5)
    doubled = np.column_stack([rows, rows[:, 0], 2 * rows[:, 1]])
    fit = fit_ridge(doubled, [targets], [1e-2])
    np.testing.assert_allclose(fit.coef[0], fit.coef[5], atol=1e-4)
    np.testing.assert_allclose(fit.coef[1], fit.coef[6], atol=1e-4)
    ridge = Ridge(alpha=absolute(doubled, 1e-2), solver="svd").fit(standardised(doubled), targets)
    np.testing.assert_allclose(fit.predict(doubled), ridge.predict(standardised(doubled)), atol=1e-3)


def test_the_scale_of_a_column_does_not_matter() -> None:
    rows, targets = data(60, 8)
    scale = 10.0 ** np.linspace(-6, 6, 8)
    one, other = fit_ridge(rows, [targets]), fit_ridge(rows * scale + 3 * scale, [targets])
    np.testing.assert_allclose(other.predict(rows * scale + 3 * scale), one.predict(rows), atol=1e-3)
    np.testing.assert_allclose(other.strength, one.strength, rtol=1e-6)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize(("n", "d"), [(40, 12), (25, 60)])
def test_with_weights_coefficients_and_predictions_are_scikit_learns(n: int, d: int, strength: float) -> None:
    rows, targets = data(n, d)
    weights = np.random.default_rng(3).uniform(0.1, 4, n)
    fit = fit_ridge(rows, [targets], [strength], weights, precise=True)
    mean = np.average(rows, axis=0, weights=weights)
    scale = np.sqrt(np.average((rows - mean) ** 2, axis=0, weights=weights))
    np.testing.assert_allclose([fit.mean, fit.scale], [mean, scale])
    design = (rows - mean) / scale
    alpha = strength * weights.sum()  # times the mean eigenvalue, which is one for each unit of weight
    assert fit.strength[0] == pytest.approx(alpha)
    ridge = Ridge(alpha=alpha, solver="svd").fit(design, targets, sample_weight=weights)
    np.testing.assert_allclose(fit.coef, ridge.coef_.T, atol=1e-8)
    np.testing.assert_allclose(fit.predict(rows), ridge.predict(design), atol=1e-7)


@pytest.mark.parametrize("strength", [1e-2, 1.0])
def test_leaving_a_row_out_removes_one_unit_of_its_weight(strength: float) -> None:
    rows, targets = data(30, 8)
    weights = np.random.default_rng(4).choice([0.0, 0.3, 1.0, 2.0, 3.7], 30)
    with np.errstate(divide="raise", invalid="raise"):
        fit = fit_ridge(rows, [targets], [strength], weights, precise=True)
    design = (rows - fit.mean) / fit.scale
    for k in range(30):
        less = weights.copy()
        less[k] -= min(less[k], 1.0)
        ridge = Ridge(alpha=float(fit.strength[0]), solver="svd").fit(design, targets, sample_weight=less)
        np.testing.assert_allclose(fit.held_out[k], ridge.predict(design[k : k + 1])[0], atol=1e-8)


def test_weights_count_rows() -> None:
    rows, targets = data(40, 6)
    weights = np.random.default_rng(5).integers(0, 4, 40)
    weighted = fit_ridge(rows, [targets], weights=weights.astype(float), precise=True)
    repeated = fit_ridge(np.repeat(rows, weights, axis=0), [np.repeat(targets, weights, axis=0)], precise=True)
    assert weighted.strength == pytest.approx(repeated.strength)
    np.testing.assert_allclose(weighted.predict(rows), repeated.predict(rows), atol=1e-9)
    np.testing.assert_allclose(np.repeat(weighted.held_out, weights, axis=0), repeated.held_out, atol=1e-9)


def test_weights_of_one_change_nothing_and_precision_only_digits() -> None:
    rows, targets = data(50, 7)
    plain, weighted = fit_ridge(rows, [targets]), fit_ridge(rows, [targets], weights=np.ones(50))
    np.testing.assert_allclose(weighted.predict(rows), plain.predict(rows), atol=1e-5)
    precise = fit_ridge(rows, [targets], precise=True)
    np.testing.assert_allclose(plain.predict(rows), precise.predict(rows), atol=1e-4)
    assert np.abs(plain.predict(rows) - precise.predict(rows)).max() > 0


def test_float32_rows_are_solved_in_float64() -> None:
    rows, targets = data(50, 7)
    rows = (rows + 1e3).astype(np.float32)
    narrow, wide = fit_ridge(rows, [targets]), fit_ridge(rows.astype(np.float64), [targets])
    for field in ("mean", "scale", "coef", "held_out"):
        np.testing.assert_array_equal(getattr(narrow, field), getattr(wide, field))


@pytest.mark.parametrize(
    ("mean", "spread", "scale"),
    [(1e6, 1e-9, 1.0), (0.0, 1e-19, 1.0), (0.0, 1e-13, 1e-13), (5.0, 0.0, 1.0)],
)
def test_a_column_is_constant_where_its_spread_is_rounding(mean: float, spread: float, scale: float) -> None:
    rows, targets = data(40, 3)
    column = mean + spread * np.tile([1.0, -1.0], 20)
    fit = fit_ridge(np.column_stack([rows, column]), [targets])
    assert fit.scale[-1] == pytest.approx(scale, rel=1e-6)


def test_strengths_are_relative_to_a_total_weight_below_one() -> None:
    rows, targets = data(40, 6)
    fit = fit_ridge(rows, [targets], [0.1], np.full(40, 0.01))
    assert fit.strength[0] == pytest.approx(0.1 * 0.4)


def test_two_rows_are_enough_and_a_leverage_of_one_stays_finite() -> None:
    with np.errstate(divide="raise", invalid="raise"):
        fit = fit_ridge(np.array([[0.0], [2.0]]), [np.array([[1.0], [3.0]])], [1e-9])
    assert np.isfinite(fit.held_out).all()
    np.testing.assert_allclose(fit.predict(np.array([[0.0], [2.0]])), [[1.0], [3.0]], atol=1e-6)


def test_equal_errors_keep_the_first_strength() -> None:
    rows, _ = data(40, 6)
    fit = fit_ridge(rows, [np.zeros((40, 1))], [1e-2, 1.0, 1e-4])
    assert fit.strength[0] == pytest.approx(absolute(rows, 1e-2))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_named(bad: float) -> None:
    rows, targets = data()
    rows[17, 3] = rows[30, 0] = bad
    with pytest.raises(
        UsageError, match=r"finite rows in the probe's input, got NaN or inf in row 17 \(2 such rows\); leave them out"
    ):
        fit_ridge(rows, [targets])


def test_one_row_raises() -> None:
    with pytest.raises(UsageError, match="expected at least 2 training rows, got 1"):
        fit_ridge(np.ones((1, 3)), [np.ones((1, 2))])


def test_one_hot() -> None:
    np.testing.assert_array_equal(
        one_hot(np.array(list("bxa")), np.array(list("abc"))), [[0, 1, 0], [0, 0, 0], [1, 0, 0]]
    )
