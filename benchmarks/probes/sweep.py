"""A whole sweep beside the loop that it replaces.

12 layers x 8 places x 5 targets with ten classes, each with the full control ladder, on rows of width 256. The loop
fits scikit-learn's `StandardScaler` and `LogisticRegression` to every labelling of every cell at every strength, one
after another, as the sweep would without its solver. It would take hours, so a sample of its fits is timed, drawn
evenly from what it would fit, and the rest extrapolated; the note says so.

The sweep runs as `--engine process` runs it, the loop as scikit-learn runs by default. Its matrix library may take
many times as long with two threads as with one on fits of this size, so the note also gives the figure against a loop
that was tuned: one thread a fit, and a process for each core.
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
    """The loop's time (extrapolated) over the sweep's, with the same model, strengths, splits and controls."""
    import sklearn

    with tempfile.TemporaryDirectory() as folder:
        store, twin = _stores(Path(folder))
        started = time.perf_counter()
        found = probes.sweep(
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
        by_default, tuned, fits = _loop(store, found.table())
    loop = by_default * fits
    return {
        "value": loop / ours,
        "n": SAMPLE,
        "unit": "x",
        "peer": "scikit-learn",
        "peer_version": sklearn.__version__,
        "note": f"sweep {ours:.0f} s for {len(found.table())} cells; loop {loop / 3600:.1f} h, extrapolated from {SAMPLE} timed "
        f"fits of {by_default:.2f} s to {fits}; against one thread a fit ({tuned:.3f} s) and {cores()} processes "
        f"{tuned * fits / cores() / ours:.1f} x",
    }


def _stores(folder: Path) -> tuple[Store, Store]:
    """A store of anisotropic noise that holds at each thought the values up to there, and one of noise alone."""
    reasoner = interp.load("chain-coconut")
    traces = reasoner.think(reasoner.task.generate(TRACES, seed=0, split="test"), batch_size=256)
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(len(TARGETS), 10, WIDTH)).astype("f4") * 0.2
    values = [[int(step.value) for step in trace.problem.steps] for trace in traces]

    def planted(layer: int, index: pd.DataFrame) -> np.ndarray:
        out = noise(layer, index)
        for row, (trace, thought) in enumerate(zip(index["trace"], index["thought"], strict=True)):
            for step, value in enumerate(values[trace][: min(thought, len(TARGETS))]):
                out[row] += codes[step, value]
        return out

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
    """Mean seconds of one fit of the loop, by default and with one thread, and how many it would make."""
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
            for threads, taken in seconds.items():
                with threadpool_limits(threads):
                    started = time.perf_counter()
                    make_pipeline(StandardScaler(), model).fit(acts, labels)
                    taken.append(time.perf_counter() - started)
    # For each cell and split: the target, its shuffled copies, the control task and the untrained twin. The controls
    # that need no address are left out of the count, in the loop's favour.
    fits = len(table) * SPLITS * (1 + SHUFFLES + 1 + 1) * len(LOGISTIC_STRENGTHS)
    return float(np.mean(seconds[None])), float(np.mean(seconds[1])), fits
