"""A store of very many rows, here of few: what each phase took, and a disk without room."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.store import large
from interp.activations import Store


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"LENGTH": 8, "WIDTH": 16, "SHARD": 64, "AT_ONCE": 32, "READS": 2, "COLD_READS": 1}.items():
        monkeypatch.setattr(large, name, value)


def test_a_store_is_captured_swept_and_read(small: None, tmp_path: Path) -> None:
    phases = large.measured(tmp_path, 2400)
    assert list(phases) == ["traces", "capture", "sweep", "random reads from the disk", "random reads"]
    assert all(phase.peak_mb > phase.own_mb > 50 and phase.seconds > 0 for phase in phases.values())
    store = Store(tmp_path / "store")
    assert len(store.index) == 2400 and store.acts(large.SITE).shape == (2400, 16) and not store.validate()


def test_a_disk_without_room_gives_null_and_says_how_much_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5e9))
    taken = large.store_rss()
    assert taken["value"] is None and "need 15 GB of disk, 5 GB are free" in taken["note"]


@pytest.mark.slow
def test_the_peak_is_that_of_a_process_of_its_own() -> None:
    taken = large.store_rss(100_000, 80_000)
    assert (
        100 < taken["value"] < 2000
        and taken["n"] == 100_000
        and "microseconds a row, in brackets those of 80,000 rows: capture " in taken["note"]
    )
