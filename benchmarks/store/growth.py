"""What writing and reading a store cost for each row as stores grow from 10,000 to a million rows.

Random rows cost more where the rows are more, for they no longer fit the processor's cache, whoever reads them. So a raw
memory map of the same numbers is read beside the store, in turns, and what has to stay flat is the ratio.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.growth_figure import figure, keep, relative_spread
from benchmarks.harness import RESULTS, interleaved, ratio
from interp.activations import write_store
from interp.problems.base import Problem
from interp.runtime.progress import Progress
from interp.traces import Trace, TraceSet

if TYPE_CHECKING:
    import plotly.graph_objects as go

ROWS = (10_000, 30_000, 100_000, 300_000, 1_000_000)
LENGTH, WIDTH, AT_ONCE = 1000, 64, 4096
SHARD = 256  # traces, the default of a capture
PARTS = ("write", "random", "random, memmap", "sequential", "sequential, memmap")


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


def grow(progress: Progress, repetitions: int = 30) -> pd.DataFrame:
    """Microseconds for each row at each size, warm, medians of interleaved `repetitions` (of one for writing).

    The `over` columns are medians of the ratios of each round.
    """
    found = []
    for number, rows in enumerate(ROWS):
        found.append({"rows": rows, **_timed(rows, repetitions)})
        progress(number + 1, len(ROWS))
    return pd.DataFrame(found)


def _timed(rows: int, repetitions: int) -> dict[str, float]:
    acts = np.random.default_rng(0).standard_normal((rows, WIDTH), np.float32)
    traces = made_traces(rows // LENGTH, LENGTH)
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        store = write_store(
            Path(folder) / "s", traces, {"blocks.0.hook_out": acts}, channels=["prompt", "thought"], shard_size=SHARD
        )
        write = 1e6 * (time.perf_counter() - started) / rows
        acts.tofile(Path(folder) / "raw")
        del acts
        raw = np.memmap(Path(folder) / "raw", np.float32, "r", shape=(rows, WIDTH))
        chosen = rng.integers(0, rows, (1 << 10, AT_ONCE))
        turns = iter(np.concatenate([chosen] * (1 + 4 * repetitions // len(chosen))))
        contestants: dict[str, Callable[[], Any]] = {
            "random": lambda: store.acts("blocks.0.hook_out", next(turns)),
            "random, memmap": lambda: raw[next(turns)],
        }
        seconds = interleaved(contestants, repetitions)
        whole: dict[str, Callable[[], Any]] = {
            "sequential": lambda: store.acts("blocks.0.hook_out"),
            "sequential, memmap": lambda: np.array(raw),
        }
        seconds |= interleaved(whole, max(3, repetitions // 6))
    count = {"random": AT_ONCE, "sequential": rows}
    each = {name: 1e6 * statistics.median(took) / count[name.split(",")[0]] for name, took in seconds.items()}
    over = {f"{name} over memmap": ratio(seconds, name, f"{name}, memmap")["value"] for name in count}
    return {"write": write, **each, **over}


def spread(grown: pd.DataFrame, column: str) -> float:
    return relative_spread(grown[column])


def growth_figure(grown: pd.DataFrame) -> go.Figure:
    title = f"A store of width {WIDTH} as it grows, warm: cost of a row, {AT_ONCE} random rows at once"
    return figure(grown, "rows", PARTS, title, logarithmic=True)


def keep_figure(grown: pd.DataFrame) -> None:
    keep(growth_figure(grown), RESULTS / "store-growth.html")
