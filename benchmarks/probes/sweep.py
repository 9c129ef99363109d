"""A whole sweep beside a loop over scikit-learn.

The sweep has 12 layers x 8 places x 5 targets with ten classes, all controls, and rows of width 256. The loop fits
`StandardScaler` and `LogisticRegression` to every labelling of every cell at every strength, one after another. It
would take hours, so a uniform sample of its fits is timed and its time extrapolated; the note says so.

The sweep runs as with `--engine process`; the loop has scikit-learn's defaults. On fits of this size two threads can be
many times slower than one. So the note also gives the ratio to a tuned loop: one thread for each fit and one process
for each core.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import interp
import probes
from interp.activations import Store, write_store
from interp.activations.targets import labels as target_labels
from interp.activations.targets import structures
from interp.runtime.progress import Progress
from interp.runtime.workers import cores
from interp.statistics.splits import grouped_split
from probes.estimators.linear import LOGISTIC_STRENGTHS
from probes.sweeps.unit import SHUFFLES

LAYERS, WIDTH, TRACES, SPLITS, SAMPLE = 12, 256, 2000, 3, 24
PLACES = ("begin", "thought 1", "thought 2", "thought 3", "thought 4", "thought 5", "end", "answer")
TARGETS = tuple(f"value_{k}" for k in range(1, 6))


def sweep_over_sklearn(progress: Progress) -> dict[str, Any]:
    """Return the loop's extrapolated time divided by the sweep's, with the same model, strengths, splits and controls."""
    import sklearn

    with tempfile.TemporaryDirectory() as folder:
        store, twin = _stores(Path(folder))
        started = time.perf_counter()
        result = probes.sweep(
            store,
            TARGETS,
            places=PLACES,
            splits=SPLITS,
            estimator="logistic",
            random_init=twin,
            engine="process",
            progress=progress,
        )
        ours = time.perf_counter() - started
        by_default, tuned, fits = _loop(store, result.table())
    loop = by_default * fits
    return {
        "value": loop / ours,
        "n": SAMPLE,
        "unit": "x",
        "peer": "scikit-learn",
        "peer_version": sklearn.__version__,
        "note": f"sweep {ours:.0f} s for {len(result.table())} cells; loop {loop / 3600:.1f} h, extrapolated from {SAMPLE} timed "
        f"fits of {by_default:.2f} s to {fits}; against one thread a fit ({tuned:.3f} s) and {cores()} processes "
        f"{tuned * fits / cores() / ours:.1f} x",
    }


def _stores(folder: Path) -> tuple[Store, Store]:
    """Return a store of anisotropic noise that encodes at each thought the values so far, and one of noise alone."""
    reasoner = interp.load("chain-coconut")
    traces = reasoner.think(reasoner.task.generate(TRACES, seed=0, split="test"), batch_size=256)
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(len(TARGETS), 10, WIDTH)).astype("f4") * 0.2
    values = [[int(step.value) for step in trace.problem.steps] for trace in traces]

    def planted(layer: int, index: pd.DataFrame) -> np.ndarray:
        rows = noise(layer, index)
        for row, (trace, thought) in enumerate(zip(index["trace"], index["thought"], strict=True)):
            for step, value in enumerate(values[trace][: min(thought, len(TARGETS))]):
                rows[row] += codes[step, value]
        return rows

    def noise(layer: int, index: pd.DataFrame, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng([layer, seed])
        turn = (np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0] * np.arange(1, WIDTH + 1) ** -0.5).astype("f4")
        return rng.normal(size=(len(index), WIDTH)).astype("f4") @ turn.T

    store, twin = (
        write_store(
            folder / name, traces, {f"blocks.{layer}.hook_out": partial(made, layer) for layer in range(LAYERS)}
        )
        for name, made in (("store", planted), ("twin", partial(noise, seed=1)))
    )
    return store, twin


def _loop(store: Store, table: Any) -> tuple[float, float, int]:
    """Return mean seconds of one fit of the loop, by default and with one thread, and its number of fits."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(0)
    seconds: dict[int | None, list[float]] = {None: [], 1: []}
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
            for threads, times in seconds.items():
                with threadpool_limits(threads):
                    started = time.perf_counter()
                    make_pipeline(StandardScaler(), model).fit(acts, labels)
                    times.append(time.perf_counter() - started)
    # Each cell and split has the target, its shuffled copies, the control task and the untrained twin. Controls without
    # an address are not counted, which favours the loop.
    fits = len(table) * SPLITS * (1 + SHUFFLES + 1 + 1) * len(LOGISTIC_STRENGTHS)
    return float(np.mean(seconds[None])), float(np.mean(seconds[1])), fits
