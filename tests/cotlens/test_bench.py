"""`cotlens bench` runs the benches of a checkout, and without a checkout it says what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from cotlens import bench

ROOT = Path(__file__).parents[2]


def test_the_benches_beside_the_package_are_found(cotlens: Callable, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = cotlens("bench", "--help")
    assert result.code == 0 and "papers" in result.out


def test_the_benches_in_the_working_directory_are_found(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(bench, "_BESIDE", tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(ROOT)
    assert bench._benches().__name__ == "benchmarks.cli"


def test_without_a_checkout_it_says_what_to_do(cotlens: Callable, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(bench, "_BESIDE", tmp_path)
    monkeypatch.chdir(tmp_path)
    result = cotlens("bench", "probes")
    assert result.code == 2
    assert (
        "expected a checkout of cotlens with a folder benchmarks/" in result.error
        and "clone the repository" in result.error
    )
