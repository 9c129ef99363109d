"""The batched logistic solver against scikit-learn, its convergence reports, and streamed rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from interp.errors import UsageError
from probes.estimators.linear import LogisticProbe
from probes.solvers.logistic import InMemory, Labellings, Streamed, binary, fit_logistic, multinomial


def anisotropic(n: int, d: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return ((rng.normal(size=(n, d)) * np.logspace(0, -2, d)) @ turn.T + rng.normal(size=d)).astype(np.float32)


def labels(rows: np.ndarray, k: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scores = rows @ rng.normal(size=(rows.shape[1], k))
    scores = (scores - scores.mean(0)) / scores.std(0)
    return (rng.random(scores.shape) < 1 / (1 + np.exp(-2 * scores))).astype(int)


def reference(rows: np.ndarray, y: np.ndarray, c: float = 1.0, weights: np.ndarray | None = None):
    scaler = StandardScaler().fit(rows.astype(np.float64), sample_weight=weights)
    model = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-8).fit(
        scaler.transform(rows), y, sample_weight=weights
    )
    return lambda x: model.predict_proba(scaler.transform(x)), model.coef_ / scaler.scale_


@parametrize_with_checks([LogisticProbe()])
def test_scikit_learns_contract(estimator, check) -> None:
    check(estimator)


@pytest.mark.parametrize("load", [load_iris, load_wine, load_breast_cancer, load_digits])
def test_real_data_beside_scikit_learn(load) -> None:
    x, y = load(return_X_y=True)
    x, held, y, gold = train_test_split(x, y, random_state=0, stratify=y)
    probe = LogisticProbe().fit(x, y)
    peer, coef = reference(x, y)
    assert log_loss(gold, probe.predict_proba(held)) == pytest.approx(log_loss(gold, peer(held)), abs=1e-4)
    np.testing.assert_allclose(probe.predict_proba(held), peer(held), atol=2e-3)
    exact = LogisticProbe(tol=1e-8).fit(x, y)
    np.testing.assert_allclose(exact.coef_, coef, rtol=1e-3, atol=1e-4 * np.abs(coef).max())
    assert log_loss(gold, exact.predict_proba(held)) == pytest.approx(log_loss(gold, peer(held)), abs=1e-6)


def degenerate(kind: str, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return degenerate rows and labels of one sort; the first half is for training, the second for testing."""
    rng = np.random.default_rng(seed)
    d = 40 if kind == "wide" else 4
    x = rng.normal(size=(120, d))
    y = np.argmax(x[:, :classes] + rng.gumbel(size=(120, classes)), axis=1)
    y[:classes] = np.arange(classes)
    if kind == "wide":  # more columns than training rows
        x, y = np.concatenate([x[:30], x[60:]]), np.concatenate([y[:30], y[60:]])
    elif kind == "separable":
        y = np.argmax(x[:, :classes], axis=1)
    elif kind == "collinear":
        x = np.column_stack([x, 2 * x[:, 0] + 1, x[:, 1] - x[:, 2]])
    elif kind == "constant":
        x = np.column_stack([x, np.full(120, 3.0), np.zeros(120)])
    elif kind == "duplicates":
        x[:60], y[:60] = np.repeat(x[:12], 5, axis=0), np.repeat(y[:12], 5)
    elif kind == "rare":
        y = np.where(np.arange(120) == 7, 1, 0)
    elif kind == "missing":  # a class without training rows
        y[:60] = np.where(y[:60] == classes - 1, 0, y[:60])
    elif kind in ("huge", "tiny"):
        x = x * (1e8 if kind == "huge" else 1e-8)
    elif kind == "mixed":
        x = x * 10.0 ** np.linspace(-6, 6, d) + 3 * 10.0 ** np.linspace(-6, 6, d)
    return x, y


@pytest.mark.parametrize(
    "kind",
    [
        "wide",
        "separable",
        "collinear",
        "constant",
        "duplicates",
        "rare",
        "missing",
        "huge",
        "tiny",
        "mixed",
        "weighted",
    ],
)
@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.sampled_from([2, 4]), c=st.sampled_from([0.01, 1.0, 30.0]))
def test_degenerate_data_has_the_solution_of_scikit_learn(kind: str, seed: int, classes: int, c: float) -> None:
    x, y = degenerate(kind, classes, seed)
    half = len(x) - 60
    x, held, y, gold = x[:half], x[half:], y[:half], y[half:]
    if len(np.unique(y)) < 2:  # a single class raises, which is tested elsewhere
        y[0] = 1 - y[0]
    weights = np.random.default_rng(seed).choice([0.3, 1.0, 4.0], half) if kind == "weighted" else None
    probe = LogisticProbe(c, tol=1e-9).fit(x, y, weights)
    peer, coef = reference(x, y, c, weights)
    assert probe.gradient_norm_ <= 1e-9
    np.testing.assert_allclose(probe.coef_, coef, rtol=1e-3, atol=1e-5 * np.abs(coef).max())
    np.testing.assert_allclose(probe.predict_proba(held), peer(held), atol=1e-5)
    known = np.isin(gold, probe.classes_)
    ours, theirs = (log_loss(gold[known], f(held[known]), labels=probe.classes_) for f in (probe.predict_proba, peer))
    assert ours == pytest.approx(theirs, abs=1e-5, rel=1e-4)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), bad=st.sampled_from([np.nan, np.inf, -np.inf]), row=st.integers(0, 39))
def test_the_probe_names_the_row_that_is_not_finite(seed: int, bad: float, row: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(40, 3)), np.arange(40) % 2
    x[row, seed % 3] = bad
    with pytest.raises(UsageError, match=rf"in the probe's input, got NaN or inf in row {row} "):
        LogisticProbe().fit(x, y)


@pytest.mark.parametrize("strength", [0.5, 1.5, 3.0])
def test_a_planted_direction_is_recovered_with_its_strength(strength: float) -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=12)
    truth *= strength / np.linalg.norm(truth)
    x = rng.normal(size=(20_000, 12))
    y = (rng.random(20_000) < 1 / (1 + np.exp(-(x @ truth - 0.4)))).astype(int)
    probe = LogisticProbe(C=100.0).fit(x, y)
    assert np.linalg.norm(probe.coef_[0]) == pytest.approx(strength, rel=0.06)
    assert probe.coef_[0] @ truth / np.linalg.norm(probe.coef_[0]) / strength > 0.99
    assert probe.intercept_[0] == pytest.approx(-0.4, abs=0.08)


def test_coefficients_equal_scikit_learn() -> None:
    x = anisotropic(1500, 24, 0)
    y = labels(x, 1, 1)[:, 0]
    _, coef = reference(x, y)
    np.testing.assert_allclose(LogisticProbe(tol=1e-7).fit(x, y).coef_, coef, rtol=2e-3, atol=2e-3 * np.abs(coef).max())


def test_many_targets_together_equal_each_single_fit() -> None:
    x = anisotropic(2000, 30, 2)
    y = labels(x, 7, 3)
    strengths = [0.1, 1.0, 10.0, 1.0, 1.0, 100.0, 0.01]
    rows = InMemory(torch.from_numpy(x))
    together = fit_logistic(rows, binary(y, strengths))
    assert together.converged.all() and (together.gradient <= 1e-5).all()
    for k, strength in enumerate(strengths):
        single = fit_logistic(rows, binary(y[:, [k]], strength))
        torch.testing.assert_close(
            together.scores(rows.rows)[:, k], single.scores(rows.rows)[:, 0], atol=5e-3, rtol=1e-3
        )


def test_many_targets_of_several_classes_together_equal_each_single_fit() -> None:
    x = anisotropic(600, 8, 12)
    rng = np.random.default_rng(13)
    scores = x @ rng.normal(size=(8, 12)) + rng.gumbel(size=(600, 12))
    codes = np.stack([scores[:, 3 * k : 3 * k + 3].argmax(axis=1) for k in range(4)], axis=1)
    strengths = [1e-3, 1.0, 30.0, 1000.0]
    rows = InMemory(torch.from_numpy(x))
    together = fit_logistic(rows, multinomial(codes, 3, strengths))
    assert together.converged.all() and together.iterations.dtype == torch.long
    assert together.iterations[0] >= together.iterations[3] > 0, "the weakest penalty takes the most steps"
    for k, strength in enumerate(strengths):
        single = fit_logistic(rows, multinomial(codes[:, [k]], 3, strength))
        # Only differences between classes matter: the same number added to all logits of a row changes nothing.
        ours, alone = (
            torch.softmax(scores, dim=1)
            for scores in (together.scores(rows.rows)[:, k], single.scores(rows.rows)[:, 0])
        )
        torch.testing.assert_close(ours, alone, atol=5e-3, rtol=1e-3)


def test_binary_and_two_columns_of_labels_agree_with_the_peer_at_every_strength() -> None:
    x = anisotropic(900, 12, 4)
    y = labels(x, 1, 5)
    strengths = [0.01, 1.0, 100.0]
    fit = fit_logistic(InMemory(torch.from_numpy(x)), binary(np.repeat(y, 3, axis=1), strengths))
    scores = fit.scores(torch.from_numpy(x))[:, :, 0].double().numpy()
    for k, strength in enumerate(strengths):
        peer, _ = reference(x, y[:, 0], 1 / strength)
        np.testing.assert_allclose(1 / (1 + np.exp(-scores[:, k])), peer(x)[:, 1], atol=1e-3)


def test_a_weight_of_zero_leaves_a_row_out() -> None:
    x = anisotropic(800, 10, 6)
    rng = np.random.default_rng(7)
    codes = (x @ rng.normal(size=(10, 4)) + rng.gumbel(size=(800, 4))).argmax(axis=1)
    kept = rng.random(800) < 0.7
    poisoned = np.where(kept, codes, rng.integers(0, 4, 800))
    fit = fit_logistic(
        InMemory(torch.from_numpy(x)), multinomial(poisoned[:, None], 4, 1.0, kept[:, None].astype(float))
    )
    # Rows are standardised over all of them, so the peer is given the same scaling.
    scaler = StandardScaler().fit(x)
    peer = LogisticRegression(solver="newton-cholesky", tol=1e-8).fit(scaler.transform(x[kept]), codes[kept])
    ours = torch.softmax(fit.scores(torch.from_numpy(x))[:, 0], dim=1).numpy()
    np.testing.assert_allclose(ours, peer.predict_proba(scaler.transform(x)), atol=2e-3)


def test_streaming_equals_memory_and_reads_block_by_block() -> None:
    x = anisotropic(3000, 20, 8)
    y = labels(x, 3, 9)
    sizes = []

    def read():
        for start in range(0, len(x), 700):
            sizes.append(len(x[start : start + 700]))
            yield x[start : start + 700]

    streamed = fit_logistic(Streamed(len(x), 20, read), binary(y))
    whole = fit_logistic(InMemory(torch.from_numpy(x)), binary(y))
    assert max(sizes) <= 700 and streamed.converged.all()
    rows = torch.from_numpy(x)
    torch.testing.assert_close(streamed.scores(rows), whole.scores(rows), atol=5e-3, rtol=1e-3)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    d=st.integers(1, 40),
    kind=st.sampled_from(
        ["plain", "collinear", "constant", "duplicates", "huge", "tiny", "shifted", "separable", "rare"]
    ),
)
def test_degenerate_data_ends_at_the_optimum(seed: int, d: int, kind: str) -> None:
    """The optimum of a strictly convex objective is where its gradient is zero; check that in float64."""
    rng = np.random.default_rng(seed)
    n = 60
    x = rng.normal(size=(n, d))
    y = (x[:, 0] + rng.normal(size=n) > 0).astype(int)
    if kind == "collinear":
        x = np.concatenate([x, x[:, :1] * 2 + 1], axis=1)
    elif kind == "constant":
        x = np.concatenate([x, np.full((n, 1), 3.0)], axis=1)
    elif kind == "duplicates":
        x, y = np.repeat(x[:20], 3, axis=0), np.repeat(y[:20], 3)
    elif kind in ("huge", "tiny"):
        x = x * (1e6 if kind == "huge" else 1e-6)
    elif kind == "shifted":
        x = x + 1e3
    elif kind == "separable":
        y = (x[:, 0] > 0).astype(int)
    elif kind == "rare":
        y = np.zeros(n, int)
        y[0] = 1
    if y.min() == y.max():
        y[0] = 1 - y[0]
    x = x.astype(np.float32)
    fit = fit_logistic(InMemory(torch.from_numpy(x)), binary(y[:, None]))
    assert fit.converged.all(), (kind, fit.gradient)
    wide = x.astype(np.float64)
    spread = wide.std(axis=0)
    scale = np.where(spread > 1e-6 * np.abs(wide.mean(axis=0)), spread, 1.0)
    z = (wide - wide.mean(axis=0)) / scale
    w = fit.coef[:, 0, 0].double().numpy() * scale
    score = wide @ fit.coef[:, 0, 0].double().numpy() + fit.intercept[0, 0].item()
    residual = 1 / (1 + np.exp(-score)) - y
    gradient = np.append(z.T @ residual + w, residual.sum()) / n
    # Shifted rows lose digits before the fit: 1e3 plus a unit normal has about four decimals in float32.
    assert np.abs(gradient).max() < (2e-3 if kind == "shifted" else 1e-4), kind


def test_stopping_early_warns() -> None:
    x = anisotropic(300, 8, 10)
    y = labels(x, 1, 11)[:, 0]
    with pytest.warns(ConvergenceWarning, match=r"gradient norm is .* above tol"):
        probe = LogisticProbe(C=1e6, max_iter=1).fit(x, y)
    assert probe.n_iter_ == 1 and probe.gradient_norm_ > probe.tol


def test_a_row_that_is_not_finite_is_named() -> None:
    x = np.zeros((10, 3), np.float32)
    x[7, 1] = np.nan
    with pytest.raises(UsageError, match="NaN or inf in row 7;"):
        fit_logistic(InMemory(torch.from_numpy(x)), binary(np.zeros((10, 1), int)))


def test_another_number_of_labels_raises() -> None:
    with pytest.raises(UsageError, match="expected labels for 10 rows, got 9"):
        fit_logistic(InMemory(torch.zeros(10, 3)), Labellings(torch.zeros(1, 9, dtype=torch.long), 2, torch.ones(1)))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_rows_without_features_give_the_share_of_each_class(n_classes: int) -> None:
    """A control whose features are all constant leaves none."""
    codes = np.random.default_rng(0).integers(0, n_classes, (60, 2))
    fit = fit_logistic(InMemory(torch.zeros(60, 0)), multinomial(codes, n_classes))
    logits = fit.scores(torch.zeros(1, 0))[0]
    p = torch.sigmoid(logits) if n_classes == 2 else logits.softmax(dim=1)
    expected = np.stack([(codes == k).mean(axis=0) for k in range(n_classes)], axis=1)[:, -p.shape[1] :]
    assert fit.converged.all()
    np.testing.assert_allclose(p, expected, atol=1e-4)
