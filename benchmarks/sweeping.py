"""A whole sweep beside the loop that it replaces.

12 layers x 8 places x 5 targets with ten classes, each with the full control ladder, on rows of width 256. The loop
fits scikit-learn's `StandardScaler` and `LogisticRegression` to every labelling of every cell at every strength, one
after another, as the sweep would without its solver. It would take hours, so a sample of its fits is timed, drawn
evenly from what it would fit, and the rest extrapolated; the note says so.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import interp
import probes
from interp.models.address import Address
from interp.splits import grouped_split
from interp.targets import labels as target_labels
from interp.targets import structures
from probes.fitting import LOGISTIC_STRENGTHS
from probes.units import SHUFFLES

LAYERS, WIDTH, TRACES, SPLITS, SAMPLE = 12, 256, 2000, 3, 24
PLACES = ("begin", "thought 1", "thought 2", "thought 3", "thought 4", "thought 5", "end", "answer")
TARGETS = tuple(f"value_{k}" for k in range(1, 6))


def sweep_over_sklearn(progress: Callable[[int, int], None]) -> dict[str, Any]:
    """The loop's time (extrapolated) over the sweep's, with the same model, strengths, splits and controls."""
    import sklearn

    with tempfile.TemporaryDirectory() as folder:
        store, twin = _stores(Path(folder))
        started = time.perf_counter()
        found = probes.sweep(
            store,
            TARGETS,
            places=PLACES,
            seeds=SPLITS,
            estimator="logistic",
            random_init=twin,
            progress=progress,
        )
        ours = time.perf_counter() - started
        seconds, fits = _loop(store, found.table())
    loop = seconds * fits
    return {
        "value": loop / ours,
        "n": SAMPLE,
        "unit": "x",
        "peer": "scikit-learn",
        "peer_version": sklearn.__version__,
        "note": f"sweep {ours:.0f} s for {len(found.table())} cells; loop {loop / 3600:.1f} h, extrapolated from {SAMPLE} timed "
        f"fits of {seconds:.2f} s to {fits}",
    }


def _stores(folder: Path) -> tuple[_Planted, _Planted]:
    reasoner = interp.load("chain-coconut")
    traces = reasoner.think(reasoner.task.generate(TRACES, seed=0, split="test"), batch_size=256)
    kept = interp.capture(reasoner, traces, sites=["final"], out=folder / "store")
    return _Planted(kept.path, 0, signal=1.0), _Planted(kept.path, 1, signal=0.0)


class _Planted(interp.Store):
    """A store whose activations are drawn anew: anisotropic noise, and at each thought the values up to there."""

    def __init__(self, path: Path, seed: int, signal: float) -> None:
        super().__init__(path)
        self.meta = {**self.meta, "d_model": WIDTH, "config_hash": f"{self.meta['config_hash']} {seed}"}
        self.addresses = [Address(f"blocks.{k}.hook_out") for k in range(LAYERS)]
        self._seed, self._signal = seed, signal
        rng = np.random.default_rng(seed)
        self._turn = (np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0] * np.arange(1, WIDTH + 1) ** -0.5).astype("f4")
        self._codes = rng.normal(size=(5, 10, WIDTH)).astype("f4") * 0.2
        self._values = [[int(step.value) for step in trace.problem.steps] for trace in self.traces]

    def acts(self, address: Any, rows: Any = None) -> np.ndarray:
        rows = self.index if rows is None else rows
        layer = self.addresses.index(self.address(address))
        rng = np.random.default_rng([self._seed, layer, len(rows)])
        out = rng.normal(size=(len(rows), WIDTH)).astype("f4") @ self._turn.T
        for k, (trace, thought) in enumerate(zip(rows["trace"], rows["thought"], strict=True)):
            for step, value in enumerate(self._values[trace][:thought]):
                out[k] += self._signal * self._codes[step, value]
        return out


def _loop(store: _Planted, table: Any) -> tuple[float, int]:
    """Mean seconds of one fit of the loop, and how many it would make."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    seconds = []
    for _ in range(SAMPLE):
        cell = table.iloc[rng.integers(len(table))]
        rows = store.rows(place=cell["place"]).reset_index(drop=True)
        gold = target_labels(store, rows, cell["target"])
        defined = np.array([label is not None for label in gold])
        rows, gold = rows[defined].reset_index(drop=True), gold[defined].astype(str)
        train = grouped_split(structures(store, rows), int(rng.integers(SPLITS))).train
        acts, labels = store.acts(cell["address"], rows)[train], gold[train]
        if rng.random() < SHUFFLES / (SHUFFLES + 3):
            labels = rng.permutation(labels)
        model = LogisticRegression(C=1 / rng.choice(LOGISTIC_STRENGTHS), max_iter=2000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            started = time.perf_counter()
            make_pipeline(StandardScaler(), model).fit(acts, labels)
            seconds.append(time.perf_counter() - started)
    # For each cell and split: the target, its shuffled copies, the control task and the untrained twin. The controls
    # that need no address are left out of the count, in the loop's favour.
    fits = len(table) * SPLITS * (1 + SHUFFLES + 1 + 1) * len(LOGISTIC_STRENGTHS)
    return float(np.mean(seconds)), fits
