"""The bench of sparse autoencoders on small inputs: it prints what was measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from benchmarks.sae import readouts as sae_readouts
from benchmarks.sae import speed as sae_speed
from benchmarks.sae.readouts import Readouts
from benchmarks.sae.sparsify_peer import installed
from interp.activations import Store
from interp.decoders.features import FeatureReadout
from interp.models.address import Address
from interp.problems import task
from interp.sae.dictionaries import LinearDictionary
from interp.traces import TraceSet
from probes.decoder import ProbeDecoder

PLACE = Address("blocks.1.hook_out")
D = 16


@pytest.fixture(scope="module")
def directions() -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(0).normal(size=(D, D)))[0][:10].astype(np.float32)


@pytest.fixture(scope="module")
def readouts(
    tmp_path_factory: pytest.TempPathFactory, written_trace: Callable, write_store: Callable, directions: np.ndarray
) -> Readouts:
    """Thoughts that hold their value, each along a direction of its own."""
    traces = TraceSet([written_trace(p) for p in task("chain:steps=2-4").generate(300, seed=0, split="test")])

    def acts(index: pd.DataFrame) -> np.ndarray:
        steps = zip(index["trace"], index["step"], strict=True)
        codes = np.array([int(traces[t].problem.steps[s - 1].value) if s else 0 for t, s in steps])
        return 3 * directions[codes] + 0.1 * np.random.default_rng(0).normal(size=(len(index), D))

    store: Store = write_store(tmp_path_factory.mktemp("bench") / "s", traces, {PLACE.name: acts})
    return Readouts(store)


def test_a_dictionary_of_the_values_reads_every_chain(readouts: Readouts, directions: np.ndarray) -> None:
    perfect = LinearDictionary(directions, np.zeros(D, np.float32))
    result = readouts.chains(PLACE, FeatureReadout(perfect))
    assert result["step"] == result["chain"] == 1.0 and result["ci"][0] > 0.9
    assert result["chain_other_problem"] < 0.1
    assert result["n"] == readouts.rows[readouts.split.test]["trace"].nunique()
    assert readouts.f1(PLACE, perfect)["f1"] == 1.0
    assert readouts.best_site() == (PLACE, pytest.approx(1.0))
    assert readouts.chains(PLACE, ProbeDecoder())["chain"] > 0.98


def test_a_dictionary_that_reads_nothing_scores_low(readouts: Readouts, directions: np.ndarray) -> None:
    aside = np.linalg.qr(directions.T, mode="complete")[0].T[10:]  # no value moves these
    nothing = LinearDictionary(np.concatenate([aside, -aside]), np.zeros(D, np.float32))
    result = readouts.f1(PLACE, nothing)
    assert result["f1"] < 0.4 and readouts.chains(PLACE, FeatureReadout(nothing))["chain"] < 0.05


def test_baselines_have_the_same_size_and_are_chosen_on_validation(readouts: Readouts) -> None:
    figures, dictionaries = readouts.rivals(PLACE, {"d_sae": 20, "k": 2})
    assert list(figures) == list(dictionaries) == list(sae_readouts.RIVALS)
    assert dictionaries["random_dictionary"].encode(np.zeros((1, D), np.float32)).shape == (1, 20)
    for name, found in figures.items():
        assert found == readouts.f1(PLACE, dictionaries[name])
        low, high = found["ci"]
        assert low <= found["f1"] + 0.05 and found["f1"] - 0.05 <= high


def test_a_dictionary_to_a_target_is_trained_beside_its_control(readouts: Readouts) -> None:
    options = {"target": PLACE.name, "d_sae": 20, "sparsity": 0.1, "updates": 150, "batch_size": 128}
    given = dict(options)
    trained = readouts.train(PLACE, **options)
    control = readouts.train_on_other_rows(PLACE, **options)
    assert options == given
    found, other = readouts.f1(PLACE, trained), readouts.f1(PLACE, control)
    assert found["f1"] > 0.95
    assert found["explained_variance"] > 0.5 > other["explained_variance"]


def test_another_problems_thoughts_are_of_the_same_step_and_length(readouts: Readouts) -> None:
    rows = readouts.rows
    other = rows.iloc[readouts._of_another(rows)]
    assert (other["trace"].to_numpy() != rows["trace"].to_numpy()).all()
    assert (other["step"].to_numpy() == rows["step"].to_numpy()).all()
    lengths = rows.groupby("trace")["step"].max()
    assert (lengths.loc[other["trace"]].to_numpy() == lengths.loc[rows["trace"]].to_numpy()).all()


def test_speed_is_compared_on_equal_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny: the same start, the same batches and as many steps for everybody, so the same explained variance."""
    for name, value in {"WIDTH": 16, "FEATURES": 64, "ACTIVE": 4, "BATCH": 64, "_STEPS": 2, "_DIRECTIONS": 100}.items():
        monkeypatch.setattr(sae_speed, name, value)
    done: list[tuple[int, int]] = []
    result = sae_speed.speed(1, lambda *each: done.append(each))
    assert set(result) == {
        *(
            f"sae.{name}"
            for name in ("train_over_saelens_default", "train_over_saelens_best", "explained_variance_gap")
        ),
        "scale.sae_over_best",
    }
    assert result["sae.explained_variance_gap"]["value"] < 0.02
    assert result["sae.train_over_saelens_best"]["value"] > 0 and result["sae.train_over_saelens_best"]["n"] == 1
    n_contestants = 5 if installed() else 4
    assert done[-1] == (2 * n_contestants, 2 * n_contestants)
