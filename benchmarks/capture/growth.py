"""The cost of recording a token as traces grow from 128 to 32,768 tokens, without the model.

The number of tokens is the same at every length, and a stand-in hands out ready activations, so only our own work is
timed: the index, gathering rows, hashing, writing with fsync, and reading back.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from benchmarks.capture.small_model import WIDTH, SmallModel
from benchmarks.growth_figure import figure, keep
from benchmarks.harness import RESULTS
from interp.activations import layout
from interp.activations.mapping import MappedRows
from interp.activations.replaying import gather
from interp.activations.rows import index_of
from interp.models.address import Address
from interp.reasoners.replayer import ReplayBatch
from interp.runtime.progress import Progress
from interp.traces import TraceSet

if TYPE_CHECKING:
    import plotly.graph_objects as go

TOKENS = 1 << 15
LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
ADDRESSES = [Address(f"blocks.{k}.hook_out") for k in range(2)]
_PARTS = ("index", "record", "write", "read")


class FreeReplay:
    """A reasoner whose replay costs nothing: every batch's activations are a slice of one tensor."""

    device = torch.device("cpu")

    def __init__(self, largest: int) -> None:
        self._acts = torch.randn(largest, WIDTH)

    def replay(self, traces: TraceSet, *, hooks: dict[str, Callable[..., None]], batch_size: int) -> None:
        """Call the hooks with ready activations, batch by batch."""
        width = max(map(len, traces))
        for start in range(0, len(traces), batch_size):
            rows = np.arange(start, min(start + batch_size, len(traces)))
            cells = self._acts[: len(rows) * width].view(len(rows), width, WIDTH)
            batch = ReplayBatch(rows, torch.ones(len(rows), width, dtype=torch.bool))
            for hook in hooks.values():
                hook(cells, batch)


def grow(progress: Progress, repetitions: int = 3) -> pd.DataFrame:
    """Return microseconds a token at each length, in whole and by part: the least of several repetitions.

    Args:
        progress: Called with (done, total).
        repetitions: Timed rounds after one that is not counted.
    """
    small = SmallModel()
    reasoner: Any = FreeReplay(TOKENS)
    sets = {length: small.traces(TOKENS // length, length) for length in LENGTHS}
    best: dict[int, dict[str, float]] = {}
    for round_ in range(repetitions + 1):
        for number, (length, traces) in enumerate(sets.items()):
            times = _timed(reasoner, traces)
            if round_:  # the first round warms up
                least = best.setdefault(length, times)
                best[length] = {part: min(least[part], times[part]) for part in times}
            progress(round_ * len(sets) + number + 1, (repetitions + 1) * len(sets))
    rows = [{"tokens": n, **{part: 1e6 * s / TOKENS for part, s in parts.items()}} for n, parts in best.items()]
    frame = pd.DataFrame(rows)
    frame["whole"] = frame[list(_PARTS)].sum(axis=1)
    return frame


def _timed(reasoner: Any, traces: TraceSet) -> dict[str, float]:
    seconds: dict[str, float] = {}
    started = time.perf_counter()

    def lap(part: str) -> None:
        nonlocal started
        now = time.perf_counter()
        seconds[part], started = now - started, now

    index = index_of(traces, ["prompt", "thought"], len(traces))
    lap("index")
    acts = gather(reasoner, traces, ADDRESSES, index)
    lap("record")
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        paths = [layout.shard_path(Path(folder), address.folder, 0) for address in acts]
        for path, rows in zip(paths, acts.values(), strict=True):
            layout.commit(path, layout.encode(rows, "float32"))
        lap("write")
        for path in paths:
            MappedRows(path).between(0, len(index))
        lap("read")
    return seconds


def growth_figure(growth: pd.DataFrame) -> go.Figure:
    """Return the plot of a table of `grow`."""
    title = f"Recording {len(ADDRESSES)} addresses of width {WIDTH}, {TOKENS:,} tokens in traces of growing length: cost of a token"
    return figure(growth, "tokens", ("whole", *_PARTS), title)


def keep_figure(growth: pd.DataFrame) -> None:
    """Write the plot of a table of `grow` under the kept results."""
    keep(growth_figure(growth), RESULTS / "capture-growth.html")
