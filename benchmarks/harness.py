"""Side-by-side timing: everything in one process, repetitions interleaved, medians and their spread reported."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from interp.files import commit

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
    """Peer time over ours, round by round: the median, and the range as its interval."""
    rounds = [a / b for a, b in zip(seconds[peer], seconds[ours], strict=True)]
    return {
        "value": statistics.median(rounds),
        "ci": [min(rounds), max(rounds)],
        "n": len(rounds),
        "unit": "x",
        "seconds": {name: statistics.median(each) for name, each in seconds.items()},
    }


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
