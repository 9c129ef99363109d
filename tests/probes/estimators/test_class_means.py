"""Mass-mean probes and discriminant analysis, against their definitions and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import log_loss
from sklearn.neighbors import NearestCentroid
from sklearn.utils.estimator_checks import parametrize_with_checks

from interp.errors import UsageError
from probes import LDAProbe, MassMeanProbe
from probes.estimators.class_means import _leave_one_out_scores, class_means, covariance_within, pseudo_inverse

SHRINKAGES = (None, "auto", 0.0, 0.3, 1.0)


@parametrize_with_checks([MassMeanProbe(), MassMeanProbe(whitening=True), LDAProbe(), LDAProbe(shrinkage=None)])
def test_scikit_learns_contract(estimator, check) -> None:
    check(estimator)


def correlated(n: int, d: int, k: int, seed: int, apart: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d)) / np.sqrt(d)
    codes = np.concatenate([np.arange(k), np.arange(k), rng.integers(0, k, n - 2 * k)])
    means = rng.normal(size=(k, d)) * apart
    return rng.normal(size=(n, d)) @ mix + means[codes] + 5.0, np.array([f"c{c}" for c in codes])


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(30, 80),
    d=st.integers(1, 8),
    k=st.integers(2, 4),
    seed=st.integers(0, 10_000),
    shrinkage=st.sampled_from(SHRINKAGES),
)
def test_lda_equals_scikit_learn(n: int, d: int, k: int, seed: int, shrinkage: float | str | None) -> None:
    x, y = correlated(n, d, k, seed)
    ours = LDAProbe(shrinkage).fit(x, y)
    peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(x, y)
    coef, scores = peer.coef_, peer.decision_function(x)
    result = ours.coef_, ours.decision_function(x)
    if k > 2:  # a constant added to all classes changes nothing, and ours are relative to the mean of the rows
        coef, scores = coef - coef.mean(axis=0), scores - scores.mean(axis=1, keepdims=True)
        result = result[0] - result[0].mean(axis=0), result[1] - result[1].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(result[0], coef, rtol=1e-5, atol=1e-6 * np.abs(coef).max())
    np.testing.assert_allclose(result[1], scores, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.predict_proba(x), peer.predict_proba(x), atol=1e-6)


@pytest.mark.parametrize("load", [load_iris, load_wine, load_breast_cancer])
@pytest.mark.parametrize("shrinkage", ["auto", 0.1])
def test_lda_on_real_data_beside_scikit_learn(load, shrinkage: float | str) -> None:
    x, y = load(return_X_y=True)
    ours = LDAProbe(shrinkage).fit(x[::2], y[::2])
    peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(x[::2], y[::2])
    assert (ours.predict(x[1::2]) == peer.predict(x[1::2])).all()
    assert log_loss(y[1::2], ours.predict_proba(x[1::2])) == pytest.approx(
        log_loss(y[1::2], peer.predict_proba(x[1::2])), abs=1e-6
    )


@pytest.mark.parametrize("k", [2, 4])
def test_without_whitening_the_nearest_mean_is_predicted(k: int) -> None:
    x, y = correlated(200, 6, k, 0)
    probe = MassMeanProbe().fit(x[:150], y[:150])
    assert (probe.predict(x[150:]) == NearestCentroid().fit(x[:150], y[:150]).predict(x[150:])).all()


def test_the_direction_is_that_of_the_paper() -> None:
    """theta = mu+ - mu-, and Sigma^-1 theta with the covariance of classes that are each centred."""
    x, y = correlated(300, 5, 2, 1)
    high, low = x[y == "c1"], x[y == "c0"]
    theta = high.mean(axis=0) - low.mean(axis=0)
    np.testing.assert_allclose(MassMeanProbe().fit(x, y).coef_[0], theta)
    sigma = np.cov(np.concatenate([high - high.mean(axis=0), low - low.mean(axis=0)]).T, bias=True)
    whitened = MassMeanProbe(whitening=True, shrinkage=None).fit(x, y)
    np.testing.assert_allclose(whitened.coef_[0], np.linalg.solve(sigma, theta))
    middle = (high.mean(axis=0) + low.mean(axis=0)) / 2
    assert whitened.decision_function(middle[None])[0] == pytest.approx(0, abs=1e-8)


def test_whitened_with_balanced_classes_it_is_discriminant_analysis() -> None:
    x, y = correlated(300, 5, 3, 2)
    kept = np.concatenate([np.flatnonzero(y == c)[:70] for c in np.unique(y)])
    lda = LDAProbe(shrinkage=None).fit(x[kept], y[kept])
    mass = MassMeanProbe(whitening=True, shrinkage=None).fit(x[kept], y[kept])
    np.testing.assert_allclose(mass.coef_, lda.coef_)
    offset = mass.intercept_ - lda.intercept_
    np.testing.assert_allclose(offset, offset[0], atol=1e-8)


def test_whitening_finds_a_direction_that_noise_hides() -> None:
    """A weak difference along an axis with little noise, and a strong one along a noisy axis, which the means follow."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 2000)
    x = rng.normal(size=(2000, 3)) * [20.0, 0.1, 1.0]
    x[:, 1] += 0.4 * y
    x[:, 0] += 4.0 * y
    plain, white = MassMeanProbe().fit(x[:1000], y[:1000]), MassMeanProbe(whitening=True).fit(x[:1000], y[:1000])
    assert plain.score(x[1000:], y[1000:]) < 0.7 and white.score(x[1000:], y[1000:]) > 0.95
    unit = white.coef_[0] * [20.0, 0.1, 1.0]
    assert abs(unit[1]) / np.linalg.norm(unit) > 0.99


@pytest.mark.parametrize("whitening", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_leave_one_out_scores_equal_an_explicit_loop(whitening: bool, weighted: bool) -> None:
    x, y = correlated(40, 4, 3, 4)
    codes = np.unique(y, return_inverse=True)[1]
    weights = np.random.default_rng(0).choice([0.5, 1.0, 2.0, 3.5], 40) if weighted else np.ones(40)
    means, sizes = class_means(x, codes, weights)
    precision = pseudo_inverse(covariance_within(x, codes, weights)) if whitening else None
    result = _leave_one_out_scores(x, means, codes, weights, sizes, precision)
    for i in range(40):
        less = weights.copy()
        less[i] -= min(1.0, less[i])
        means, _ = class_means(x, codes, less)
        inverse = np.linalg.inv(covariance_within(x, codes, less)) if whitening else np.eye(4)
        centred = x[i] - means
        np.testing.assert_allclose(result[i], -0.5 * np.einsum("kd,de,ke->k", centred, inverse, centred), rtol=1e-7)


@pytest.mark.parametrize("whitening", [False, True])
@pytest.mark.parametrize("apart", [0.1, 0.5])
def test_probabilities_are_calibrated(whitening: bool, apart: float) -> None:
    x, y = correlated(3000, 20, 3, 5, apart)
    probe = MassMeanProbe(whitening).fit(x[:300], y[:300])
    p = probe.predict_proba(x[300:])
    confidence, right = p.max(axis=1).mean(), (probe.classes_[p.argmax(axis=1)] == y[300:]).mean()
    assert confidence == pytest.approx(right, abs=0.06)


@pytest.mark.parametrize("probe", [MassMeanProbe(), MassMeanProbe(whitening=True), LDAProbe()])
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(["collinear", "constant", "duplicates", "wide", "separable", "rare", "huge", "tiny"]),
)
def test_degenerate_data_has_finite_answers(probe, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(60, 5)), np.repeat([0, 1, 2], 20)
    x[:, 0] += y
    if kind == "collinear":
        x = np.column_stack([x, 2 * x[:, 0] + 1])
    elif kind == "constant":
        x = np.column_stack([x, np.full(60, 3.0)])
    elif kind == "duplicates":
        x, y = np.repeat(x[::4], 4, axis=0), np.repeat(y[::4], 4)
    elif kind == "wide":
        x = np.column_stack([x, rng.normal(size=(60, 100))])
    elif kind == "separable":
        x[:, 0] = 100.0 * y
    elif kind == "rare":
        y = np.array([0] + [1] * 59)
    elif kind in ("huge", "tiny"):
        x = x * (1e8 if kind == "huge" else 1e-8)
    probe.fit(x, y)
    p = probe.predict_proba(x)
    assert np.isfinite(probe.coef_).all() and np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=1), 1)
    if kind == "separable":
        assert probe.score(x, y) == 1.0
    if kind in ("huge", "tiny"):
        scaled = p.copy()
        probe.fit(x / x.std(), y)
        np.testing.assert_allclose(probe.predict_proba(x / x.std()), scaled, atol=1e-6)


def test_weights_count_rows() -> None:
    x, y = correlated(60, 4, 3, 6)
    weights = np.random.default_rng(1).integers(0, 4, 60)
    for probe in (MassMeanProbe(), MassMeanProbe(whitening=True), LDAProbe(), LDAProbe(0.2)):
        weighted = probe.fit(x, y, weights).predict_proba(x)
        repeated = probe.fit(np.repeat(x, weights, axis=0), np.repeat(y, weights)).predict_proba(x)
        np.testing.assert_allclose(weighted, repeated, atol=1e-9)


@pytest.mark.parametrize("shrinkage", [-0.1, 1.5, "ledoit", True])
def test_a_wrong_shrinkage_raises(shrinkage) -> None:
    x, y = correlated(30, 3, 2, 7)
    with pytest.raises(UsageError, match=r'expected shrinkage to be None, "auto" or between 0 and 1, got '):
        LDAProbe(shrinkage).fit(x, y)


@pytest.mark.parametrize("probe", [MassMeanProbe(), LDAProbe()])
def test_a_row_that_is_not_finite_is_named(probe) -> None:
    x, y = correlated(30, 3, 2, 8)
    probe.fit(x, y)
    x[11, 2] = np.nan
    for refuse in (lambda: probe.predict(x), lambda: probe.fit(x, y)):
        with pytest.raises(UsageError, match=r"in the probe's input, got NaN or inf in row 11 \(1 such rows\)"):
            refuse()
