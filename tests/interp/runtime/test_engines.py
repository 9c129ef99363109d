"""All engines give the same results, and report why a worker died."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from interp.errors import PartialError, UsageError
from interp.runtime.engines import ENGINES, executor
from interp.runtime.workers import Executor

# Ray takes 250 MB, so the `dev` extra leaves it out; it is tested wherever it is installed.
HAS_RAY = importlib.util.find_spec("ray") is not None
CLUSTERS = [
    pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.skipif(not HAS_RAY, reason="needs cotlens[ray], 250 MB")]),
    pytest.param("slurm", marks=pytest.mark.slow),
]
EVERY = ["inline", "process", *CLUSTERS]


def squared(x: int) -> int:
    return x * x


def killed_at_two(x: int) -> int:
    if x == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def failing(x: int) -> int:
    raise UsageError(f"no {x}")


@pytest.fixture
def make_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], Executor]:
    """Make an engine that runs on this machine and whose workers can import this file."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))

    def make(name: str, workers: int) -> Executor:
        settings = f"slurm:cluster=local,folder={tmp_path / 'jobs'}" if name == "slurm" else name
        return executor(settings, workers)

    return make


def importable(function: Callable) -> Callable:
    """Return the function under the name of this file, which workers can import whatever pytest calls the module."""
    return getattr(importlib.import_module(Path(__file__).stem), function.__name__)


@pytest.mark.parametrize("engine", EVERY)
def test_every_engine_gives_every_result_with_its_index(engine: str, make_engine: Callable[..., Executor]) -> None:
    made = make_engine(engine, 2)
    assert isinstance(made, Executor)
    assert sorted(made.map(importable(squared), [3, 1, 2])) == [(0, 9), (1, 1), (2, 4)]
    assert list(made.map(importable(squared), [])) == []


@pytest.mark.parametrize("engine", EVERY)
def test_an_error_of_the_function_is_raised(engine: str, make_engine: Callable[..., Executor]) -> None:
    with pytest.raises(UsageError, match="no 7"):
        list(make_engine(engine, 1).map(importable(failing), [7]))


@pytest.mark.parametrize("engine", ["process", *CLUSTERS])
def test_a_killed_worker_raises_what_to_do(engine: str, make_engine: Callable[..., Executor]) -> None:
    with pytest.raises(PartialError, match=r"(worker process died|jobs ended before).* run the same command again"):
        list(make_engine(engine, 1).map(importable(killed_at_two), [1, 2, 3]))


def test_finished_results_come_before_the_error_of_a_dead_worker(make_engine: Callable[..., Executor]) -> None:
    results: list[tuple[int, int]] = []
    with pytest.raises(PartialError):
        for pair in make_engine("process", 1).map(importable(killed_at_two), [1, 2, 3]):
            results.append(pair)
    assert results == [(0, 1)]


def test_unknown_engines_settings_and_worker_counts_are_refused() -> None:
    assert set(ENGINES) == {"inline", "process", "ray", "slurm"}
    for wrong, message in {
        "proces": r"expected a known engine, got 'proces'; did you mean 'process'",
        "slurm:partion=gpu": r"expected a known setting of engine slurm, got 'partion'; did you mean 'partition'",
        "slurm:mem_gb=lots": "expected setting mem_gb of engine slurm to be a number, got 'lots'",
        "slurm:gpu": "expected settings of an engine as key=value, got 'gpu'",
        "process:fast=yes": "expected no settings for engine process, got fast",
    }.items():
        with pytest.raises(UsageError, match=message):
            executor(wrong)
    for engine in ENGINES:
        with pytest.raises(UsageError, match="expected workers to be a whole number of at least 1, got 0"):
            executor(engine, 0)


def test_a_missing_extra_gives_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for engine, package in (("ray", "ray"), ("slurm", "submitit")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(UsageError, match=rf"needs the package {package}: pip install 'cotlens\[{engine}\]'"):
            list(executor(engine, 1).map(squared, [1]))
