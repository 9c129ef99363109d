"""`cotlens bench probes`: the batched logistic solver beside scikit-learn, and sweeps over pure noise."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

import interp
import probes
from benchmarks.harness import RESULTS, interleaved, ratio
from benchmarks.parts import Measures, PartResult, run_parts
from benchmarks.probes.contests import CONTESTS
from benchmarks.probes.floor import solver_over_floor
from benchmarks.probes.growth import grow, keep_figure, summary
from benchmarks.probes.sweep import sweep_beside_sklearn
from interp.activations import Recording
from interp.runtime.console import Bars

SWEEPS = 240


def bench(repetitions: int, bars: Bars, parts: Sequence[str] = ()) -> dict[str, Any]:
    """Take the measures of the group `probes`.

    Args:
        repetitions: Rounds.
        bars: Progress bars.
        parts: Which to take: `solvers`, `floor`, `noise`, `streaming`, `sweep` or `growth`; all by default.

    Returns:
        The kept result, as `cotlens bench --json` prints it.

    Raises:
        UsageError: A part is unknown.
    """
    available = {
        "solvers": lambda: PartResult(_solvers(repetitions, bars)),
        "floor": lambda: PartResult(_floor(repetitions, bars)),
        "noise": lambda: PartResult(_noise_measures(bars)),
        "streaming": lambda: PartResult(_streaming(bars)),
        "sweep": lambda: PartResult(_sweep(bars)),
        "growth": lambda: _growth(bars),
    }
    return run_parts("probes", available, parts)


def _solvers(repetitions: int, bars: Bars) -> Measures:
    """Time the solver beside scikit-learn's."""
    import sklearn

    peer = {"peer": "scikit-learn", "peer_version": sklearn.__version__}
    values: Measures = {}
    gaps: dict[str, float] = {}
    with bars.stage("solvers side by side") as progress:
        for number, (name, build) in enumerate(CONTESTS.items()):
            contestants, gap = build()
            gaps[name] = gap
            seconds = interleaved(contestants, repetitions)
            values[name] = ratio(seconds, "peer", "ours") | peer | {"note": f"log-loss gap {gap:.1e}"}
            progress(number + 1, len(CONTESTS))
    values["probes.logloss_gap"] = {"value": max(gaps.values()), "n": len(gaps), "note": "over the runs above"} | peer
    return values


def _noise_measures(bars: Bars) -> Measures:
    with bars.stage("sweeps over noise") as progress:
        return {"probes.noise_false_discoveries": _noise(progress)}


def _streaming(bars: Bars) -> Measures:
    with bars.stage("a million rows, streamed"):
        return {"probes.stream_peak_mb": _streamed()}


def _floor(repetitions: int, bars: Bars) -> Measures:
    with bars.stage("the solver beside its floor"):
        return {"scale.solver_over_floor": solver_over_floor(repetitions)}


def _sweep(bars: Bars) -> Measures:
    with bars.stage("a whole sweep") as progress:
        return sweep_beside_sklearn(progress)


def _growth(bars: Bars) -> PartResult:
    """Time the solver as rows, targets and width grow."""
    with bars.stage("growth in rows, targets and width") as progress:
        times = grow(progress)
    keep_figure(times, RESULTS / "probes-growth.html")
    return PartResult({}, {"growth": {"seconds": times.to_dict("records"), "summary": summary(times)}})


def _streamed() -> dict[str, Any]:
    """Return the peak memory of a separate process that streams a million rows."""
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.probes.streaming"], capture_output=True, text=True, check=True
    )
    result = json.loads(process.stdout)
    note = f"{result['seconds']:.0f} s, converged: {result['converged']}, true directions found to cosine {result['cosine']:.4f}"
    return {"value": result["peak_mb"], "n": 1, "unit": "MB", "note": note}


def _noise(progress: Any) -> dict[str, Any]:
    """Return the fraction of sweeps over noise with any cell at q < 0.05, with a 95 % interval."""
    from scipy.stats import binomtest

    reasoner = interp.load("chain-coconut")
    traces = reasoner.think(reasoner.task.generate(300, seed=0, split="test"), batch_size=300)
    hits = 0
    recording = interp.record(reasoner, traces, sites="resid")
    for number in range(SWEEPS):
        noisy = _Noise(recording, number)
        result = probes.sweep(
            noisy,
            ["value_1", "value_2"],
            places=["begin", "thought 1", "thought 2"],
            controls="none",
            splits=[number],
        )
        hits += bool((result.table()["q"] < 0.05).any())
        progress(number + 1, SWEEPS)
    interval = binomtest(hits, SWEEPS).proportion_ci()
    return {"value": hits / SWEEPS, "ci": [interval.low, interval.high], "n": SWEEPS, "note": "30 cells a sweep"}


class _Noise(Recording):
    """A recording whose activations are replaced by noise, equal for the same row and address."""

    def __init__(self, recording: Recording, seed: int) -> None:
        acts = {}
        for number, address in enumerate(recording.addresses):
            rng = np.random.default_rng([seed, number])
            table = rng.normal(size=(len(recording.traces), 64, 64)).astype(np.float32)  # traces x positions x width
            rows = recording.index
            acts[address] = torch.from_numpy(table[rows["trace"].to_numpy(), rows["position"].to_numpy()])
        super().__init__(recording.reasoner, recording.traces, recording.index, recording.meta, acts)
