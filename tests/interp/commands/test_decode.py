"""`cotlens decode`: read-outs and tables are written, and old option names work with a warning."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd

import interp
from interp.activations import Store


def test_run_writes_the_read_outs_of_decode(cotlens: Callable, store: Store, tmp_path: Path) -> None:
    ended = cotlens(
        "decode", "run", store.path, "-m", "probe", "--split-seed", "1", "--out", tmp_path / "r.parquet", "--json"
    )
    assert ended.code == 0, ended.err
    expected = interp.decode(store, ["probe"], seed=1).table()
    table = pd.read_parquet(tmp_path / "r.parquet")
    assert ended.json["read_outs"] == len(table) == len(expected)
    pd.testing.assert_series_equal(table["text"], expected["text"], check_dtype=False)
    again = cotlens("decode", "run", store.path, "-m", "probe", "--out", tmp_path / "r.parquet")
    assert again.code == 2 and "expected a new file for --out" in again.error


def test_old_option_names_work_with_a_warning(cotlens: Callable, store: Store, tmp_path: Path) -> None:
    command = ("decode", "run", store.path, "-m", "probe", "--json")
    new = cotlens(*command, "--split-seed", "1", "--out", tmp_path / "new")
    old = cotlens(*command, "--seed", "1", "--out", tmp_path / "old")
    assert old.code == 0 and "warning: --seed is now --split-seed" in old.err
    assert old.json["scores"] == new.json["scores"]
    splits = cotlens("decode", "eval", store.path, "-m", "probe", "--no-causal", "--seeds", "1", "--json")
    assert splits.code == 0 and "warning: --seeds is now --splits" in splits.err


def test_eval_saves_what_it_prints(cotlens: Callable, store: Store, tmp_path: Path) -> None:
    ended = cotlens("decode", "eval", store.path, "-m", "probe", "--no-causal", "--out", tmp_path / "e", "--json")
    assert ended.code == 0, ended.err
    saved = json.loads((tmp_path / "e" / "evaluation.json").read_text(encoding="utf-8"))
    assert set(ended.json) - {"schema_version"} == {
        *("summary", "scores", "causal", "search", "transfer", "notes", "split")
    }
    assert saved["scores"] == ended.json["scores"]
    gate = cotlens("decode", "eval", store.path, "-m", "probe", "--no-causal", "--fail-under", "1.1")
    assert gate.code == 4 and "expected an exact match of at least 1.1 at the best decoder's worst step" in gate.error


def test_another_store_needs_a_name(cotlens: Callable, store: Store) -> None:
    ended = cotlens("decode", "eval", store.path, "--other", "runs/s1")
    assert ended.code == 2 and "expected NAME=STORE, got 'runs/s1'" in ended.error


def test_every_command_says_how_many_steps_of_a_text_have_a_place(cotlens: Callable, tmp_path: Path) -> None:
    traces, store = tmp_path / "t.parquet", tmp_path / "store"
    thought = cotlens("think", "chain3-text", "--task", "chain:steps=2-3,restated=yes,n=60", "--out", traces, "--json")
    assert thought.json["steps"]["placed"] > 120 and thought.json["steps"]["unplaced"] == 0
    assert "assumed" not in thought.json and "warning" not in thought.json
    captured = cotlens("capture", "run", "chain3-text", traces, "--layers", "4", "--out", store)
    line = f"steps: {thought.json['steps']['placed']} placed, 0 left out, 0 could not be placed (0.0%)"
    assert captured.code == 0 and line in captured.out
    read = cotlens("decode", "run", store, "-m", "probe", "--out", tmp_path / "r", "--max-unplaced", "0")
    assert read.code == 0 and line in read.out
    wrong = cotlens("decode", "run", store, "-m", "probe", "--out", tmp_path / "r2", "--max-unplaced", "2")
    assert wrong.code == 2 and "expected max_unplaced to be a share from 0 to 1, got 2.0" in wrong.error
