"""The cost of writing and reading a row as stores grow from 10,000 to a million rows.

Random rows cost more in larger stores for every reader, because they no longer fit the processor's cache. So a raw memory
map of the same numbers is read in turns with the store, and the ratio is what must stay flat.
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
    """Return traces of `length` positions; every position but the first is a visible thought."""
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
    """Return microseconds a row at each size, warm: medians of interleaved repetitions (writing is timed once).

    Args:
        progress: Called with (done, total).
        repetitions: Rounds.

    Returns:
        One row a size. The `over` columns are medians of the ratios of each round.
    """
    records = []
    for number, rows in enumerate(ROWS):
        records.append({"rows": rows, **_timed(rows, repetitions)})
        progress(number + 1, len(ROWS))
    return pd.DataFrame(records)


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
    per_row = {name: 1e6 * statistics.median(times) / count[name.split(",")[0]] for name, times in seconds.items()}
    over = {f"{name} over memmap": ratio(seconds, name, f"{name}, memmap")["value"] for name in count}
    return {"write": write, **per_row, **over}


def spread(table: pd.DataFrame, column: str) -> float:
    """Return the relative spread of one column of a table of `grow`."""
    return relative_spread(table[column])


def growth_figure(table: pd.DataFrame) -> go.Figure:
    """Return the plot of a table of `grow`."""
    title = f"A store of width {WIDTH} as it grows, warm: cost of a row, {AT_ONCE} random rows at once"
    return figure(table, "rows", PARTS, title, logarithmic=True)


def keep_figure(table: pd.DataFrame) -> None:
    """Write the plot of a table of `grow` under the kept results."""
    keep(growth_figure(table), RESULTS / "store-growth.html")
