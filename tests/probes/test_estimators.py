"""`RidgeProbe` keeps scikit-learn's contract, and its probabilities mean something."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss
from sklearn.utils.estimator_checks import parametrize_with_checks

from probes import RidgeProbe
from probes.estimators import _softmax


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
    plain = log_loss(gold, _softmax(probe.decision_function(new)), labels=labels)
    assert fitted < plain - 0.01
    # And they are about right: of what is said with 60 %, about 60 % is so.
    p = probe.predict_proba(new)
    said, right = p.max(axis=1), probe.classes_[p.argmax(axis=1)] == gold
    assert said.mean() == pytest.approx(right.mean(), abs=0.06)


def test_without_any_signal_it_is_not_sure_of_anything() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 40)), rng.integers(0, 5, 300)  # noqa: N806
    probe = RidgeProbe().fit(X, y)
    assert probe.predict_proba(rng.normal(size=(500, 40))).max(axis=1).mean() < 0.4
    assert (probe.predict(X) == y).mean() > 0.35, "it does overfit its own rows, and yet knows that"


def test_clone_and_params() -> None:
    probe = RidgeProbe(strengths=(0.5,))
    assert clone(probe).get_params() == {"strengths": (0.5,)}


def test_a_single_class_is_refused() -> None:
    with pytest.raises(ValueError, match="two classes to tell apart, but the only one here is 'a'"):
        RidgeProbe().fit(np.random.default_rng(0).normal(size=(5, 2)), np.array(["a"] * 5))
