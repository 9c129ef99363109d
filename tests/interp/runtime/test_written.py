"""What a path holds is said where another kind was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

import interp
from interp.activations import Store
from interp.errors import StoreError, UsageError
from interp.runtime.written import FOLDERS, kind_in_words
from interp.traces import TraceSet


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_is_told_by_its_files_and_not_by_one_alone(tmp_path: Path, kind: str) -> None:
    sign, beside = FOLDERS[kind]
    (tmp_path / sign).touch()
    assert bool(kind_in_words(tmp_path)) == (not beside)
    for name in beside:
        (tmp_path / name).touch()
    assert kind_in_words(str(tmp_path))


def test_a_folder_of_others_and_one_that_is_not_there_are_nothing_of_ours(tmp_path: Path) -> None:
    assert kind_in_words(tmp_path) == kind_in_words(tmp_path / "nowhere") == ""


def test_a_store_given_as_a_model_is_called_a_store(store: Store) -> None:
    with pytest.raises(
        UsageError, match=r"expected a model \(an organism, .*which is an activation store; name the model"
    ):
        interp.load(str(store.path))


def test_traces_given_as_a_model_are_called_a_file(traces: TraceSet, tmp_path: Path) -> None:
    traces[:2].to_parquet(tmp_path / "traces.parquet")
    with pytest.raises(UsageError, match=r"which is a Parquet file; name the model"):
        interp.load(str(tmp_path / "traces.parquet"))


def test_a_store_given_as_traces_says_where_its_traces_are(store: Store) -> None:
    with pytest.raises(
        StoreError, match=r"expected a trace file, got .*an activation store; its traces are in .*traces"
    ):
        TraceSet.from_parquet(store.path)


def test_a_model_given_as_a_store_is_called_a_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(StoreError, match=r"no activation store at .* \(it is the folder of a model\)"):
        Store(tmp_path)
