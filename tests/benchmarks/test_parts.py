"""Parts of a bench: one can be taken alone, and what was kept of the others stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import harness
from benchmarks.measures import bench_rules
from benchmarks.parts import PartResult, run_parts
from interp.errors import UsageError

PARTS = {
    "reading": lambda: PartResult({"store.random_over_memmap": {"value": 0.7, "n": 3}}, {"seconds": {"ours": 0.5}}),
    "scale": lambda: PartResult({"scale.store_rss_mb": {"value": None, "note": "no room"}}),
}


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    """What is kept, in a folder of its own."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    return lambda: json.loads((tmp_path / "store.json").read_text(encoding="utf-8"))


def by_id(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in result["measures"]}


def test_a_part_alone_leaves_measures_notes_and_entries_of_the_others(kept: Callable[[], dict[str, Any]]) -> None:
    run_parts("store", PARTS, ["reading"])
    run_parts("store", PARTS, ["scale"])
    result = run_parts("store", PARTS | {"growth": lambda: PartResult({}, {"growth": [1]})}, ["growth"])
    assert kept() == result and result["seconds"] == {"ours": 0.5} and result["growth"] == [1]
    rows = by_id(result)
    assert list(rows) == list(bench_rules("store"))
    assert rows["store.random_over_memmap"]["met"] and rows["store.random_over_memmap"]["n"] == 3
    assert rows["scale.store_rss_mb"]["note"] == "no room"
    assert rows["store.trace_over_memmap"]["note"] == "not measured in this run"


def test_all_parts_start_from_nothing() -> None:
    run_parts("store", PARTS)
    result = run_parts("store", {"scale": PARTS["scale"]})
    assert by_id(result)["store.random_over_memmap"]["value"] is None and "seconds" not in result


def test_a_part_that_fails_loses_nothing_of_those_before(kept: Callable[[], dict[str, Any]]) -> None:
    def fail() -> PartResult:
        raise RuntimeError("no disk")

    with pytest.raises(RuntimeError, match="no disk"):
        run_parts("store", PARTS | {"growth": fail})
    assert by_id(kept())["store.random_over_memmap"]["value"] == 0.7


def test_an_unknown_part_is_named_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a known part of this bench, got 'write'"):
        run_parts("store", PARTS, ["reading", "write"])
    assert not list(tmp_path.iterdir())
