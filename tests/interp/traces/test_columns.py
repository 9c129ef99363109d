"""Traces whose lists are made from columns are the traces that were put in, and take a fraction of their memory."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interp.traces import Trace, TraceSet, columns
from interp.traces.columns import Numbers, column_of


def assert_same(one: Trace, other: Trace) -> None:
    assert one == other or any(np.isnan([*one.entropy, *one.logprob]))  # NaN equals nothing
    for field in dataclasses.fields(Trace):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name in ("entropy", "logprob"):
            np.testing.assert_array_equal(a, b)
        elif field.name != "latents":
            assert a == b, field.name


def test_compact_traces_are_the_same_in_everything(traces: TraceSet) -> None:
    compact = traces.compact()
    assert len(compact) == len(traces) and compact.accuracy == traces.accuracy
    for one, other in zip(traces, compact, strict=True):
        assert len(one) == len(other) and one.places == other.places
        assert_same(one, other)
        assert other.latents is one.latents


def test_lists_come_back_after_they_were_dropped(traces: TraceSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_kept_lists", columns._KeptLists(40))
    compact = traces[:20].compact()
    for _ in range(2):
        for one, other in zip(traces[:20], compact, strict=True):
            assert_same(one, other)
    held = sum(len(vars(trace)[name]) for trace in compact for name in ("token_ids", "tokens") if name in vars(trace))
    assert held <= 40


def test_a_list_longer_than_all_that_is_kept_is_given(monkeypatch: pytest.MonkeyPatch, traces: TraceSet) -> None:
    monkeypatch.setattr(columns, "_kept_lists", columns._KeptLists(0))
    trace = traces[:1].compact()[0]
    assert trace.token_ids == traces[0].token_ids and trace.tokens == traces[0].tokens


def test_a_copy_a_pickle_and_a_changed_trace_hold_their_own_lists(traces: TraceSet) -> None:
    trace = traces[:5].compact()[3]
    for other in (pickle.loads(pickle.dumps(trace)), copy.copy(trace), dataclasses.replace(trace)):
        assert_same(traces[3], other)
        assert "_columns" not in vars(other)
    assert len(pickle.dumps(trace)) < 2 * len(pickle.dumps(traces[3]))
    changed = dataclasses.replace(trace, token_ids=[1], answer="other")
    assert changed.token_ids == [1] and len(changed) == 1 and changed.tokens == trace.tokens


def test_labels_beside_columns(traces: TraceSet) -> None:
    trace = traces[:5].compact()[3]
    labelled = trace.with_labels({"mood": "calm"}, {"kind": ["a"] * len(trace)})
    assert labelled.labels == {"mood": "calm"} and labelled.token_labels["kind"] == ["a"] * len(trace)
    assert labelled.token_ids == traces[3].token_ids and len(labelled) == len(trace) and trace.labels == {}
    listed = traces[3].with_labels({"mood": "calm"}, {})
    assert listed.labels == labelled.labels and listed.tokens == labelled.tokens


def test_an_attribute_that_is_not_there_is_an_error(traces: TraceSet) -> None:
    for trace in (traces[0], traces[:1].compact()[0]):
        with pytest.raises(AttributeError, match="token_idz"):
            _ = trace.token_idz  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "lists",
    [
        [[1, 2], [], [-(2**40), 3]],
        [[], []],
        [["a", "b"], [], ["a"]],
        [[0.5, float("inf")], [1e300]],
        [[127, -128], [128]],
        [[2**31 - 1], [2**31]],
        [[2**63 - 1, -(2**63)], []],
    ],
)
def test_a_column_gives_its_lists_back(lists: list[list[Any]]) -> None:
    column = column_of(lists)
    given = [column.values(k) for k in range(len(lists))]
    assert given == lists and [[type(v) for v in values] for values in given] == [[type(v) for v in x] for x in lists]


def test_numbers_take_the_smallest_dtype() -> None:
    bounds = np.array([0, 3])
    assert Numbers(np.array([0, 1, 127]), bounds)._values.dtype == np.int8
    assert Numbers(np.array([0, 1, 128]), bounds)._values.dtype == np.int16


def test_a_read_set_takes_a_fraction_of_the_memory_of_lists(traces: TraceSet, tmp_path: Path) -> None:
    n = 20_000
    rng = np.random.default_rng(0)
    long = dataclasses.replace(
        traces[0],
        token_ids=rng.integers(0, 50_000, n).tolist(),
        tokens=[f"t{k}" for k in rng.integers(0, 50_000, n)],
        channel=["thought"] * n,
        step=[0] * n,
        thought=list(range(n)),
        entropy=rng.random(n).tolist(),
        logprob=rng.random(n).tolist(),
    )
    TraceSet([long] * 8).to_parquet(tmp_path / "t.parquet")
    TraceSet.from_parquet(tmp_path / "t.parquet")  # imports
    tracemalloc.start()
    try:
        kept = TraceSet.from_parquet(tmp_path / "t.parquet")
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 40 * 8 * n  # lists take more than 200 bytes a position
    assert kept[7].token_ids == long.token_ids and kept[7].tokens == long.tokens
