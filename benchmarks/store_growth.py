"""What writing and reading a store cost for each row as stores grow from 10,000 to a million rows."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.growth_figure import draw, relative_spread
from benchmarks.harness import RESULTS
from interp.activations import write_given
from interp.problems.base import Problem
from interp.traces import Trace, TraceSet

ROWS = (10_000, 30_000, 100_000, 300_000, 1_000_000)
LENGTH, WIDTH, AT_ONCE = 1000, 64, 4096
PARTS = ("write", "random", "sequential")


def made_traces(n: int, length: int) -> TraceSet:
    """Traces of `length` positions, all of them visible thoughts but for the first."""
    nothing = [float("nan")] * length
    ids, names = list(range(length)), [f"t{k}" for k in range(length)]
    channel = ["prompt", *["thought"] * (length - 1)]
    return TraceSet(
        [
            Trace(
                id=k,
                problem=Problem(f"p{k}", "chain", "?", "0", (), f"p{k}", "test", "?"),
                reasoner="by hand",
                token_ids=ids,
                tokens=names,
                channel=channel,
                step=[0] * length,
                thought=ids,
                entropy=nothing,
                logprob=nothing,
                text="",
                answer="",
                correct=False,
            )
            for k in range(n)
        ]
    )


def grow(progress: Callable[[int, int], None], repetitions: int = 5) -> pd.DataFrame:
    """Microseconds for each row at each size, warm, the least of `repetitions` (of one for writing)."""
    found = []
    for number, rows in enumerate(ROWS):
        found.append({"rows": rows, **_timed(rows, repetitions)})
        progress(number + 1, len(ROWS))
    return pd.DataFrame(found)


def _timed(rows: int, repetitions: int) -> dict[str, float]:
    acts = np.random.default_rng(0).standard_normal((rows, WIDTH), np.float32)
    traces = made_traces(rows // LENGTH, LENGTH)
    rng = np.random.default_rng(1)
    best = dict.fromkeys(PARTS, float("inf"))
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        store = write_given(
            Path(folder) / "s", traces, {"blocks.0.hook_out": acts}, channels=["prompt", "thought"], shard_size=10
        )
        best["write"] = (time.perf_counter() - started) / rows
        store.acts("blocks.0.hook_out")  # warm
        for _ in range(repetitions):
            chosen = store.index.iloc[rng.integers(0, rows, AT_ONCE)]
            started = time.perf_counter()
            store.acts("blocks.0.hook_out", chosen)
            best["random"] = min(best["random"], (time.perf_counter() - started) / AT_ONCE)
            started = time.perf_counter()
            store.acts("blocks.0.hook_out")
            best["sequential"] = min(best["sequential"], (time.perf_counter() - started) / rows)
    return {part: 1e6 * seconds for part, seconds in best.items()}


def spread(grown: pd.DataFrame, column: str) -> float:
    return relative_spread(grown[column])


def keep_figure(grown: pd.DataFrame) -> None:
    title = f"A store of width {WIDTH}: cost for each row as it grows ({AT_ONCE} random rows at once)"
    draw(grown, "rows", PARTS, title, "microseconds for each row", RESULTS / "store-growth.html")
