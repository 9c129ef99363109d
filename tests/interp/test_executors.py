"""Engines give the same results, in any order, and say what happened to a worker that died."""

from __future__ import annotations

import os
import signal

import pytest

from interp.errors import PartialError, UsageError
from interp.executors import ENGINES, Executor, executor


def squared(x: int) -> int:
    return x * x


def fatal(x: int) -> int:
    if x == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def failing(x: int) -> int:
    raise UsageError(f"no {x}")


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_every_engine_gives_every_result_with_its_place(engine: str) -> None:
    made = executor(engine, 2)
    assert isinstance(made, Executor)
    assert sorted(made.map(squared, [3, 1, 2])) == [(0, 9), (1, 1), (2, 4)]
    assert list(made.map(squared, [])) == []


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_a_failure_is_the_callers(engine: str) -> None:
    with pytest.raises(UsageError, match="no 7"):
        list(executor(engine, 1).map(failing, [7]))


def test_a_killed_worker_is_said_with_what_to_do() -> None:
    with pytest.raises(PartialError, match=r"a worker process died .* run the same command again"):
        list(executor("process", 1).map(fatal, [1, 2, 3]))


def test_unknown_engines_and_worker_counts_are_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown engine 'proces'\. Did you mean 'process'"):
        executor("proces")
    with pytest.raises(UsageError, match="workers must be a whole number of at least 1, but 0 came"):
        executor("process", 0)
