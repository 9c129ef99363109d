"""Timing of programs side by side: one process, interleaved rounds, medians with intervals."""

from __future__ import annotations

import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scipy.stats import quantile_test

from interp.errors import StoreError
from interp.runtime.files import commit

RESULTS = Path(__file__).parent / "results"
SCHEMA_VERSION = 1
#: Entries that every kept result has.
HEADER = ("schema_version", "name", "machine", "versions", "measures")


def interleaved(
    contestants: dict[str, Callable[[], Any]], repetitions: int, wait: Callable[[], Any] | None = None
) -> dict[str, list[float]]:
    """Return the seconds that each contestant takes in each round.

    Contestants take turns, so that a slow minute affects all of them. A warm-up round comes first and is not counted.

    Args:
        contestants: Name to the function that is timed.
        repetitions: Number of rounds.
        wait: Called after each function, for work that runs asynchronously on a GPU; returns once it is done.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(repetitions + 1):
        for name, run in contestants.items():
            started = time.perf_counter()
            run()
            if wait:
                wait()
            if round_:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: dict[str, list[float]], peer: str, ours: str) -> dict[str, Any]:
    """Return the median over rounds of the peer's time divided by ours, with a 95 % interval."""
    rounds = [theirs / own for theirs, own in zip(seconds[peer], seconds[ours], strict=True)]
    return {
        "value": statistics.median(rounds),
        "ci": median_interval(rounds),
        "n": len(rounds),
        "unit": "x",
        "seconds": {name: statistics.median(times) for name, times in seconds.items()},
    }


def median_interval(values: Sequence[float]) -> list[float]:
    """Return the 95 % interval of a median by order statistics; the whole range of fewer than six values."""
    interval = quantile_test(values, p=0.5).confidence_interval(0.95)
    if math.isnan(interval.low + interval.high):
        return [min(values), max(values)]
    return [float(interval.low), float(interval.high)]


def keep(name: str, measures: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Write the result of a bench to `benchmarks/results/NAME.json`, and return it.

    Args:
        name: Name of the bench.
        measures: Rows of `benchmarks.measures.report`.
        **more: Further entries of the result.
    """
    result = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "machine": f"{platform.machine()}, python {platform.python_version()}",
        "versions": {package: version(package) for package in ("torch", "scikit-learn", "numpy")},
        "measures": measures,
        **more,
    }
    commit(RESULTS / f"{name}.json", (json.dumps(result, indent=2) + "\n").encode())
    return result


def kept_result(name: str, *, required: bool = False) -> dict[str, Any]:
    """Return the kept result of a bench; empty where there is none.

    Args:
        name: Name of the bench.
        required: Whether a missing result is an error.

    Raises:
        StoreError: The result is required, and none is kept.
    """
    path = RESULTS / f"{name}.json"
    if not path.exists():
        if required:
            raise StoreError(f"expected the kept result of bench {name} at {path}, got no file; run that bench first.")
        return {}
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result
