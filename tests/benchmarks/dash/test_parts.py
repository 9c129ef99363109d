"""The parts of `cotlens bench dash`: one can be taken alone, and what was kept of the others stays."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks import harness
from benchmarks.dash import figures
from benchmarks.measures import table
from interp.errors import UsageError
from interp.runtime.console import Bars


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of results, with parts that need no browser."""

    @contextmanager
    def no_browser() -> Any:
        yield None

    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    monkeypatch.setattr(figures, "browser", no_browser)
    monkeypatch.setattr(figures, "why_no_browser", lambda: "")
    parts = {
        "lock": lambda *_: {"dash.lock_ms": {"value": 120.0, "n": 3, "unit": "ms"}},
        "search": lambda *_: {"dash.search_ms": {"value": 900.0, "n": 5, "unit": "ms", "note": "slow"}},
    }
    monkeypatch.setattr(figures, "PARTS", parts)
    return tmp_path


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in json.loads((folder / "dash.json").read_text(encoding="utf-8"))["measures"]}


def test_a_part_alone_leaves_what_was_kept_of_the_others(kept: Path) -> None:
    with Bars() as bars:
        figures.bench(1, bars, ["search"])
        figures.bench(1, bars, ["lock"])
    now = rows(kept)
    assert list(now) == list(table()["dash"])
    assert now["dash.search_ms"]["value"] == 900 and now["dash.search_ms"]["note"] == "slow"
    assert now["dash.lock_ms"]["met"] and not now["dash.search_ms"]["met"]
    assert now["dash.paint_1k"]["value"] is None


def test_all_parts_start_from_nothing(kept: Path) -> None:
    with Bars() as bars:
        figures.bench(1, bars, ["search"])
        del figures.PARTS["search"]
        figures.bench(1, bars)
    assert rows(kept)["dash.search_ms"]["value"] is None and rows(kept)["dash.lock_ms"]["value"] == 120


def test_an_unknown_part_is_named(kept: Path) -> None:
    with Bars() as bars, pytest.raises(UsageError, match="expected a known part of this bench, got 'locks'"):
        figures.bench(1, bars, ["locks"])
