"""RidgeProbe against scikit-learn, its calibration, and the inputs that every probe refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss
from sklearn.utils.estimator_checks import parametrize_with_checks

from interp.errors import UsageError
from probes import (
    AttentionProbe,
    LDAProbe,
    LogisticProbe,
    MassMeanProbe,
    MLPProbe,
    RidgeProbe,
    StepEmbeddingProbe,
)
from probes.estimators.base import softmax, temperature

EVERY = [
    AttentionProbe(epochs=3),
    LDAProbe(),
    LogisticProbe(),
    MLPProbe(epochs=3),
    MassMeanProbe(),
    RidgeProbe(),
    StepEmbeddingProbe(),
]
named = pytest.mark.parametrize("probe", EVERY, ids=lambda probe: type(probe).__name__)


@parametrize_with_checks([RidgeProbe()])
def test_scikit_learns_contract(estimator, check) -> None:  # type: ignore[no-untyped-def]
    check(estimator)


def blobs(n: int, d: int = 10, classes: int = 5, signal: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, d)) * signal
    codes = rng.integers(0, classes, n)
    return centres[codes] + rng.normal(size=(n, d)), np.array([f"class {c}" for c in codes])


@pytest.mark.parametrize("classes", [2, 5])
def test_probabilities_are_probabilities_and_agree_with_predict(classes: int) -> None:
    X, y = blobs(300, classes=classes)  # noqa: N806
    probe = RidgeProbe().fit(X[:200], y[:200])
    p = probe.predict_proba(X[200:])
    assert p.shape == (100, classes) and (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert (probe.classes_[p.argmax(axis=1)] == probe.predict(X[200:])).all()


def test_the_scores_are_ridge_regressions_onto_one_hot_labels() -> None:
    X, y = blobs(200)  # noqa: N806
    probe = RidgeProbe(strengths=(1e-2,)).fit(X, y)
    design = (X - X.mean(0)) / X.std(0)
    alpha = 1e-2 * np.trace(design.T @ design) / X.shape[1]
    assert probe.strength_ == pytest.approx(alpha)
    ridge = Ridge(alpha=alpha).fit(design, y[:, None] == probe.classes_)
    new = blobs(50, seed=1)[0]
    np.testing.assert_allclose(probe.decision_function(new), ridge.predict((new - X.mean(0)) / X.std(0)), atol=1e-4)


@pytest.mark.parametrize("signal", [0.15, 0.4])
def test_probabilities_on_noisy_data_beat_an_uncalibrated_softmax(signal: float) -> None:
    X, y = blobs(400, signal=signal)  # noqa: N806
    new, gold = blobs(4000, signal=signal, seed=1)
    probe = RidgeProbe().fit(X, y)
    labels = list(probe.classes_)
    fitted = log_loss(gold, probe.predict_proba(new), labels=labels)
    plain = log_loss(gold, softmax(probe.decision_function(new)), labels=labels)
    assert fitted < plain - 0.01
    # They are calibrated: about 60 % of the rows with confidence 0.6 are right.
    p = probe.predict_proba(new)
    confidence, right = p.max(axis=1), probe.classes_[p.argmax(axis=1)] == gold
    assert confidence.mean() == pytest.approx(right.mean(), abs=0.06)


def test_without_signal_probabilities_are_not_confident() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 40)), rng.integers(0, 5, 300)  # noqa: N806
    probe = RidgeProbe().fit(X, y)
    assert probe.predict_proba(rng.normal(size=(500, 40))).max(axis=1).mean() < 0.4
    assert (probe.predict(X) == y).mean() > 0.35, "it overfits its training rows"


def test_clone_and_params() -> None:
    probe = RidgeProbe(strengths=(0.5,))
    assert clone(probe).get_params() == {"strengths": (0.5,)}


@pytest.mark.parametrize("classes", [2, 4])
def test_with_weights_it_is_scikit_learns_weighted_ridge(classes: int) -> None:
    X, y = blobs(150, classes=classes)  # noqa: N806
    weights = np.random.default_rng(1).uniform(0.1, 3, 150)
    probe = RidgeProbe(strengths=(1e-2,)).fit(X, y, weights)
    mean = np.average(X, axis=0, weights=weights)
    scale = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weights))
    design = (X - mean) / scale
    alpha = 1e-2 * weights.sum()  # the mean eigenvalue of a correlation matrix is one
    assert probe.strength_ == pytest.approx(alpha)
    ridge = Ridge(alpha=alpha).fit(design, y[:, None] == probe.classes_, sample_weight=weights)
    new = blobs(50, classes=classes, seed=1)[0]
    result = new @ probe.coef_.T + probe.intercept_
    np.testing.assert_allclose(result, ridge.predict((new - mean) / scale), atol=1e-9)


def test_the_temperature_minimises_the_log_loss() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(400, 3)) * 7
    codes = (0.2 * scores + rng.gumbel(size=(400, 3))).argmax(axis=1)
    weights = rng.uniform(0, 2, 400)

    def loss(factor: float) -> float:
        p = softmax(factor * scores)
        return float(-(weights * np.log(p[np.arange(400), codes])).sum())

    best = temperature(scores, codes, weights)
    assert best == pytest.approx(0.2, abs=0.04)
    assert loss(best) < min(loss(best * 1.01), loss(best * 0.99))


def test_a_temperature_never_degenerates() -> None:
    scores = np.eye(3)[np.arange(60) % 3]
    assert temperature(scores, np.arange(60) % 3) < 1000, "every row is right"
    assert temperature(scores, (np.arange(60) + 1) % 3) > 0, "every row is wrong"
    assert temperature(np.ones((6, 3)), np.arange(6) % 3) == 1.0, "scores that do not vary"


@named
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1e-6, 1.0, 1e6]))
def test_a_planted_direction_is_read_at_every_scale(probe, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, 240)
    X = rng.normal(size=(240, 6)) + 6.0 * y[:, None] * np.array([1, 0, 0, 0, 0, 0])  # noqa: N806
    quick = {"epochs": 25, "learning_rate": 0.03} if hasattr(probe, "epochs") else {}
    fitted = clone(probe).set_params(**quick).fit(scale * X[:160], y[:160])
    assert fitted.score(scale * X[160:], y[160:]) > 0.9


@named
def test_a_single_class_raises(probe) -> None:
    X = np.random.default_rng(0).normal(size=(5, 2))  # noqa: N806
    with pytest.raises(UsageError, match="labels of at least two classes, got only 'a'"):
        probe.fit(X, np.array(["a"] * 5))
    with pytest.raises(UsageError, match="labels of at least two classes, got only 'b'"):
        probe.fit(X, np.array(list("aabbb")), sample_weight=[0, 0, 1, 2, 3])


@named
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_named(probe, bad: float) -> None:
    X, y = blobs(60, classes=2)  # noqa: N806
    broken = X.copy()
    broken[[23, 41], 3] = bad
    with pytest.raises(
        UsageError,
        match=r"expected finite rows in the probe\'s (input|sequences), got NaN or inf in row 23 \(2 such rows\); leave them out",
    ):
        probe.fit(broken, y)
    with pytest.raises(UsageError, match="row 23"):
        probe.fit(X, y).predict(broken)


@named
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0] * 59 + [-0.5], "expected finite weights of at least 0, got -0.5 in row 59"),
        ([0.0] * 60, r"got 0 for every row|at least one non-zero number"),  # ours, or newer scikit-learn's
    ],
)
def test_wrong_weights_raise(probe, weights: list[float], message: str) -> None:
    X, y = blobs(60, classes=2)  # noqa: N806
    with pytest.raises(ValueError, match=message):
        probe.fit(X, y, sample_weight=weights)


@named
def test_sparse_rows_and_labels_raise(probe) -> None:
    X, y = blobs(60, classes=2)  # noqa: N806
    with pytest.raises(TypeError, match="dense data is required"):
        probe.fit(csr_matrix(X), y)
    with pytest.raises((TypeError, ValueError), match=r"[Ss]parse"):
        probe.fit(X, csr_matrix((y == "class 1").astype(int)[:, None]))
