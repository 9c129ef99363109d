"""The stores that the bench of the dashboard draws."""

from __future__ import annotations

from pathlib import Path

from benchmarks.dash.long_traces import LAYERS, WIDTH, long_store, long_trace
from dashboards.explore.segments import segments_of


def test_a_long_store_has_a_row_for_each_position_at_every_layer(tmp_path: Path) -> None:
    store = long_store(tmp_path / "store", 60, 2)
    assert store.complete and len(store.index) == 120 and len(store.addresses) == LAYERS
    assert store.acts("blocks.63.hook_out").shape == (120, WIDTH)
    assert [len(trace) for trace in store.traces] == [60, 60]


def test_a_long_trace_is_cut_into_its_sentences() -> None:
    parts = segments_of(long_trace(0, 20_000), "sentences")
    assert len(parts) == 2 + -(-19_998 // 18)
    assert parts[1].name == "sentence 1" and parts[1].stop - parts[1].start == 18
