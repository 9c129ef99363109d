"""Peak memory of a capture of ten million rows, of a sweep over it and of random reads from it.

Run `python -m benchmarks.store.large FOLDER ROWS` as a separate process, so that the peak is that of this work. It prints
one JSON object. A stand-in hands out ready activations in place of a model, which would take days for so many tokens:
plan, index, shards, hashes and writing are those of every capture.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from benchmarks.capture.small_model import WORDS, SmallModel
from benchmarks.store.growth import made_traces
from interp.activations import Store, capture
from interp.models.wrapping import quiet
from interp.problems import task
from interp.problems.base import Problem
from interp.reasoners import Reasoner
from interp.reasoners.replayer import ReplayBatch
from interp.traces import Trace, TraceSet

ROWS = 10_000_000
LENGTH, WIDTH, SHARD, BATCH = 1000, 576, 64, 16
AT_ONCE, READS, COLD_READS = 4096, 200, 5
_WARM, _COLD = "random reads", "random reads from the disk"
SITE = "blocks.0.hook_out"
PLACES, TARGETS = ("question end", "thought 1", "thought 2", "thought 3"), ("value_1", "value_2")
_AT_ONCE = 256  # traces that are lists at a time
_SPARE = 1.3  # disk for the tables and what others write meanwhile


@dataclass
class OneLayer(SmallModel):
    """An untrained GPT-2 with one layer of SmolLM2's width, whose replay costs nothing."""

    layers: ClassVar[int] = 1
    kept: ClassVar[torch.dtype] = torch.float16

    def fresh(self) -> Any:
        """Return the bare Hugging Face model."""
        from transformers import GPT2Config, GPT2LMHeadModel

        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            shape: dict[str, Any] = {"n_layer": 1, "n_embd": WIDTH, "n_head": 8, "n_positions": LENGTH}
            config = GPT2Config(vocab_size=WORDS, bos_token_id=0, eos_token_id=0, **shape)
            return GPT2LMHeadModel(config).eval().requires_grad_(False)


def store_rss(rows: int | None = None, fewer_rows: int | None = None) -> dict[str, Any]:
    """Return the peak memory of all of it, in a process of its own; null where the disk has no room for the store.

    The same is done with fewer rows, and the note has what a row costs beside that.

    Args:
        rows: Number of rows; `ROWS` by default.
        fewer_rows: Number of rows beside them; a tenth by default.
    """
    rows = rows or ROWS
    fewer_rows = fewer_rows or rows // 10
    phases = _in_own_process(rows)
    if isinstance(phases, str):
        return {"value": None, "note": phases}
    fewer = _in_own_process(fewer_rows)
    assert not isinstance(fewer, str)  # there was room for more
    took = ", ".join(f"{name} {phase.seconds:.0f} s and {phase.own_mb:.0f} MB" for name, phase in phases.items())
    units = {"capture": rows, _WARM: READS * AT_ONCE, _COLD: COLD_READS * AT_ONCE}
    shares = {"capture": fewer_rows, _WARM: READS * AT_ONCE, _COLD: COLD_READS * AT_ONCE}
    per_row = ", ".join(
        f"{name} {1e6 * phases[name].seconds / n:.1f} ({1e6 * fewer[name].seconds / shares[name]:.1f})"
        for name, n in units.items()
    )
    return {
        "value": max(phase.own_mb for phase in phases.values()),
        "n": rows,
        "unit": "MB",
        "note": f"{rows:,} rows of {WIDTH} float16 of one layer: {took}; with pages of the store's files, which the system "
        f"drops where memory is short, {max(phase.peak_mb for phase in phases.values()):.0f} MB; activations are "
        f"ready, not a model's; sweep of {len(PLACES)} places and {len(TARGETS)} targets by ridge; "
        f"reads of {AT_ONCE} rows, {READS} warm and {COLD_READS} after the files' pages were dropped; microseconds a row, "
        f"in brackets those of {fewer_rows:,} rows: {per_row}",
    }


def _in_own_process(rows: int) -> dict[str, Phase] | str:
    """Return what a store of `rows` rows took in a process of its own, or why the disk has no room for it."""
    with tempfile.TemporaryDirectory() as folder:
        needed, free = rows * WIDTH * 2 * _SPARE, shutil.disk_usage(folder).free
        if needed > free:
            return f"{rows:,} rows of width {WIDTH} need {needed / 1e9:.0f} GB of disk, {free / 1e9:.0f} GB are free"
        command = [sys.executable, "-m", "benchmarks.store.large", folder, str(rows)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {name: Phase(**phase) for name, phase in json.loads(done.stdout).items()}


@dataclass(frozen=True)
class Phase:
    """What a part of the work took.

    Attributes:
        seconds: Wall time.
        peak_mb: Most resident memory, with pages of the store's files that the system may drop at any time.
        own_mb: Most resident memory without pages of files.
    """

    seconds: float
    peak_mb: float
    own_mb: float


def main(folder: str, rows: int) -> None:
    """Capture, sweep and read `rows` rows under `folder`, and print what each took."""
    print(json.dumps({name: asdict(phase) for name, phase in measured(Path(folder), rows).items()}))


def measured(folder: Path, rows: int) -> dict[str, Phase]:
    """Return what a capture of `rows` rows, a sweep over them and random reads took.

    Args:
        folder: Where the store goes.
        rows: Number of rows.
    """
    import probes

    out = folder / "store"
    reasoner = OneLayer().reasoner
    reasoner.replay = _ready(BATCH * LENGTH)  # type: ignore[method-assign]
    options: dict[str, Any] = {"sites": [SITE], "channels": ["prompt", "thought"], "dtype": "float16"}
    traces = TraceSet([])

    def make_traces() -> None:
        nonlocal traces
        traces = _traces(reasoner, rows // LENGTH)

    phases = {"traces": _phase(make_traces)}
    phases["capture"] = _phase(
        lambda: capture(reasoner, traces, out=out, shard_size=SHARD, batch_size=BATCH, **options)
    )
    traces = TraceSet([])
    store = Store(out)
    phases["sweep"] = _phase(lambda: probes.sweep(store, list(TARGETS), places=list(PLACES), splits=1).table())
    del store  # its mappings would keep pages of the files
    gc.collect()
    _drop_pages(out)
    store = Store(out, verify=False)  # comparing hashes would read the files
    rng = np.random.default_rng(0)

    def read(times: int) -> None:
        for _ in range(times):
            store.acts(SITE, rng.integers(0, len(store.index), AT_ONCE))

    _ = store.index
    phases[_COLD] = _phase(lambda: read(COLD_READS))
    for path in out.rglob("*.safetensors"):
        path.read_bytes()  # brings its pages into memory
    phases[_WARM] = _phase(lambda: read(READS))
    return phases


def _drop_pages(store: Path) -> None:
    """Ask the system to drop what it holds of the shards in memory."""
    os.sync()
    for path in store.rglob("*.safetensors"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _traces(reasoner: Reasoner, count: int) -> TraceSet:
    """Return traces of `LENGTH` positions that answer problems of the task `chain`, compact, as those of a file are."""
    problems = task("chain:steps=3").generate(count, seed=0, split="test")
    rng = np.random.default_rng(0)

    def own(trace: Trace, problem: Problem) -> Trace:
        ids = rng.integers(7, WORDS, LENGTH).tolist()
        return replace(
            trace,
            problem=problem,
            reasoner=reasoner.name,
            weights=reasoner.weights,
            token_ids=ids,
            tokens=reasoner.tokenizer.convert_ids_to_tokens(ids),
            channel=list(trace.channel),
            step=list(trace.step),
            thought=list(range(LENGTH)),
            entropy=rng.random(LENGTH).tolist(),
            logprob=(-rng.random(LENGTH)).tolist(),
        )

    bare = made_traces(1, LENGTH)[0]
    parts = [problems[start : start + _AT_ONCE] for start in range(0, count, _AT_ONCE)]
    made = [trace for part in parts for trace in TraceSet([own(bare, problem) for problem in part]).compact()]
    return TraceSet(made)


def _ready(cells: int) -> Callable[..., None]:
    """Return a replay whose activations are slices of one tensor of random numbers."""
    acts = torch.randn(cells, WIDTH, generator=torch.Generator().manual_seed(0))

    def replay(traces: TraceSet, *, hooks: dict[str, Callable[..., None]], batch_size: int, **_: Any) -> None:
        width = max(map(len, traces))
        for start in range(0, len(traces), batch_size):
            chosen = np.arange(start, min(start + batch_size, len(traces)))
            batch = ReplayBatch(chosen, torch.ones(len(chosen), width, dtype=torch.bool))
            for hook in hooks.values():
                hook(acts[: len(chosen) * width].view(len(chosen), width, WIDTH), batch)

    return replay


def _phase(run: Callable[[], Any]) -> Phase:
    """Run a part of the work, and return its time and peak memory."""
    peak, own = 0.0, 0.0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak, own
        while True:
            total, anonymous = _resident()
            peak, own = max(peak, total), max(own, anonymous)
            if done.wait(0.05):
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    try:
        run()
    finally:
        seconds = time.perf_counter() - started
        done.set()
        watcher.join()
    return Phase(seconds, peak, own)


def _resident() -> tuple[float, float]:
    """Return resident memory of this process and the part of it that is not pages of files, in MB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    total, anonymous = (int(status.split(f"{key}:")[1].split()[0]) / 2**10 for key in ("VmRSS", "RssAnon"))
    return total, anonymous


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
