"""Units, engines, files, estimators and configuration of a sweep."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import probes
from interp.activations import Store
from interp.errors import UsageError
from interp.problems import task
from probes.estimators.registry import ESTIMATORS
from probes.sweeps import run as sweeping
from probes.sweeps.config import SweepConfig
from probes.sweeps.controls import control_task
from probes.sweeps.fit import fit_all
from probes.sweeps.unit import run_unit

PLANTED, OTHER = "blocks.1.hook_out", "blocks.0.hook_out"


@pytest.fixture(scope="module")
def store(planted_store: Callable[..., Store]) -> Store:
    """A store with the value after step 2 at thought 2 of one address, and noise everywhere else."""
    return planted_store(PLANTED, OTHER)


AT = {"targets": ["value_1", "value_2"], "places": ["thought 2"], "splits": 2}


@pytest.mark.parametrize("estimator", sorted(ESTIMATORS))
def test_every_estimator_finds_only_the_planted_value(store: Store, estimator: str) -> None:
    swept = probes.sweep(store, estimator=estimator, controls=["majority", "shuffled_labels"], **AT)
    planted = swept.cell("value_2", "thought 2", PLANTED)
    assert planted["accuracy"] > 0.93 and planted["estimator"] == estimator
    assert planted["shuffled_labels"] < 0.25
    assert planted["auroc"] > 0.97 and planted["log_loss"] < 1.0 and 0.9 < planted["macro_f1"] <= 1.0
    assert 0 <= planted["ece"] < 0.5 and 0 <= planted["brier"] < 0.6
    for target, address in (("value_1", PLANTED), ("value_2", OTHER)):
        cell = swept.cell(target, "thought 2", address)
        assert cell["accuracy"] < 0.25 and abs(cell["auroc"] - 0.5) < 0.12


def test_description_length_is_a_column_when_asked_for(store: Store) -> None:
    swept = probes.sweep(store, controls=["control_task"], description_length=True, **AT)
    planted, noise = swept.cell("value_2", "thought 2", PLANTED), swept.cell("value_1", "thought 2", OTHER)
    assert planted["compression"] > 1.5 > 1.1 > noise["compression"]
    assert planted["bits_per_label"] < 2.2 < 3.2 < noise["bits_per_label"]
    assert planted["control_task_bits_per_label"] >= 0
    assert "bits_per_label" not in probes.sweep(store, controls="none", **AT).table()


def test_a_sweep_counts_the_fits_that_did_not_converge(
    store: Store, cotlens: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probes.sweeps import strengths

    swept = probes.sweep(store, estimator="logistic", controls=["shuffled_labels"], **AT)
    assert swept.notes["unconverged"] == 0 and (swept.table()["unconverged"] == 0).all()
    assert "unconverged" not in probes.sweep(store, controls="none", **AT).table()
    monkeypatch.setattr(strengths, "_MOST_STEPS", 1)
    command = ("probe", "sweep", store.path, "--estimator", "logistic", "--target", "value_1", "--target", "value_2")
    options = ("--place", "thought 2", "--splits", "1", "--controls", "shuffled_labels,question_only")
    ended = cotlens(*command, *options, "--out", tmp_path / "out")
    stopped = probes.Sweep.load(tmp_path / "out")
    in_cells = int(stopped.table()["unconverged"].sum())
    # Each of four cells has the fit and four shuffled copies; the control without an address is counted in the note.
    assert 0 < in_cells <= 20 and stopped.notes["unconverged"] >= in_cells
    assert f"warning: {stopped.notes['unconverged']} logistic fits did not converge" in ended.out


def test_a_sweep_of_several_estimators_is_one_table_with_one_set_of_q_values(store: Store) -> None:
    plans = [sweeping.plan(store, estimator=kind, controls="none", **AT) for kind in ("ridge", "lda")]
    both = sweeping.run(store, plans).table()
    assert both["estimator"].value_counts().to_dict() == {"ridge": 4, "lda": 4}
    from interp.statistics.intervals import q_values

    np.testing.assert_allclose(both["q"], q_values(both["p"].to_numpy()))


@pytest.mark.slow
def test_processes_give_the_same_table_as_this_process(store: Store) -> None:
    inline = probes.sweep(store, **AT)
    in_processes = probes.sweep(store, engine="process", workers=1, **AT)
    pd.testing.assert_frame_equal(inline.table(), in_processes.table())
    assert inline.notes == in_processes.notes


def test_a_sweep_run_again_computes_only_what_is_missing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str | None] = []
    monkeypatch.setattr(sweeping, "run_unit", lambda unit: ran.append(unit.address) or run_unit(unit))
    first = probes.sweep(store, out=tmp_path, **AT)
    assert ran == [None, OTHER, PLANTED]
    kept = sorted((tmp_path / "units").glob("*.json"))
    assert len(kept) == 3
    again = probes.sweep(store, out=tmp_path, **AT)
    assert len(ran) == 3
    pd.testing.assert_frame_equal(first.table(), again.table(), check_dtype=False)
    kept[0].write_text("{ half", encoding="utf-8")
    probes.sweep(store, out=tmp_path, **AT)
    assert len(ran) == 4, "a damaged unit is computed again, the others are kept"
    probes.sweep(store, out=tmp_path, **{**AT, "splits": 3})
    assert len(ran) == 7, "another configuration is another sweep"


def test_the_places_of_an_address_are_divided_among_units(store: Store) -> None:
    places = ["thought 2", "begin", "thought 1", "thought 3", "end"]
    plan = sweeping.plan(store, ["value_1"], places=places, splits=1, controls="none")
    assert [(unit.address, len(unit.places)) for unit in plan[:4]] == [(a, n) for a in (OTHER, PLANTED) for n in (4, 1)]
    assert sweeping.places_in(plan) == places
    table = probes.sweep(store, ["value_1"], places=places, splits=1, controls="none").table()
    assert list(zip(table["place"], table["address"], strict=True)) == [
        (p, a) for p in places for a in (OTHER, PLANTED)
    ]


def test_the_key_of_a_unit_does_not_depend_on_the_folder_of_the_store(store: Store) -> None:
    from dataclasses import asdict, replace

    unit = sweeping.plan(store, **AT)[0]
    assert replace(unit, store="/elsewhere").key == unit.key
    for change in (
        {"estimator": "lda"},
        {"description_length": True},
        {"splits": (5,)},
        {"config_hash": "x"},
        {"address": OTHER + "x"},
    ):
        assert replace(unit, **change).key != unit.key
    json.dumps(asdict(run_unit(unit)))


def test_a_control_task_is_learned_by_a_probe_that_memorises_words(
    written_trace: Callable, write_store: Callable, tmp_path: Path
) -> None:
    """The activations hold only the question's first word, which decides the control task and not the target."""
    traces = [written_trace(p) for p in task("chain:steps=3").generate(400, seed=0, split="test")]
    words = np.array([trace.token_ids[0] for trace in traces])
    held = (words[:, None] == np.unique(words)) * 5.0

    def acts(index: pd.DataFrame) -> np.ndarray:
        return held[index["trace"]] + np.random.default_rng(0).normal(size=(len(index), held.shape[1])) * 0.1

    made = write_store(tmp_path / "s", traces, {OTHER: acts})
    from probes.sweeps.controls import word_types

    types = word_types(made, made.rows(place="thought 2"))
    assert types is not None
    swept = probes.sweep(made, ["value_3"], places=["thought 2"], splits=1, controls=["control_task"])
    cell = swept.cell("value_3", "thought 2", OTHER)
    assert cell["accuracy"] < 0.3
    assert cell["selectivity"] == pytest.approx(cell["accuracy"] - cell["control_task"])
    if (types == words).all():
        assert cell["control_task"] > 0.95


def test_control_labels_belong_to_words_and_are_drawn_from_the_labels() -> None:
    gold = np.array(["a", "b", "b", "b"] * 500)
    types = np.repeat(np.arange(500), 4)
    made = control_task(gold, types, seed=0)
    assert all(len(set(made[types == k])) == 1 for k in range(500))
    assert (made == "b").mean() == pytest.approx(0.75, abs=0.08)
    assert (control_task(gold, types, seed=1) != made).any()


def test_probabilities_of_every_estimator_sum_to_one(store: Store) -> None:
    from interp.activations.targets import structures
    from interp.statistics.splits import grouped_split

    rows = store.rows(place="thought 2").reset_index(drop=True)
    labels = np.array([store.traces[t].problem.steps[1].value for t in rows["trace"]])
    binary = np.where(labels < "5", "low", "high")
    split = grouped_split(structures(store, rows), 0)
    for estimator in ESTIMATORS:
        read = fit_all(estimator, store.acts(PLANTED, rows), {"ten": labels, "two": binary}, split)
        assert list(read) == ["ten", "two"]
        for name, n_classes in (("ten", 10), ("two", 2)):
            p = read[name].probabilities()
            assert p.shape == (len(rows), n_classes) and (p >= 0).all()
            np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-5)
    with pytest.raises(UsageError, match=r"expected a known estimator, got 'rige'; did you mean 'ridge'"):
        fit_all("rige", store.acts(PLANTED, rows), {"ten": labels}, split)


# --- the configuration ------------------------------------------------------------------------------------


def test_a_grid_is_every_combination_and_a_zip_goes_in_parallel() -> None:
    config = SweepConfig(
        store="s",
        grid={"address": ["a", "b"], "estimator": ["ridge", "lda"]},
        zip={"target": ["value_1", "value_2"], "place": ["thought 1", "thought 2"]},
    )
    assert config.selections() == [
        {"addresses": ["a", "b"], "targets": ["value_1"], "places": ["thought 1"], "estimator": "ridge"},
        {"addresses": ["a", "b"], "targets": ["value_1"], "places": ["thought 1"], "estimator": "lda"},
        {"addresses": ["a", "b"], "targets": ["value_2"], "places": ["thought 2"], "estimator": "ridge"},
        {"addresses": ["a", "b"], "targets": ["value_2"], "places": ["thought 2"], "estimator": "lda"},
    ]
    assert SweepConfig(store="s").selections() == [{}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zip: {target: [a, b], place: [x]}", "expected lists of one length under zip"),
        ("grid: {target: [a]}\nzip: {target: [b]}", "expected target under grid or zip, got both"),
        ("grid: {adress: [a]}", "expected a known setting, got 'adress'; did you mean 'address'"),
        ("splits: none", "setting splits"),
    ],
)
def test_a_wrong_configuration_raises_with_one_line(
    cotlens: Callable, store: Store, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "sweep.yaml").write_text(f"store: {store.path}\n{text}\n", encoding="utf-8")
    ended = cotlens("probe", "sweep", "--config", tmp_path / "sweep.yaml")
    assert ended.code == 2 and message in ended.error


def test_the_command_takes_a_file_settings_and_options(cotlens: Callable, store: Store, tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text(
        f'store = "{store.path}"\nsplits = 2\ncontrols = ["majority"]\n'
        '[zip]\ntarget = ["value_1", "value_2"]\nplace = ["thought 1", "thought 2"]\n',
        encoding="utf-8",
    )
    out = tmp_path / "out"
    command = ("probe", "sweep", "--config", tmp_path / "sweep.toml", "--out", out, "--set", "splits=1", "--json")
    printed = cotlens(*command, "--address", PLANTED, "--estimator", "ridge", "--estimator", "lda").json
    assert printed["cells"] == 4 and printed["notes"]["splits"] == [0]
    table = probes.Sweep.load(out).table()
    assert set(zip(table["target"], table["place"], strict=True)) == {
        ("value_1", "thought 1"),
        ("value_2", "thought 2"),
    }
    assert set(table["estimator"]) == {"ridge", "lda"} and set(table["address"]) == {PLANTED}


def test_old_names_of_settings_still_work(capsys: pytest.CaptureFixture) -> None:
    config = SweepConfig(store="s", seeds=5, grid={"channel": ["latent"]})
    assert config.splits == 5 and config.selections() == [{"channels": ["latent"]}]
    warnings = capsys.readouterr().err.splitlines()
    assert warnings == [
        "warning: the setting seeds is now splits; the old name works until version 0.3",
        "warning: the setting channel is now channels; the old name works until version 0.3",
    ]


def test_old_names_of_options_still_work(cotlens: Callable, store: Store, tmp_path: Path) -> None:
    command = ("probe", "sweep", store.path, "--target", "value_2", "--controls", "none", "--json")
    old = cotlens(*command, "--out", tmp_path / "old", "--seeds", "1", "--channel", "latent")
    assert "warning: --seeds is now --splits" in old.err and "warning: --channel is now --channels" in old.err
    new = cotlens(*command, "--out", tmp_path / "new", "--splits", "1", "--channels", "latent")
    assert "warning" not in new.err
    assert old.json["notes"]["splits"] == [0] and old.json["best"] == new.json["best"]


def test_the_old_environment_variable_still_works(
    cotlens: Callable, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (
        "probe",
        "sweep",
        store.path,
        "--target",
        "value_2",
        "--place",
        "thought 2",
        "--controls",
        "none",
        "--json",
    )
    monkeypatch.setenv("COTLENS_SEEDS", "2")
    old = cotlens(*command, "--out", tmp_path / "old")
    assert old.json["notes"]["splits"] == [0, 1]
    assert "warning: COTLENS_SEEDS is now COTLENS_PROBE_SWEEP_SPLITS; the old name works until version 0.3" in old.err
    assert cotlens(*command, "--out", tmp_path / "option", "--splits", "1").json["notes"]["splits"] == [0]
    monkeypatch.setenv("COTLENS_PROBE_SWEEP_SPLITS", "1")
    new = cotlens(*command, "--out", tmp_path / "new")
    assert new.json["notes"]["splits"] == [0] and "warning" not in new.err


def test_a_dry_run_estimates_the_cost_and_does_nothing(cotlens: Callable, store: Store, tmp_path: Path) -> None:
    printed = cotlens(
        "probe", "sweep", store.path, "--out", tmp_path / "out", "--splits", "2", "--dry-run", "--json"
    ).json
    assert printed["cells"] == 3 * 2 * len([p for p in store.places if p != "question"])
    assert printed["seconds"] > 0 and printed["memory_mb"] > 0 and "extrapolated" in printed["note"]
    assert not (tmp_path / "out").exists()


def test_a_sweep_needs_a_store(cotlens: Callable) -> None:
    ended = cotlens("probe", "sweep")
    assert ended.code == 2 and "expected a store, got none" in ended.error
