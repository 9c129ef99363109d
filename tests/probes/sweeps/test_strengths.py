"""Strengths of logistic probes chosen on validation, beside every strength fitted to the end on its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interp.statistics.splits import Masks
from probes.estimators.base import softmax
from probes.estimators.linear import LOGISTIC_STRENGTHS
from probes.solvers.logistic import InMemory, fit_logistic, multinomial
from probes.sweeps import strengths
from probes.sweeps.strengths import best_fits


def log_loss(p: np.ndarray, codes: np.ndarray) -> float:
    return float(-np.log(p[np.arange(len(codes)), codes].clip(1e-12)).mean())


@pytest.fixture
def split() -> Masks:
    part = np.random.default_rng(1).choice(3, 600, p=[0.5, 0.25, 0.25])
    return Masks(part == 0, part == 1, part == 2)


def test_every_labelling_gets_the_strength_that_is_best_on_validation(split: Masks) -> None:
    """Clear, weak and shuffled labels of different numbers of classes, among them two and one."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(600, 20)).astype(np.float32)
    labellings = {}
    for size in (2, 3, 5):
        scores = rows @ rng.normal(size=(20, size))
        for name, noise in (("clear", 0.1), ("weak", 6.0), ("shuffled", 1e3)):
            labels = (scores + noise * rng.gumbel(size=scores.shape)).argmax(axis=1)
            labellings[f"{name} {size}"] = labels.astype(str)
    labellings["one"] = np.full(600, "7")
    classes = {name: np.unique(labels[split.train]) for name, labels in labellings.items()}
    got = best_fits(rows, labellings, classes, split)
    assert (softmax(got.pop("one").logits) == 1).all()
    chosen = set()
    for name, fit in got.items():
        logits = fit.logits
        assert fit.converged, name
        codes = np.searchsorted(classes[name], labellings[name])
        train = InMemory(torch.from_numpy(rows[split.train]))
        losses, best = [], []
        for strength in LOGISTIC_STRENGTHS:
            labels = multinomial(codes[split.train][:, None], len(classes[name]), strength)
            scores = fit_logistic(train, labels).scores(torch.from_numpy(rows))[:, 0].numpy()
            p = softmax(np.pad(scores, ((0, 0), (1, 0))) if scores.shape[1] == 1 else scores)
            losses.append(log_loss(p[split.val], codes[split.val]))
            best.append(p)
        ours = softmax(np.pad(logits, ((0, 0), (1, 0))) if logits.shape[1] == 1 else logits)
        assert log_loss(ours[split.val], codes[split.val]) == pytest.approx(min(losses), abs=2e-3), name
        np.testing.assert_allclose(ours, best[int(np.argmin(losses))], atol=0.02, err_msg=name)
        chosen.add(LOGISTIC_STRENGTHS[int(np.argmin(losses))])
    assert len(chosen) >= 2, "the labellings do not differ in what is best for them"


def test_a_fit_that_ran_out_of_steps_says_so(split: Masks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strengths, "_MOST_STEPS", 1)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(600, 8)).astype(np.float32)
    labellings = {"clear": (rows[:, 0] > 0).astype(str), "one": np.full(600, "7")}
    classes = {name: np.unique(labels) for name, labels in labellings.items()}
    got = best_fits(rows, labellings, classes, split)
    assert not got["clear"].converged and got["one"].converged


def test_a_label_that_no_training_row_has_counts_as_impossible(split: Masks) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(600, 4)).astype(np.float32)
    labels = rng.choice(["a", "c"], 600)
    labels[np.flatnonzero(split.val)[:3]] = "b"
    labels[np.flatnonzero(split.test)[:3]] = "z"
    logits = best_fits(rows, {"t": labels}, {"t": np.array(["a", "c"])}, split)["t"].logits
    assert logits.shape == (600, 1) and np.isfinite(logits).all()
