"""Single probes: trained, saved, evaluated on other stores, and listed, in Python and on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from interp.activations import Store
from interp.activations.targets import structures
from interp.errors import StoreError, UsageError
from interp.statistics.splits import grouped_split
from probes.estimators.registry import ESTIMATORS
from probes.estimators.saved import load_probe
from probes.sweeps.single import evaluate_probe, train_probe

HERE, AWAY = "blocks.1.hook_out", "blocks.0.hook_out"
AT = {"target": "value_2", "place": "thought 2", "address": HERE}


@pytest.fixture(scope="module")
def make(planted_store: Callable[..., Store]) -> Callable[..., Store]:
    """A function that writes a store with value 2 planted at thought 2 of one address, by a seeded codebook."""

    def made(problems_seed: int, codebook_seed: int = 0) -> Store:
        return planted_store(HERE, AWAY, problems_seed=problems_seed, codebook_seed=codebook_seed)

    return made


@pytest.fixture(scope="module")
def store(make: Callable[..., Store]) -> Store:
    return make(0)


@pytest.mark.parametrize("estimator", sorted(ESTIMATORS))
def test_a_probe_is_trained_with_its_controls_and_saved(store: Store, tmp_path: Path, estimator: str) -> None:
    result = train_probe(store, tmp_path / "p", **AT, estimator=estimator, controls=["majority", "shuffled_labels"])
    assert result.accuracy.value > 0.9 and result.accuracy.low < result.accuracy.value <= result.accuracy.high
    assert result.controls["majority"] < 0.2 and result.controls["shuffled_labels"] < 0.3
    saved = load_probe(tmp_path / "p")
    assert saved.target == "value_2" and saved.split == 0 and saved.metrics["place"] == "thought 2"
    assert saved.address.name == HERE
    assert saved.metrics["accuracy"] == pytest.approx(result.accuracy.value)


def test_a_probe_is_evaluated_on_held_out_structures(
    make: Callable[..., Store], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_probe(store, tmp_path / "p", **AT, controls="none")
    saved = load_probe(tmp_path / "p")
    seen: list[pd.DataFrame] = []
    plain = type(saved).predict_proba
    monkeypatch.setattr(
        type(saved), "predict_proba", lambda self, s, rows, **k: seen.append(rows) or plain(self, s, rows, **k)
    )
    other = make(5)
    result = evaluate_probe(saved, other)
    assert result.accuracy.value > 0.9 and result.majority < 0.3 and result.other_problem < 0.3
    everything = structures(other, other.rows(place="thought 2"))
    held_out = set(everything[grouped_split(everything, 0).test])
    assert set(structures(other, seen[0])) == held_out and len(held_out) == result.accuracy.n


def test_a_probe_on_a_store_with_other_directions_is_at_chance(
    make: Callable[..., Store], store: Store, tmp_path: Path
) -> None:
    train_probe(store, tmp_path / "p", **AT, controls="none")
    result = evaluate_probe(load_probe(tmp_path / "p"), make(5, codebook_seed=1))
    assert result.accuracy.value < 0.35


def test_the_old_name_of_the_split_seed_still_works(cotlens: Callable, store: Store, tmp_path: Path) -> None:
    where = ("--target", "value_2", "--place", "thought 2", "--address", HERE, "--controls", "none", "--json")
    old = cotlens("probe", "train", store.path, *where, "--out", tmp_path / "old", "--seed", "1")
    assert "warning: --seed is now --split-seed" in old.err and old.json["split"] == 1
    new = cotlens("probe", "train", store.path, *where, "--out", tmp_path / "new", "--split-seed", "1")
    assert "warning" not in new.err and new.json == old.json | {"out": new.json["out"]}


def test_wrong_arguments_raise(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a known estimator, got 'logistc'; did you mean 'logistic'"):
        train_probe(store, tmp_path / "p", **AT, estimator="logistc")
    with pytest.raises(
        UsageError, match="expected 60 rows with two or more labels of 'value_9' at 'thought 2', got fewer"
    ):
        train_probe(store, tmp_path / "p", **{**AT, "target": "value_9"})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(StoreError, match=r"expected an empty folder, got files in .*; choose another --out"):
        train_probe(store, tmp_path / "full", **AT)


def test_the_commands_train_list_and_evaluate(
    cotlens: Callable, make: Callable[..., Store], store: Store, tmp_path: Path
) -> None:
    out = tmp_path / "probes" / "one"
    where = ("--target", "value_2", "--place", "thought 2", "--address", HERE)
    trained = cotlens("probe", "train", store.path, *where, "--out", out, "--controls", "majority", "--json").json
    assert trained["accuracy"] > 0.9
    assert cotlens("probe", "train", store.path, *where, "--out", out).code == 5
    (listed,) = cotlens("probe", "ls", tmp_path, "--json").json["probes"]
    assert listed["probe"] == str(out) and listed["accuracy"] == pytest.approx(trained["accuracy"])
    for arrays in out.glob("*.safetensors"):
        arrays.write_bytes(b"x")
    assert "error" in cotlens("probe", "ls", tmp_path, "--json").json["probes"][0]
    cotlens("probe", "train", store.path, *where, "--out", tmp_path / "two", "--controls", "none")
    command = ("probe", "eval", tmp_path / "two", "--store", store.path, "--store", make(5).path, "--json")
    rows = cotlens(*command).json["rows"]
    assert [row["accuracy"] > 0.9 for row in rows] == [True, True]
    failed = cotlens(*command, "--fail-under", "1.01")
    assert failed.code == 4 and "of at least 1.01" in failed.error
    assert "value_2 at thought 2" in cotlens("probe", "train", store.path, *where, "--out", tmp_path / "three").out
    assert "no saved probes below" in cotlens("probe", "ls", store.path).out
    assert cotlens("probe", "ls", tmp_path / "nowhere").code == 5
