"""Writing of a store from activations in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from interp.activations import Store, layout, write_store
from interp.errors import StoreError, UsageError
from interp.problems import task
from interp.problems.base import Problem
from interp.text.placement import StepPlacement
from interp.traces import UNPLACED, Trace

HERE, THERE = "blocks.0.hook_out", "blocks.1.hook_out"


@pytest.fixture(scope="module")
def traces(written_trace: Callable[..., Trace]) -> list[Trace]:
    return [written_trace(p) for p in task("chain:steps=3").generate(20, seed=0, split="test")]


def test_written_rows_are_read_back(traces: list[Trace], tmp_path: Path) -> None:
    store = write_store(
        tmp_path / "s", traces, {HERE: lambda index: np.outer(index["position"], [1.0, 2.0])}, shard_size=7
    )
    assert store.complete and len(store.committed) == 3 and store.name == str(tmp_path / "s")
    rows = store.rows(place="thought 2")
    np.testing.assert_array_equal(store.acts(HERE, rows), np.outer(rows["position"], [1.0, 2.0]))
    again = write_store(
        tmp_path / "t", traces, {HERE: lambda index: np.outer(index["position"], [1.0, 2.0])}, shard_size=7
    )
    assert again.meta["config_hash"] == store.meta["config_hash"], "the same content is the same store"
    other = write_store(tmp_path / "u", traces, {HERE: store.acts(HERE) + 1}, shard_size=7)
    assert other.meta["config_hash"] != store.meta["config_hash"]


def test_what_does_not_fit_is_refused_before_anything_is_written(traces: list[Trace], tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"expected activations of blocks\.0\.hook_out with shape \(\d+, 2\), .* got \(3, 2\)"
    ):
        write_store(tmp_path / "s", traces, {HERE: np.zeros((3, 2))})
    with pytest.raises(UsageError, match="expected a dtype of float32, float16 or bfloat16, got 'int8'"):
        write_store(tmp_path / "s", traces, {HERE: np.zeros((3, 2))}, dtype="int8")
    assert not (tmp_path / "s").exists()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "notes").write_text("mine", encoding="utf-8")
    with pytest.raises(StoreError, match="is not empty"):
        write_store(tmp_path / "kept", traces, {HERE: np.zeros((3, 2))})


def test_a_store_written_by_hand_is_valid_and_describes_visible_steps(
    made_problem: Callable[..., Problem], written_trace: Callable[..., Trace], tmp_path: Path
) -> None:
    acts = {HERE: lambda index: np.zeros((len(index), 2))}
    silent = write_store(tmp_path / "silent", [written_trace(made_problem("a b", "12"))], acts)
    assert silent.validate() == [] and "steps" not in silent.describe()
    visible = replace(written_trace(made_problem("a b", "12"), kind="thought"), value_positions=[3, UNPLACED])
    description = write_store(tmp_path / "visible", [visible], acts).describe()
    assert description["steps"] == StepPlacement(placed=1, left_out=0, unplaced=1).to_dict()


def test_a_lost_shard_is_named_however_rows_are_asked_for(traces: list[Trace], tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", traces, {HERE: lambda index: np.ones((len(index), 2))}, shard_size=7)
    layout.shard_path(store.path, store.address(HERE).folder, 1).unlink()
    for rows in (np.arange(len(store.index)), np.arange(len(store.index))[::-1]):
        with pytest.raises(StoreError, match=r"00001\.safetensors is missing. Capture again to redo it"):
            Store(store.path).acts(HERE, rows)
