"""Learning curves, description lengths and reliability on planted values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from interp.activations import Store
from interp.errors import UsageError
from probes.estimators.saved import load_probe
from probes.sweeps import figures
from probes.sweeps.curves import description_length, learning_curve, reliability
from probes.sweeps.single import train_probe

HERE, NOISE = "blocks.1.hook_out", "blocks.0.hook_out"


@pytest.fixture(scope="module")
def store(planted_store: Callable[..., Store]) -> Store:
    return planted_store(HERE, NOISE, n=400, width=24, strength=3.5)


def test_accuracy_rises_with_problems_but_not_for_shuffled_labels(store: Store) -> None:
    curve = learning_curve(store, "value_2", "thought 2", HERE)
    assert curve["n_train"].is_monotonic_increasing and curve["n_train"].iloc[0] == 25
    assert curve["accuracy"].iloc[-1] > curve["accuracy"].iloc[0] + 0.1 and curve["accuracy"].iloc[-1] > 0.8
    assert curve["shuffled_labels"].iloc[-1] < 0.25 and (curve["majority"] < 0.25).all()
    assert ((curve["ci_low"] <= curve["accuracy"]) & (curve["accuracy"] <= curve["ci_high"])).all()
    figure = figures.learning_curve(curve)
    assert list(figure.data[0].y) == list(curve["accuracy"]) and len(figure.data) == 3
    with pytest.raises(UsageError, match=r"expected at most \d+ training problems in split 0, got 9999"):
        learning_curve(store, "value_2", "thought 2", HERE, sizes=[9999])


def test_labels_are_compressed_where_they_are_planted(store: Store) -> None:
    planted, noise = (description_length(store, "value_2", "thought 2", where) for where in (HERE, NOISE))
    assert planted["target"].compression > 1.4 > 1.15 > noise["target"].compression
    assert planted["target"].compression > planted["control_task"].compression + 0.2


def test_a_reliability_curve_uses_held_out_problems(store: Store, tmp_path: Path) -> None:
    at = {"target": "value_2", "place": "thought 2", "address": HERE}
    result = train_probe(store, tmp_path / "p", **at, controls="none")
    bins = reliability(load_probe(tmp_path / "p"), store, bins=5)
    assert bins["n"].sum() == pytest.approx(result.accuracy.n, abs=2)
    assert np.average(bins["accuracy"], weights=bins["n"]) == pytest.approx(result.accuracy.value, abs=0.01)
    figure = figures.reliability(bins)
    assert list(figure.data[1].x) == list(bins["confidence"])


def test_transfer_and_cosine_matrices_show_every_pair() -> None:
    pairs = [(a, b, 0.1 * k) for k, (a, b) in enumerate([("x", "x"), ("x", "y"), ("y", "x"), ("y", "y")])]
    table = pd.DataFrame(pairs, columns=["fitted_to", "tested_on", "accuracy"])
    assert np.asarray(figures.transfer_matrix(table).data[0].z).tolist() == [[0.0, 0.1], [0.2, pytest.approx(0.3)]]
    z = np.asarray(
        figures.cosines({"a": np.array([1.0, 0]), "b": np.array([0, 2.0]), "c": np.array([-3.0, 0])}).data[0].z
    )
    np.testing.assert_allclose(z, [[1, 0, -1], [0, 1, 0], [-1, 0, 1]], atol=1e-12)
