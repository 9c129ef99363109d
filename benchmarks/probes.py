"""`cotlens bench probes`: the batched logistic solver beside scikit-learn, and sweeps over pure noise.

The data are 20,000 rows of width 256 whose spectrum falls as a power law, as that of activations does. Both sides
solve the same objective, L2 on standardised rows, to held-out log-losses within 1e-4 of each other; peers stop at
scikit-learn's own tolerance, ours where that allows it. Against `StandardScaler` C is 1. Against a shared whitening
it is 100 for both: scikit-learn then penalises the whitened coefficients, which is the same objective only where the
penalty hardly matters. At C = 1 the peer's own objective puts it 5e-4 away, however long it runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
from scipy.special import log_softmax

import interp
import probes
from benchmarks.harness import interleaved, keep, ratio
from benchmarks.sweeping import sweep_over_sklearn
from interp.console import Bars, plain
from interp.measures import report

ROWS, HELD_OUT, WIDTH = 20_000, 4_000, 256
SWEEPS = 240
SCALED_C, WHITENED_C = 1.0, 100.0
# The gradient norm at which ours stops; Newton steps overshoot it by far, and with ten classes farther.
BINARY_TOL, MULTICLASS_TOL = 1e-4, 1e-3


def bench(repetitions: int, bars: Bars) -> dict[str, Any]:
    """Take every measure of the group `probes` that this version can take."""
    import sklearn

    peer = {"peer": "scikit-learn", "peer_version": sklearn.__version__}
    taken: dict[str, dict[str, Any]] = {}
    gaps: dict[str, float] = {}
    with bars.stage("solvers side by side") as progress:
        for number, (name, build) in enumerate(_CONTESTS.items()):
            contestants, gap = build()
            gaps[name] = gap
            seconds = interleaved(contestants, repetitions)
            taken[name] = ratio(seconds, "peer", "ours") | peer | {"note": f"log-loss gap {gap:.1e}"}
            progress(number + 1, len(_CONTESTS))
    taken["probes.logloss_gap"] = {"value": max(gaps.values()), "n": len(gaps), "note": "over the runs above"} | peer
    with bars.stage("sweeps over noise") as progress:
        taken["probes.noise_false_discoveries"] = _noise(progress)
    with bars.stage("a million rows, streamed"):
        taken["probes.stream_peak_mb"] = _streamed()
    with bars.stage("a whole sweep") as progress:
        taken["probes.sweep_over_sklearn"] = sweep_over_sklearn(progress)
    return keep("probes", plain(report("probes", taken)))


def rows(seed: int) -> np.ndarray:
    """Anisotropic rows, float32: a power-law spectrum, turned at random, away from the origin."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0]
    spectrum = np.arange(1, WIDTH + 1) ** -0.5
    return ((rng.normal(size=(ROWS + HELD_OUT, WIDTH)) * spectrum) @ turn.T + rng.normal(size=WIDTH)).astype(np.float32)


def _scores(x: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Standardised random linear functions of the whitened rows, so that weak directions matter too."""
    rng = np.random.default_rng(seed)
    centred = x - x.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(x))
    scores = centred @ (vectors / np.sqrt(values)) @ rng.normal(size=(WIDTH, count))
    return scores / scores.std(axis=0)


def _binary20() -> tuple[dict[str, Any], float]:
    x, rng = rows(0), np.random.default_rng(1)
    y = (rng.random((len(x), 20)) < 1 / (1 + np.exp(-2 * _scores(x, 20, 2)))).astype(int)
    return _binary_contest(x, y, _scaled_lbfgs, SCALED_C)


def _binary200() -> tuple[dict[str, Any], float]:
    x, rng = rows(3), np.random.default_rng(4)
    y = (rng.random((len(x), 200)) < 1 / (1 + np.exp(-2 * _scores(x, 200, 5)))).astype(int)
    return _binary_contest(x, y, _whitened_lbfgs, WHITENED_C)


def _multiclass10() -> tuple[dict[str, Any], float]:
    from probes.estimators import LogisticProbe

    x, rng = rows(6), np.random.default_rng(7)
    y = (2 * _scores(x, 10, 8) + rng.gumbel(size=(len(x), 10))).argmax(axis=1)
    last: dict[str, np.ndarray] = {}

    def ours() -> None:
        probe = LogisticProbe(WHITENED_C, tol=MULTICLASS_TOL).fit(x[:ROWS], y[:ROWS])
        last["ours"] = probe.decision_function(x[ROWS:])

    def peer() -> None:
        last["peer"] = _whitened_lbfgs(x[:ROWS], y[:ROWS, None], x[ROWS:], WHITENED_C)[0]

    ours(), peer()
    gold = y[ROWS:]
    losses = {k: -log_softmax(z, axis=1)[np.arange(len(gold)), gold].mean() for k, z in last.items()}
    return {"peer": peer, "ours": ours}, abs(losses["ours"] - losses["peer"])


def _binary_contest(x: np.ndarray, y: np.ndarray, solve: Any, c: float) -> tuple[dict[str, Any], float]:
    import torch

    from probes.logistic import InMemory, binary, fit_logistic

    last: dict[str, np.ndarray] = {}

    def ours() -> None:
        fit = fit_logistic(InMemory(torch.from_numpy(x[:ROWS])), binary(y[:ROWS], 1 / c), tolerance=BINARY_TOL)
        last["ours"] = fit.scores(torch.from_numpy(x[ROWS:]))[:, :, 0].double().numpy()

    def peer() -> None:
        last["peer"] = np.stack(solve(x[:ROWS], y[:ROWS], x[ROWS:], c), axis=1)

    ours(), peer()
    gold = y[ROWS:]
    losses = {k: (np.logaddexp(0, z) - gold * z).mean(axis=0) for k, z in last.items()}
    return {"peer": peer, "ours": ours}, float(np.abs(losses["ours"] - losses["peer"]).max())


def _scaled_lbfgs(x: np.ndarray, y: np.ndarray, held: np.ndarray, c: float) -> list[np.ndarray]:
    """StandardScaler and LogisticRegression with scikit-learn's own defaults, but enough iterations to finish."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    models = [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=5000)).fit(x, each) for each in y.T]
    return [model.decision_function(held) for model in models]


def _whitened_lbfgs(x: np.ndarray, y: np.ndarray, held: np.ndarray, c: float) -> list[np.ndarray]:
    """One whitening for all targets, then lbfgs on each with scikit-learn's own defaults."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = x.mean(axis=0), x.std(axis=0)
    centred = (x - mean) / scale
    values, vectors = np.linalg.eigh(centred.T @ centred / len(x))
    turn = (vectors / np.sqrt(values)).astype(np.float32)
    white, held_white = centred @ turn, ((held - mean) / scale) @ turn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [LogisticRegression(C=c, max_iter=5000).fit(white, each).decision_function(held_white) for each in y.T]


_CONTESTS = {
    "probes.binary20_over_sklearn": _binary20,
    "probes.binary200_over_whitened": _binary200,
    "probes.multiclass10_over_whitened": _multiclass10,
}


def _streamed() -> dict[str, Any]:
    """Peak memory of a process of its own that streams a million rows."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.streaming"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    said = f"{found['seconds']:.0f} s, converged: {found['converged']}, true directions found to cosine {found['cosine']:.4f}"
    return {"value": found["peak_mb"], "n": 1, "unit": "MB", "note": said}


def _noise(progress: Any) -> dict[str, Any]:
    """The share of sweeps over pure noise that find anything at q < 0.05, with a 95 % interval."""
    import tempfile

    from scipy.stats import binomtest

    reasoner = interp.load("chain-coconut")
    traces = reasoner.think(reasoner.task.generate(300, seed=0, split="test"), batch_size=300)
    hits = 0
    with tempfile.TemporaryDirectory() as folder:
        store = interp.capture(reasoner, traces, sites="resid", out=f"{folder}/store")
        for number in range(SWEEPS):
            noisy = _NoiseStore(store.path, number)
            found = probes.sweep(
                noisy,
                ["value_1", "value_2"],
                places=["begin", "thought 1", "thought 2"],
                controls="none",
                seeds=[number],
            )
            hits += bool((found.table()["q"] < 0.05).any())
            progress(number + 1, SWEEPS)
    interval = binomtest(hits, SWEEPS).proportion_ci()
    return {"value": hits / SWEEPS, "ci": [interval.low, interval.high], "n": SWEEPS, "note": "30 cells a sweep"}


class _NoiseStore(interp.Store):
    """A store whose activations are drawn anew, the same for the same row and address."""

    def __init__(self, path: Any, seed: int) -> None:
        super().__init__(path)
        self._seed = seed

    def acts(self, address: Any, rows: Any = None) -> np.ndarray:
        rows = self.index if rows is None else rows
        rng = np.random.default_rng([self._seed, self.addresses.index(self.address(address))])
        table = rng.normal(size=(len(self.traces), 64, 64)).astype(np.float32)  # traces x positions x width
        return table[rows["trace"].to_numpy(), rows["position"].to_numpy()]
