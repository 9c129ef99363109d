"""`cotlens bench store`: every contestant reads the same numbers, and timings by size are measured and drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import benchmarks.store.contest as bench
from benchmarks.capture import growth as capture_growth
from benchmarks.growth_figure import relative_spread
from benchmarks.store import growth as store_growth
from interp.activations.formats.exports import export

HOOK = "blocks.0.hook_out"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, size in {"TRACES": 48, "LENGTH": 64, "WIDTH": 8, "LAYERS": 2, "AT_ONCE": 512, "CONTEXT": 64}.items():
        monkeypatch.setattr(bench, name, size)
    store, maps = bench._written(tmp_path)
    export(store, "saelens", tmp_path / "saelens", addresses=[HOOK], context_size=64)
    return store, maps, tmp_path / "saelens"


def test_contestants_read_rows_of_the_same_numbers(written) -> None:
    store, maps, saelens = written
    assert store.index["shard"].nunique() == 2
    np.testing.assert_array_equal(store.acts(HOOK), maps[0])
    rows = next(bench._draws(len(store.index)))
    np.testing.assert_array_equal(store.acts(HOOK, rows), maps[0][rows])
    known = {row.tobytes() for row in np.asarray(maps[0])}
    for name, read in bench._saelens(store, saelens).items():
        for _ in range(bench.BATCHES):
            result = np.asarray(read()).reshape(-1, 8)
            assert result.shape == (512, 8) and {row.tobytes() for row in result} <= known, name


def test_random_rows_come_in_any_order_twice_or_by_mask(written) -> None:
    """Against plain indexing; rows that are not there are refused, not taken from elsewhere."""
    store, maps, _ = written
    rng, n = np.random.default_rng(0), len(store.index)
    for rows in (rng.permutation(n), np.repeat(rng.integers(0, n, 50), 3), np.arange(n)[::-1], np.array([], int)):
        np.testing.assert_array_equal(store.acts(HOOK, rows), maps[0][rows])
        np.testing.assert_array_equal(store.acts(HOOK, store.index.iloc[rows]), maps[0][rows])
    mask = rng.random(n) < 0.1
    np.testing.assert_array_equal(store.acts(HOOK, mask), maps[0][mask])
    for wrong in ([0, n], [-1, 3]):
        with pytest.raises(IndexError, match=f"expected row numbers from 0 to {n - 1}, got"):
            store.acts(HOOK, np.array(wrong))


def test_a_store_is_timed_beside_a_memory_map_as_it_grows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(store_growth, "ROWS", (2000, 6000))
    monkeypatch.setattr(store_growth, "RESULTS", tmp_path)
    grown = store_growth.grow(lambda done, total: None, repetitions=2)
    assert grown["rows"].tolist() == [2000, 6000] and (grown.drop(columns="rows") > 0).all().all()
    store_growth.keep_figure(grown)
    assert "random, memmap" in (tmp_path / "store-growth.html").read_text(encoding="utf-8")
    figure = store_growth.growth_figure(grown)
    dashes = {trace.name: trace.line.dash for trace in figure.data}
    assert dashes["random"] == "solid" and dashes["random, memmap"] == "dot"
    assert {t.line.color for t in figure.data if t.name.startswith("random")} == {figure.data[1].line.color}


def test_a_figure_of_traces_that_grow_and_its_spread() -> None:
    grown = pd.DataFrame({"tokens": [128, 8192], **{part: [1.0, 1.1] for part in ("whole", *capture_growth._PARTS)}})
    figure = capture_growth.growth_figure(grown)
    assert list(figure.layout.xaxis.ticktext) == ["128", "8,192"]
    assert relative_spread(grown["whole"]) == pytest.approx(0.1 / 1.05)
