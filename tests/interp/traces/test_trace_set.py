"""Traces are unchanged after saving and loading, and their places have the same names for every reasoner."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.errors import StoreError
from interp.traces import Trace, TraceSet


@pytest.fixture(scope="module")
def text_traces() -> TraceSet:
    reasoner = interp.load("chain-text")
    return reasoner.think(reasoner.task.generate(12, seed=0, split="test"))


@pytest.fixture(scope="module")
def direct_traces() -> TraceSet:
    reasoner = interp.load("chain-direct")
    return reasoner.think(reasoner.task.generate(12, seed=0, split="test"))


def assert_same(one: Trace, other: Trace) -> None:
    for field in dataclasses.fields(Trace):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name in ("entropy", "logprob"):
            np.testing.assert_array_equal(np.float32(a), np.float32(b))  # NaN equals NaN here
        elif field.name == "latents":
            assert (a is None) == (b is None)
            if a is not None:
                assert a.dtype == b.dtype == np.float32
                np.testing.assert_array_equal(a, b)
        else:
            assert a == b, field.name
            assert type(a) is type(b), field.name


@pytest.mark.parametrize("which", ["traces", "text_traces", "direct_traces"])
def test_parquet_keeps_everything(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    before: TraceSet = request.getfixturevalue(which)
    before.to_parquet(tmp_path / "t.parquet")
    after = TraceSet.from_parquet(tmp_path / "t.parquet")
    assert len(after) == len(before)
    for one, other in zip(before, after, strict=True):
        assert_same(one, other)
    assert any(np.isnan(x) for x in after[0].logprob) and not all(np.isnan(x) for x in after[0].entropy)
    assert (after[0].latents is not None) == (which == "traces")


def test_latents_from_disk_can_be_fed_to_torch_without_a_warning(traces: TraceSet, tmp_path: Path) -> None:
    traces.to_parquet(tmp_path / "t.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for trace in TraceSet.from_parquet(tmp_path / "t.parquet"):
            torch.as_tensor(trace.latents)
            assert trace.latents.flags.writeable


def test_latents_of_a_slice_survive_the_round_trip(traces: TraceSet, tmp_path: Path) -> None:
    traces[:3].to_parquet(tmp_path / "t.parquet")
    again = TraceSet.from_parquet(tmp_path / "t.parquet")
    np.testing.assert_array_equal(again[2].latents, traces[2].latents)
    assert again[2].latents.shape == (again[2].problem.n_steps, 128)


def test_an_empty_set_survives_the_round_trip(tmp_path: Path) -> None:
    TraceSet([]).to_parquet(tmp_path / "t.parquet")
    again = TraceSet.from_parquet(tmp_path / "t.parquet")
    assert len(again) == 0 and np.isnan(again.accuracy)


def test_every_list_has_one_entry_for_each_position(traces: TraceSet, text_traces: TraceSet) -> None:
    for trace in [*traces, *text_traces]:
        for name in ("tokens", "channel", "step", "thought", "entropy", "logprob", "places"):
            assert len(getattr(trace, name)) == len(trace)


def test_places_of_a_continuous_reasoner(traces: TraceSet) -> None:
    for trace in traces[:20]:
        n_question, n = len(trace.problem.question.split()), trace.problem.n_steps
        thoughts = [f"thought {k}" for k in range(1, n + 1)]
        assert trace.places == [*["question"] * (n_question - 1), "question end", "begin", *thoughts, "end", "answer"]


def test_places_of_a_text_reasoner(text_traces: TraceSet) -> None:
    for trace in text_traces:
        n = trace.channel.count("thought")
        after = trace.places[trace.places.index("begin") :]
        assert after == ["begin", *(f"thought {k}" for k in range(1, n + 1)), "end", "answer"]
        assert trace.places.count("question end") == 1


@pytest.mark.parametrize(("missing", "kept"), [("end", "begin"), ("begin", "end")])
def test_a_single_marker_is_named_by_its_side_of_the_thoughts(traces: TraceSet, missing: str, kept: str) -> None:
    trace = traces[0]
    position = trace.places.index(missing)
    columns = ("token_ids", "tokens", "channel", "step", "thought", "entropy", "logprob")
    cut = {name: [x for k, x in enumerate(getattr(trace, name)) if k != position] for name in columns}
    places = dataclasses.replace(trace, **cut).places
    assert places == [place for place in trace.places if place != missing] and kept in places


def test_places_of_a_direct_reasoner(direct_traces: TraceSet) -> None:
    for trace in direct_traces:
        assert trace.places[-3:] == ["begin", "end", "answer"]
        assert not any(place.startswith("thought") for place in trace.places)


def test_places_without_a_begin_marker_and_with_a_long_answer(traces: TraceSet) -> None:
    trace = dataclasses.replace(
        traces[0],
        token_ids=[1, 2, 3, 4, 5, 6],
        channel=["prompt", "prompt", "thought", "special", "answer", "answer"],
        thought=[0, 0, 1, 0, 0, 0],
    )
    assert trace.places == ["question", "question end", "thought 1", "end", "answer", "answer 2"]


def test_the_table_has_one_row_for_each_trace(traces: TraceSet) -> None:
    table = traces.table()
    assert table["trace"].tolist() == list(range(len(traces)))
    assert table["correct"].mean() == traces.accuracy
    assert (table["answer"] == table["gold"]).tolist() == table["correct"].tolist()


def test_a_slice_is_a_set_and_an_index_is_a_trace(traces: TraceSet) -> None:
    part = traces[10:20]
    assert isinstance(part, TraceSet) and len(part) == 10 and part[0].problem == traces[10].problem
    assert isinstance(traces[3], Trace) and traces[-1] is traces[len(traces) - 1]


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no traces at .*nowhere.*cotlens think"):
        TraceSet.from_parquet(tmp_path / "nowhere.parquet")


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not parquet at all", encoding="utf-8")
    with pytest.raises(StoreError, match=r"notes\.txt is not a readable trace file"):
        TraceSet.from_parquet(path)


def test_a_truncated_file_is_refused(traces: TraceSet, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    traces.to_parquet(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(StoreError, match="not a readable trace file"):
        TraceSet.from_parquet(path)


def test_another_table_is_refused_with_its_missing_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"problem": ["{}"], "step": [[1]]}).to_parquet(path)
    with pytest.raises(StoreError, match="not a trace file of this project: it lacks ") as caught:
        TraceSet.from_parquet(path)
    lacks = str(caught.value).rstrip(".").split("lacks ")[1].split(", ")
    assert {"channel", "thought", "token_ids"} <= set(lacks) and not {"problem", "step"} & set(lacks)


@pytest.mark.parametrize("column", ["tokens", "entropy", "latents", "n_latents", "answer", "reasoner"])
def test_a_trace_file_without_a_column_is_refused_by_name(traces: TraceSet, tmp_path: Path, column: str) -> None:
    path = tmp_path / "t.parquet"
    traces[:2].to_parquet(path)
    pd.read_parquet(path).drop(columns=[column]).to_parquet(path)
    with pytest.raises(StoreError, match=rf"lacks {column}"):
        TraceSet.from_parquet(path)
