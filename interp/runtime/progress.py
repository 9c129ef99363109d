"""Types of the functions that long-running work calls to report how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

#: Called with (done, total).
Progress = Callable[[int, int], None]
#: Called with (stage, done, total), for work that has several stages.
StageProgress = Callable[[str, int, int], None]
#: Called with (stage, updates done, updates in all, loss).
TrainingProgress = Callable[[str, int, int, float], None]


@dataclass(frozen=True)
class Written:
    """How far thinking is, within a batch too.

    Attributes:
        done: Problems whose answers have ended.
        total: Problems in all.
        n_tokens: Tokens of thoughts and answers so far, silent thoughts included.
        seconds_left: Seconds until all are done; None while nothing says so.
        is_bound: Whether `seconds_left` is the most that it can take, up to the limits of tokens, and no estimate.
    """

    done: int
    total: int
    n_tokens: int
    seconds_left: float | None = None
    is_bound: bool = False


@runtime_checkable
class WritingProgress(Protocol):
    """A `Progress` that is also told what has been written within a batch.

    A function without `written` is called after each batch alone, when its traces are kept.
    """

    def __call__(self, done: int, total: int) -> None:
        """Take how many parts are done, and how many there are."""
        ...

    def written(self, written: Written) -> None:
        """Take how far thinking is; called several times a second at most."""
        ...


def duration(seconds: float) -> str:
    """Return a time in words: seconds up to two minutes, minutes up to two hours, else hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
