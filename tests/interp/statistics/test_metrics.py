"""Metrics equal scikit-learn's, calibration equals explicit bins, and intervals cover the true value."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from interp.errors import UsageError
from interp.statistics.intervals import grouped_mean_interval
from interp.statistics.metrics import METRICS, bootstrap_interval, ece, reliability, scores


def draw_labels(n: int, k: int, seed: int, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels drawn from the probabilities themselves, so that these are calibrated."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(k, sharpness), size=n)
    classes = np.array([f"class {c}" for c in range(k)])
    return classes[(p.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)], classes, p


@settings(max_examples=40, deadline=None)
@given(n=st.integers(8, 120), k=st.integers(2, 6), seed=st.integers(0, 10_000), rounded=st.booleans())
def test_every_metric_equals_scikit_learns(n: int, k: int, seed: int, rounded: bool) -> None:
    gold, classes, p = draw_labels(n, k, seed)
    if rounded:  # so that scores tie
        p = np.round(p * 4) + 0.25
        p /= p.sum(axis=1, keepdims=True)
    values = scores(gold, classes, p)
    predicted, occurring = classes[p.argmax(axis=1)], np.unique(gold)
    assert values["accuracy"] == pytest.approx(sk.accuracy_score(gold, predicted))
    assert values["balanced_accuracy"] == pytest.approx(
        sk.recall_score(gold, predicted, labels=occurring, average="macro")
    )
    f1 = sk.f1_score(gold, predicted, labels=occurring, average="macro", zero_division=0.0)
    assert values["macro_f1"] == pytest.approx(f1)
    assert values["log_loss"] == pytest.approx(sk.log_loss(gold, p, labels=classes))
    truth = gold[:, None] == classes
    assert values["brier"] == pytest.approx(((p - truth) ** 2).sum(axis=1).mean())
    tested_classes = [c for c in ([1] if k == 2 else range(k)) if 0 < truth[:, c].sum() < n]
    for name, peer in (("auroc", sk.roc_auc_score), ("auprc", sk.average_precision_score)):
        if tested_classes:
            assert values[name] == pytest.approx(np.mean([peer(truth[:, c], p[:, c]) for c in tested_classes])), name
        else:
            assert np.isnan(values[name])


def test_auroc_equals_scikit_learns_average_and_brier_twice_its_one_class_form() -> None:
    gold, classes, p = draw_labels(300, 4, 0)
    values = scores(gold, classes, p, ["auroc"])
    assert values["auroc"] == pytest.approx(sk.roc_auc_score(gold, p, multi_class="ovr", average="macro"))
    gold, classes, p = draw_labels(300, 2, 0)
    half = sk.brier_score_loss(gold == classes[1], p[:, 1])
    assert scores(gold, classes, p, ["brier"])["brier"] == pytest.approx(2 * half)


def test_the_order_of_rows_and_classes_does_not_matter() -> None:
    gold, classes, p = draw_labels(200, 5, 1)
    rows, columns = np.random.default_rng(0).permutation(200), np.array([3, 0, 4, 1, 2])
    permuted = scores(gold[rows], classes[columns], p[rows][:, columns])
    for name, value in scores(gold, classes, p).items():
        assert permuted[name] == pytest.approx(value), name


def test_a_label_that_is_no_class_counts_as_probability_zero() -> None:
    gold, classes, p = draw_labels(50, 3, 2)
    gold[7] = "never trained on"
    values, without = scores(gold, classes, p), scores(np.delete(gold, 7), classes, np.delete(p, 7, axis=0))
    assert values["accuracy"] == pytest.approx(without["accuracy"] * 49 / 50)
    assert values["log_loss"] == pytest.approx((without["log_loss"] * 49 - np.log(2**-52)) / 50)
    assert values["brier"] == pytest.approx((without["brier"] * 49 + (p[7] ** 2).sum() + 1) / 50)
    assert values["macro_f1"] < without["macro_f1"]


def test_a_single_label_leaves_only_the_areas_undefined() -> None:
    _, classes, p = draw_labels(40, 2, 3)
    values = scores(np.full(40, "class 1"), classes, p)
    assert [name for name, value in values.items() if np.isnan(value)] == ["auroc", "auprc"]


def test_the_curve_in_bins_of_equal_width_equals_scikit_learns() -> None:
    gold, classes, p = draw_labels(500, 2, 4)
    confidence_of, right = p.max(axis=1), classes[p.argmax(axis=1)] == gold
    curve = reliability(gold, classes, p, bins=10, by="width")
    accuracy, confidence = calibration_curve(right, confidence_of, n_bins=10, strategy="uniform")
    np.testing.assert_allclose(curve["accuracy"], accuracy)
    np.testing.assert_allclose(curve["confidence"], confidence)
    assert (
        curve["n"].sum() == 500
        and ((curve["low"] < curve["confidence"]) & (curve["confidence"] <= curve["high"])).all()
    )


def test_bins_of_equal_mass_hold_equally_many_and_keep_ties_together() -> None:
    gold, classes, p = draw_labels(600, 4, 5)
    assert set(reliability(gold, classes, p, bins=12)["n"]) <= {49, 50, 51}
    coarse = np.round(p * 3) + 1
    coarse /= coarse.sum(axis=1, keepdims=True)
    curve = reliability(gold, classes, coarse, bins=12)
    confidence_of = coarse.max(axis=1)
    for row in curve.itertuples():
        assert row.n == ((confidence_of > row.low) & (confidence_of <= row.high)).sum()
    rng = np.random.default_rng(0).permutation(600)
    pd.testing.assert_frame_equal(curve, reliability(gold[rng], classes, coarse[rng], bins=12))


@pytest.mark.parametrize("by", ["mass", "width"])
def test_calibrated_probabilities_have_little_error_and_sharpened_ones_much(by: str) -> None:
    gold, classes, p = draw_labels(20_000, 3, 6)
    assert ece(gold, classes, p, by=by) < 0.015
    sharp = p**4 / (p**4).sum(axis=1, keepdims=True)
    assert ece(gold, classes, sharp, by=by) > 0.15
    one_bin = ece(gold, classes, sharp, bins=1, by=by)
    right = classes[sharp.argmax(axis=1)] == gold
    assert one_bin == pytest.approx(sharp.max(axis=1).mean() - right.mean())


def test_ece_is_the_curves_mean_gap() -> None:
    gold, classes, p = draw_labels(700, 5, 7)
    assert scores(gold, classes, p, ["ece"])["ece"] == pytest.approx(ece(gold, classes, p))


def test_the_interval_of_accuracy_is_that_of_a_mean_over_groups() -> None:
    gold, classes, p = draw_labels(400, 3, 8)
    groups = np.random.default_rng(0).integers(0, 90, 400)
    values = bootstrap_interval("accuracy", gold, classes, p, groups, draws=4000)
    expected = grouped_mean_interval(classes[p.argmax(axis=1)] == gold, groups, draws=4000)
    assert values == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize("name", METRICS)
def test_intervals_are_those_of_rows_written_out(name: str) -> None:
    """The same draws, one by one, with each row as often as its group times its seed was drawn."""
    gold, classes, p = draw_labels(120, 3, 9)
    rng = np.random.default_rng(1)
    groups, seeds = rng.integers(0, 25, 120), rng.integers(0, 4, 120)
    interval = bootstrap_interval(name, gold, classes, p, groups, seeds, draws=60, seed=5)
    draw = np.random.default_rng(5)
    of_groups = draw.multinomial(25, np.full(25, 1 / 25), 60)
    of_seeds = draw.multinomial(4, np.full(4, 1 / 4), 60)
    values = []
    for g, s in zip(of_groups, of_seeds, strict=True):
        rows = np.repeat(np.arange(120), g[groups] * s[seeds])
        values.append(scores(gold[rows], classes, p[rows], [name])[name])
    if name == "ece":  # its bins are cut once, on all rows, so they are only about equal
        assert interval == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.05)
    else:
        assert interval == pytest.approx(np.quantile(values, [0.025, 0.975]))


def test_whole_groups_widen_an_interval_and_so_do_seeds() -> None:
    rng = np.random.default_rng(2)
    easy, kind = rng.normal(size=60), rng.normal(size=4)
    groups, seeds = np.repeat(np.arange(60), 8), np.tile(np.arange(4), 120)
    chance = 1 / (1 + np.exp(-(1.5 * easy[groups] + 1.5 * kind[seeds])))
    gold, classes = np.where(rng.random(480) < chance, "yes", "no"), np.array(["no", "yes"])
    p = np.tile([0.4, 0.6], (480, 1))

    def width(groups: np.ndarray, seeds: np.ndarray | None = None) -> float:
        low, high = bootstrap_interval("log_loss", gold, classes, p, groups, seeds)
        return high - low

    rows, whole, both = width(np.arange(480)), width(groups), width(groups, seeds)
    assert rows < whole < both


@pytest.mark.parametrize("name", ["macro_f1", "auroc", "log_loss"])
def test_intervals_cover_the_truth_at_about_their_level(name: str) -> None:
    gold, classes, p = draw_labels(60_000, 3, 10)
    truth = scores(gold, classes, p, [name])[name]
    covered = 0
    for k in range(60):
        rows = slice(1000 * k, 1000 * k + 150)
        low, high = bootstrap_interval(name, gold[rows], classes, p[rows], np.arange(150), draws=300)
        covered += low <= truth <= high
    assert covered >= 51


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "auroc", "auprc"])
def test_a_perfect_score_has_an_interval_too(name: str) -> None:
    classes = np.array([0, 1])
    gold = np.tile(classes, 20)
    p = np.stack([1 - gold, gold], axis=1) * 0.8 + 0.1
    low, high = bootstrap_interval(name, gold, classes, p, np.repeat(np.arange(20), 2))
    assert high == 1.0 and low == pytest.approx(0.025 ** (1 / 20))


def test_a_metric_that_is_never_defined_has_no_interval() -> None:
    _, classes, p = draw_labels(40, 2, 11)
    values = bootstrap_interval("auroc", np.full(40, "class 0"), classes, p, np.arange(40))
    assert np.isnan(values).all()


def test_a_resample_without_a_class_leaves_the_class_out() -> None:
    """One class is in a single group; a resample without it must not count it as a failure."""
    classes = np.array(["a", "b", "c"])
    gold = np.array(["a", "b"] * 20 + ["c"])
    p = np.where(gold[:, None] == classes, 0.8, 0.1)
    p[0] = [0.1, 0.8, 0.1]  # one mistake, so that the score is not perfect
    groups = np.arange(41)
    low, _ = bootstrap_interval("balanced_accuracy", gold, classes, p, groups)
    assert low > 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g, c, p: (g, c, p[:, :2]), "60 x 3 and at least one row, got 60 x 2"),
        (lambda g, c, p: (g[:0], c, p[:0]), "at least one row, got 0 x 3"),
        (
            lambda g, c, p: (g, c, np.where(np.arange(60)[:, None] == 4, np.nan, p)),
            "expected probabilities that add up to 1, got others in row 4",
        ),
        (
            lambda g, c, p: (g, c, np.log(p)),
            r"expected probabilities that add up to 1, got others in row 0 \(60 such rows\)",
        ),
    ],
)
def test_wrong_probabilities_are_refused(change, message: str) -> None:
    gold, classes, p = change(*draw_labels(60, 3, 12))
    with pytest.raises(UsageError, match=message):
        scores(gold, classes, p)


def test_unknown_names_and_other_lengths_are_refused() -> None:
    gold, classes, p = draw_labels(30, 2, 13)
    with pytest.raises(UsageError, match=r"expected a known metric, got 'acuracy'; did you mean 'accuracy'"):
        scores(gold, classes, p, ["acuracy"])
    with pytest.raises(UsageError, match="expected a known way to cut bins, got 'height'"):
        ece(gold, classes, p, by="height")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="bins to be a whole number of at least 1, got 0"):
        reliability(gold, classes, p, bins=0)
    with pytest.raises(UsageError, match="expected 30 groups, one for each row, got 29"):
        bootstrap_interval("accuracy", gold, classes, p, np.arange(29))
    with pytest.raises(UsageError, match="expected 30 seeds, one for each row, got 3"):
        bootstrap_interval("accuracy", gold, classes, p, np.arange(30), np.arange(3))
