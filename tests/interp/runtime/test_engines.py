"""Engines give the same results, in any order, and say what happened to a worker that died."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interp.errors import PartialError, UsageError
from interp.runtime.engines import ENGINES, Executor, executor

# Ray is a quarter of a gigabyte, so it is no part of the `dev` extra; where it is installed it is tested as the others.
HAS_RAY = importlib.util.find_spec("ray") is not None
APART = [
    pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.skipif(not HAS_RAY, reason="needs cotlens[ray], 250 MB")]),
    pytest.param("slurm", marks=pytest.mark.slow),
]
EVERY = ["inline", "process", *APART]


def squared(x: int) -> int:
    return x * x


def fatal(x: int) -> int:
    if x == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def failing(x: int) -> int:
    raise UsageError(f"no {x}")


@pytest.fixture
def engine_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], Executor]:
    """An engine that runs on this machine; its workers, too, can import this file."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))

    def make(name: str, workers: int) -> Executor:
        settings = f"slurm:cluster=local,folder={tmp_path / 'jobs'}" if name == "slurm" else name
        return executor(settings, workers)

    return make


def importable(function: Callable) -> Callable:
    """The function as workers find it: by the name of this file, whatever pytest calls the module."""
    return getattr(importlib.import_module("test_engines"), function.__name__)


@pytest.mark.parametrize("engine", EVERY)
def test_every_engine_gives_every_result_with_its_place(engine: str, engine_at: Callable[..., Executor]) -> None:
    made = engine_at(engine, 2)
    assert isinstance(made, Executor)
    assert sorted(made.map(importable(squared), [3, 1, 2])) == [(0, 9), (1, 1), (2, 4)]
    assert list(made.map(importable(squared), [])) == []


@pytest.mark.parametrize("engine", EVERY)
def test_a_failure_is_the_callers(engine: str, engine_at: Callable[..., Executor]) -> None:
    with pytest.raises(UsageError, match="no 7"):
        list(engine_at(engine, 1).map(importable(failing), [7]))


@pytest.mark.parametrize("engine", ["process", *APART])
def test_a_killed_worker_is_said_with_what_to_do(engine: str, engine_at: Callable[..., Executor]) -> None:
    with pytest.raises(PartialError, match=r"(worker process died|jobs ended before).* run the same command again"):
        list(engine_at(engine, 1).map(importable(fatal), [1, 2, 3]))


def test_what_others_finished_comes_before_the_death_is_raised(engine_at: Callable[..., Executor]) -> None:
    found: list[Any] = []
    with pytest.raises(PartialError):
        for each in engine_at("process", 1).map(importable(fatal), [1, 2, 3]):
            found.append(each)
    assert found == [(0, 1)]


def test_unknown_engines_settings_and_worker_counts_are_refused() -> None:
    assert set(ENGINES) == {"inline", "process", "ray", "slurm"}
    for wrong, message in {
        "proces": r"expected a known engine, got 'proces'; did you mean 'process'",
        "slurm:partion=gpu": r"expected a known setting of engine slurm, got 'partion'; did you mean 'partition'",
        "slurm:mem_gb=lots": "setting mem_gb of engine slurm must be a number, but 'lots' came",
        "slurm:gpu": "settings of an engine are key=value",
        "process:fast=yes": "engine process has no settings, but fast came",
    }.items():
        with pytest.raises(UsageError, match=message):
            executor(wrong)
    for engine in ENGINES:
        with pytest.raises(UsageError, match="workers to be a whole number of at least 1, got 0"):
            executor(engine, 0)


def test_a_missing_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for engine, package in (("ray", "ray"), ("slurm", "submitit")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(UsageError, match=rf"needs the package {package}: pip install 'cotlens\[{engine}\]'"):
            list(executor(engine, 1).map(squared, [1]))
