"""Side-by-side timing: everything in one process, repetitions interleaved, medians and their intervals reported."""

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

from interp.runtime.files import commit

RESULTS = Path(__file__).parent / "results"
SCHEMA_VERSION = 1


def interleaved(
    contestants: dict[str, Callable[[], Any]], repetitions: int, wait: Callable[[], Any] | None = None
) -> dict[str, list[float]]:
    """Seconds of each contestant in each round; they take turns, so that a slow minute hits them all.

    One round before the first is not counted. `wait` returns when what was started has been done, for contestants
    that leave work to a GPU.
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
    """Peer time over ours, round by round: the median and its 95 % interval."""
    rounds = [a / b for a, b in zip(seconds[peer], seconds[ours], strict=True)]
    return {
        "value": statistics.median(rounds),
        "ci": median_interval(rounds),
        "n": len(rounds),
        "unit": "x",
        "seconds": {name: statistics.median(each) for name, each in seconds.items()},
    }


def median_interval(values: Sequence[float]) -> list[float]:
    """The 95 % interval of a median by order statistics, whatever the distribution; of fewer than six the whole range."""
    ends = quantile_test(values, p=0.5).confidence_interval(0.95)
    return [min(values), max(values)] if math.isnan(ends.low + ends.high) else [float(ends.low), float(ends.high)]


def keep(name: str, measures: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """The result of one bench, printed form, also kept under `benchmarks/results/NAME.json`."""
    result = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "machine": f"{platform.machine()}, python {platform.python_version()}",
        "versions": {p: version(p) for p in ("torch", "scikit-learn", "numpy")},
        "measures": measures,
        **more,
    }
    commit(RESULTS / f"{name}.json", (json.dumps(result, indent=2) + "\n").encode())
    return result
