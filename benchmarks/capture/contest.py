"""`cotlens bench capture`: the cost of recording compared with a bare forward pass, other libraries and a Coconut loop."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

import torch

from benchmarks.capture.growth import grow, keep_figure
from benchmarks.capture.peers import INSTALL, missing_peers
from benchmarks.capture.runs import LARGE, SMALL, batch_to_disk, loops, side_by_side
from benchmarks.capture.scale import scale
from benchmarks.capture.small_model import SmallModel
from benchmarks.growth_figure import relative_spread
from benchmarks.harness import interleaved, ratio
from benchmarks.parts import PartResult, run_parts
from interp.runtime.console import Bars

# Freed memory returns to the system at once; otherwise the holes in glibc's heap would be measured.
_RETURN_MEMORY = MappingProxyType({"MALLOC_MMAP_THRESHOLD_": str(2**17)})


def bench(repetitions: int, bars: Bars, parts: Sequence[str] = ()) -> dict[str, Any]:
    """Take the measures of the group `capture`.

    Args:
        repetitions: Rounds of the large batch; the small batch gets ten times as many.
        bars: Progress bars.
        parts: Which to take: `peers`, `memory`, `growth` or `scale`; all by default.

    Returns:
        The kept result, as `cotlens bench --json` prints it.

    Raises:
        UsageError: A part is unknown.
    """

    def real_model() -> PartResult:
        with bars.stage("all layers of SmolLM2"):
            return PartResult(scale(repetitions))

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # with two threads, other processes on a shared machine would be measured too
    try:
        available = {
            "peers": lambda: _peers(repetitions, bars),
            "memory": lambda: _peak_memory(bars),
            "growth": lambda: _growth(bars),
            "scale": real_model,
        }
        return run_parts("capture", available, parts)
    finally:
        torch.set_num_threads(threads)


def _peers(repetitions: int, bars: Bars) -> PartResult:
    """Time recording and a Coconut loop beside other libraries."""
    small = SmallModel()
    measures: dict[str, dict[str, Any]] = {}
    seconds: dict[str, dict[str, float]] = {}
    with bars.stage("all layers, B32 x T128"):
        times, failures = side_by_side(small, LARGE, repetitions, store=True)
        seconds["B32xT128"] = {name: statistics.median(rounds) for name, rounds in times.items()}
    bare = {"peer": "transformers, bare forward pass", "peer_version": version("transformers")}
    measures["capture.memory_over_bare"] = ratio(times, "ours", "bare") | bare
    measures["capture.disk_over_bare"] = batch_to_disk(times) | bare
    lens = {"peer": "transformer-lens run_with_cache", "peer_version": version("transformer-lens")}
    measures["capture.transformer_lens_ratio"] = ratio(times, "TransformerLens run_with_cache", "ours") | lens
    with bars.stage("all layers, B1 x T16"):
        times, _ = side_by_side(small, SMALL, 10 * repetitions, store=False)
        seconds["B1xT16"] = {name: statistics.median(rounds) for name, rounds in times.items()}
    measures["capture.transformer_lens_ratio_small"] = ratio(times, "TransformerLens run_with_cache", "ours") | lens
    if "nnsight" in times:
        versioned = {"peer": "nnsight", "peer_version": version("nnsight")}
        measures["capture.nnsight_ratio_small"] = ratio(times, "nnsight", "ours") | versioned
    else:
        measures["capture.nnsight_ratio_small"] = {"peer": "nnsight", "note": failures.get("nnsight", INSTALL)}
    cached = {"peer": "transformers with a key-value cache, no capture", "peer_version": version("transformers")}
    for name, batch, rounds in (("b1", 1, 4 * repetitions), ("b32", 32, 3 * repetitions)):
        with bars.stage(f"a Coconut loop, B={batch}"):
            times = interleaved(loops(small, batch), rounds)
            seconds[f"loop B={batch}"] = {name: statistics.median(rounds) for name, rounds in times.items()}
        without = statistics.median(a / b for a, b in zip(times["ours"], times["bare, no unembedding"], strict=True))
        note = f"16 question tokens, {small.thoughts} thoughts, 1 answer token; over a loop that skips the unembedding {without:.2f}"
        measures[f"capture.coconut_loop_{name}"] = ratio(times, "ours", "bare") | cached | {"note": note}
    return PartResult(measures, {"seconds": seconds, "peers": missing_peers(failures)})


def _growth(bars: Bars) -> PartResult:
    """Time traces of growing length."""
    with bars.stage("growth with the length of traces") as progress:
        table = grow(progress)
    keep_figure(table)
    return PartResult({}, {"growth": {"rows": table.to_dict("records"), "spread": relative_spread(table["whole"])}})


def _peak_memory(bars: Bars) -> PartResult:
    """Measure peak memory above inference."""
    with bars.stage("peak memory"):
        return PartResult({"capture.peak_memory_ratio": _memory()})


def _memory() -> dict[str, Any]:
    """Return the peak memory of a process that captures one batch, minus that of one that only infers, over the bytes kept."""
    peaks = {what: sorted(_measured_memory(what)["peak"] for _ in range(3)) for what in ("bare", "plain", "capture")}
    kept = _measured_memory("capture")["kept"]
    heap = _measured_memory("capture", {})["peak"] - _measured_memory("plain", {})["peak"]
    above = {
        what: [(a - b) / kept for a, b in zip(peaks["capture"], peaks[what], strict=True)] for what in ("bare", "plain")
    }
    return {
        "value": statistics.median(above["plain"]),
        "ci": [min(above["plain"]), max(above["plain"])],
        "n": len(above["plain"]),
        "unit": "x",
        "peer": "the same model without hooks or unembedding",
        "peer_version": version("transformers"),
        "note": f"B32xT128, {kept / 2**20:.1f} MiB kept; each in its own process; above Hugging Face's own forward "
        f"pass without unembedding {statistics.median(above['bare']):.2f}; freed memory returns to the system (with glibc's "
        f"default heap: {heap / kept:.2f})",
    }


def _measured_memory(what: str, settings: Mapping[str, str] = _RETURN_MEMORY) -> dict[str, int]:
    command = [sys.executable, "-m", "benchmarks.capture.memory", what]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | settings)
    return json.loads(done.stdout)
