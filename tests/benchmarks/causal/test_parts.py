"""A part of `cotlens bench causal` alone replaces its own figures, tables and notes, and leaves the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import harness
from benchmarks.causal import figures
from benchmarks.causal.run import Run
from interp.errors import StoreError, UsageError
from interp.runtime.console import Bars
from interp.statistics.measures import NOT_MEASURED


def part_of(measure: str, value: float, table: str) -> Callable[[Run], dict[str, Any]]:
    def take(run: Run) -> dict[str, Any]:
        run.tables[table] = pd.DataFrame({"value": [value]})
        run.notes.append(f"taken {value}")
        return {measure: {"value": value, "n": 9}}

    return take


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    """What is kept, in a folder of its own, after a run of all parts; two of them are measured."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    for name in figures.PARTS:
        monkeypatch.setitem(figures.PARTS, name, lambda run: {})
    monkeypatch.setitem(figures.PARTS, "graphs", part_of("causal.paths_confirmed", 0.8, "seed1"))
    monkeypatch.setitem(figures.PARTS, "commitment", part_of("causal.commitment_exact", 0.97, "commitment"))
    figures.bench(Bars())
    return lambda: json.loads((tmp_path / "causal.json").read_text(encoding="utf-8"))


def value_of(result: dict[str, Any], measure: str) -> dict[str, Any]:
    (row,) = (row for row in result["measures"] if row["id"] == measure)
    return row


def test_a_part_alone_leaves_the_others(kept: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(figures.PARTS, "graphs", part_of("causal.paths_confirmed", 0.9, "seed2"))
    result = figures.bench(Bars(), parts=["graphs"])
    assert kept() == result
    assert value_of(result, "causal.paths_confirmed")["value"] == 0.9
    assert value_of(result, "causal.commitment_exact") | {"value": 0.97, "n": 9, "met": True} == value_of(
        result, "causal.commitment_exact"
    )
    assert result["tables"]["graphs"] == {"seed2": [{"value": 0.9}]} and result["notes"]["graphs"] == ["taken 0.9"]
    assert result["tables"]["commitment"] == {"commitment": [{"value": 0.97}]}


def test_a_part_that_fails_leaves_no_earlier_figure(
    kept: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(run: Run) -> dict[str, Any]:
        raise StoreError("no weights")

    monkeypatch.setitem(figures.PARTS, "graphs", fail)
    row = value_of(figures.bench(Bars(), parts=["graphs"]), "causal.paths_confirmed")
    assert row["value"] is None and row["note"] == NOT_MEASURED
    assert kept()["notes"]["graphs"] == ["no weights"] and kept()["tables"]["graphs"] == {}


def test_a_part_at_another_size_is_not_kept(kept: Callable[[], dict[str, Any]]) -> None:
    before = kept()
    result = figures.bench(Bars(), scale=0.25, parts=["commitment"])
    assert value_of(result, "causal.paths_confirmed")["value"] is None and kept() == before


def test_every_part_names_its_measures() -> None:
    assert list(figures._MEASURES) == list(figures.PARTS)
    named = {f"causal.{measure}" for part in figures._MEASURES.values() for measure in part}
    assert named == {row["id"] for row in figures.bench(Bars(), scale=0.25)["measures"]}


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(UsageError, match="part of this bench"):
        figures.bench(Bars(), parts=["graph"])
