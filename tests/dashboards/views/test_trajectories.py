"""Layer trajectories: what is pinned, its control, and what cannot be drawn."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from dashboards.artifacts.trace_file import TraceFile
from dashboards.explore import pins
from interp.activations import Store

Open = Callable[..., AppTest]
Said = Callable[[AppTest], str]


def test_a_run_shows_each_value_beside_another_traces(open_view: Open, said: Said) -> None:
    at = open_view("trajectories", place="thought 2", pins="value 2, value 3")
    assert not at.error
    table = at.dataframe[0].value if at.dataframe else at.table[0].value
    assert set(table["pin"]) == {"value 2", "value 3"}
    assert "in another trace" in said(at) and "95 % intervals" in said(at)
    assert len(at.get("plotly_chart")) == 2


def test_thoughts_hold_their_own_value_and_not_another_traces(demo_run: Path) -> None:
    store, file = Store(demo_run / "store"), TraceFile(demo_run / "traces.parquet")
    reasoner = store.load_reasoner()
    where = pins.sample(store, reasoner, "thought 1")
    wanted = pins.targets(file, store, reasoner, where, ["value 1", "no such token"])
    assert (wanted[:, 0] >= 0).all() and (wanted[:, 1] == -1).all()
    groups = np.array([problem.structure for problem in file.problems(where.traces)])
    table = pins.read(store, reasoner, where, wanted, ["value 1", "no such token"], groups)
    assert set(table["pin"]) == {"value 1"}
    first = table[table["label"] == "in 0"].iloc[0]
    assert first["probability"] > 0.9 and first["low"] > first["control_high"] and first["rank"] < 1.1
    assert first["rank_high"] < first["control_rank_low"] <= first["control_rank"] <= first["control_rank_high"]
    for chart in (pins.probability_chart(table), pins.rank_chart(table)):
        (control,) = [line for line in chart.data if line.name == "value 1: another trace"]
        assert control.error_y.array is not None and len(control.y) == len(table)


def test_unknown_pins_and_places_are_said(open_view: Open, said: Said) -> None:
    text = said(open_view("trajectories", place="nowhere", pins="answer, Zanzibar"))
    assert "place=nowhere, which is no place that was captured" in text
    assert "No single token" in text and "Zanzibar" in text


def test_a_store_of_a_model_that_is_gone_says_so(open_view: Open, said: Said, demo_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(demo_run / "store", tmp_path / "store"))
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    meta["origin"] = {"source": "a-model-that-is-gone"}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    at = open_view("trajectories", folder)
    assert "The lens needs the model, which cannot be used" in said(at) and not at.error


def test_an_empty_folder_and_an_unfinished_store_show_commands(
    open_view: Open, said: Said, demo_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert "There is nothing for this page" in said(open_view("trajectories", tmp_path / "empty"))
    folder = Path(shutil.copytree(demo_run / "store", tmp_path / "store"))
    (folder / "manifest.jsonl").write_text("", encoding="utf-8")
    assert f"cotlens capture resume {folder}" in said(open_view("trajectories", folder))


def test_answers_of_several_tokens_give_way_to_the_token_that_is_said_next(
    open_view: Open, said: Said, demo_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, file = Store(demo_run / "store"), TraceFile(demo_run / "traces.parquet")
    reasoner = store.load_reasoner()
    where = pins.sample(store, reasoner, "end")
    names = reasoner.tokenizer.convert_ids_to_tokens(pins.said_next(file, store, where).tolist())
    assert list(names) == [file.trace(int(trace)).answer for trace in where.traces]
    assert (
        pins.said_next(file, store, pins.sample(store, reasoner, "thought 1")) == -1
    ).all()  # a thought follows, no text
    monkeypatch.setattr(pins, "own_text", lambda problem, answer, pin: "" if pin == pins.NEXT else "two words")
    at = open_view("trajectories", place="end")
    assert "No single token" in said(at) and "Drawn instead: the token said next" in said(at)
    assert len(at.get("plotly_chart")) == 2


def test_overlapping_intervals_are_not_called_a_control_as_high(said: Said, open_view: Open) -> None:
    text = said(open_view("trajectories", place="thought 1", pins="value 2, value 3, answer"))
    for line in text.splitlines():
        if "is not shown to read it" in line:
            reading, control = (float(number) for number in re.findall(r"(0\.\d{3}) \[", line))
            assert ("as high" in line) == (reading <= control)
