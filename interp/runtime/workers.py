"""The contract of an engine, and what all engines share: counting cores, checking settings, carrying errors."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from interp.errors import CotlensError, PartialError, UsageError, unknown

S = TypeVar("S")
R = TypeVar("R")
Outcome = tuple[Literal["result", "error"], Any]


@runtime_checkable
class Executor(Protocol):
    """Calls a function on every spec of a list.

    Specs are small and picklable. The function writes large results to disk and returns a small one.

    Attributes:
        workers: How many specs run at the same time.
    """

    workers: int

    def map(self, function: Callable[[S], R], specs: Sequence[S]) -> Iterator[tuple[int, R]]:
        """Yield (index of the spec, result) pairs as they are finished, in any order.

        Raises:
            CotlensError: `function` raised it.
            PartialError: A worker died. Raised after the results of the other workers.
        """


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def dead_worker_error() -> PartialError:
    """Return the error for a worker process that was killed."""
    return PartialError(
        "a worker process died (killed, or out of memory). What was finished is kept: run the same command "
        "again, with fewer --workers if memory was short."
    )


def run_guarded(function: Callable[[S], R], spec: S) -> Outcome:
    """Call `function` and return its result or its error, so that errors of this project cross processes unchanged."""
    try:
        return "result", function(spec)
    except CotlensError as error:
        return "error", error


def result_of(outcome: Outcome) -> Any:
    """Return the result in an outcome of `run_guarded`, or raise its error."""
    status, value = outcome
    if status == "error":
        raise value
    return value


def checked_settings(engine: str, settings: Mapping[str, str], types: Mapping[str, type]) -> dict[str, Any]:
    """Convert an engine's settings to their types. Raises `UsageError` on unknown names and wrong values."""
    values: dict[str, Any] = {}
    for name, text in settings.items():
        if name not in types:
            raise unknown(f"setting of engine {engine}", name, types)
        try:
            values[name] = types[name](text)
        except ValueError:
            raise UsageError(f"expected setting {name} of engine {engine} to be a number, got {text!r}.") from None
    return values


def import_extra(package: str, extra: str) -> Any:
    """Import a package of an optional extra. Raises `UsageError` with the install command when it is missing."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise UsageError(f"engine {extra} needs the package {package}: pip install 'cotlens[{extra}]'.") from None
