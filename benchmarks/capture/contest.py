"""`cotlens bench capture`: what recording costs beside a bare forward pass, other libraries, and a Coconut loop."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

import torch

from benchmarks.capture.growth import grow, keep_figure
from benchmarks.capture.peers import INSTALL, missing_peers
from benchmarks.capture.runs import LARGE, SMALL, batch_to_disk, loops, side_by_side
from benchmarks.capture.small_model import SmallModel
from benchmarks.growth_figure import relative_spread
from benchmarks.harness import interleaved, keep, ratio
from benchmarks.measures import report
from interp.runtime.console import Bars, jsonable

# What is freed goes back to the system at once, or the holes in glibc's heap would be measured.
_GIVEN_BACK = MappingProxyType({"MALLOC_MMAP_THRESHOLD_": str(2**17)})


def bench(repetitions: int, bars: Bars) -> dict[str, Any]:
    """Take every measure of the group `capture`; `repetitions` rounds of the large batch, ten times that of the small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads on a shared machine measure the other processes
    try:
        return _bench(repetitions, bars)
    finally:
        torch.set_num_threads(threads)


def _bench(repetitions: int, bars: Bars) -> dict[str, Any]:
    small = SmallModel()
    taken: dict[str, dict[str, Any]] = {}
    seconds: dict[str, dict[str, float]] = {}
    with bars.stage("all layers, B32 x T128"):
        found, why_not = side_by_side(small, LARGE, repetitions, store=True)
        seconds["B32xT128"] = {name: statistics.median(each) for name, each in found.items()}
    bare = {"peer": "transformers, bare forward pass", "peer_version": version("transformers")}
    taken["capture.memory_over_bare"] = ratio(found, "ours", "bare") | bare
    taken["capture.disk_over_bare"] = batch_to_disk(found) | bare
    lens = {"peer": "transformer-lens run_with_cache", "peer_version": version("transformer-lens")}
    taken["capture.transformer_lens_ratio"] = ratio(found, "TransformerLens run_with_cache", "ours") | lens
    with bars.stage("all layers, B1 x T16"):
        found, _ = side_by_side(small, SMALL, 10 * repetitions, store=False)
        seconds["B1xT16"] = {name: statistics.median(each) for name, each in found.items()}
    taken["capture.transformer_lens_ratio_small"] = ratio(found, "TransformerLens run_with_cache", "ours") | lens
    if "nnsight" in found:
        versioned = {"peer": "nnsight", "peer_version": version("nnsight")}
        taken["capture.nnsight_ratio_small"] = ratio(found, "nnsight", "ours") | versioned
    else:
        taken["capture.nnsight_ratio_small"] = {"peer": "nnsight", "note": why_not.get("nnsight", INSTALL)}
    cached = {"peer": "transformers with a key-value cache, no capture", "peer_version": version("transformers")}
    for name, batch, rounds in (("b1", 1, 4 * repetitions), ("b32", 32, 3 * repetitions)):
        with bars.stage(f"a Coconut loop, B={batch}"):
            found = interleaved(loops(small, batch), rounds)
            seconds[f"loop B={batch}"] = {name: statistics.median(each) for name, each in found.items()}
        harder = statistics.median(a / b for a, b in zip(found["ours"], found["bare, no unembedding"], strict=True))
        note = f"16 question tokens, {small.thoughts} thoughts, 1 answer token; over a loop that skips the unembedding {harder:.2f}"
        taken[f"capture.coconut_loop_{name}"] = ratio(found, "ours", "bare") | cached | {"note": note}
    with bars.stage("peak memory"):
        taken["capture.peak_memory_ratio"] = _memory()
    with bars.stage("growth with the length of traces") as progress:
        grown = grow(progress)
    keep_figure(grown)
    growth = {"rows": grown.to_dict("records"), "spread": relative_spread(grown["whole"])}
    return keep(
        "capture",
        jsonable(report("capture", taken)),
        seconds=jsonable(seconds),
        peers=missing_peers(why_not),
        growth=jsonable(growth),
    )


def _memory() -> dict[str, Any]:
    """Peak memory of a process that captures one batch, less that of one that only infers, over the bytes kept."""
    peaks = {what: sorted(_measured(what)["peak"] for _ in range(3)) for what in ("bare", "plain", "capture")}
    kept = _measured("capture")["kept"]
    heap = _measured("capture", {})["peak"] - _measured("plain", {})["peak"]
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
        "note": f"B32xT128, {kept / 2**20:.1f} MiB kept; each in a process of its own; above Hugging Face's own forward "
        f"pass without unembedding {statistics.median(above['bare']):.2f}; memory freed is given back, as glibc's own heap "
        f"does not always ({heap / kept:.2f})",
    }


def _measured(what: str, settings: Mapping[str, str] = _GIVEN_BACK) -> dict[str, int]:
    command = [sys.executable, "-m", "benchmarks.capture.memory", what]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | settings)
    return json.loads(done.stdout)
