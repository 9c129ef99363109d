"""A whole sweep beside a loop over scikit-learn.

The sweep has 12 layers x 8 places x 5 targets with ten classes, all controls, and rows of width 256. The loop fits
`StandardScaler` and `LogisticRegression` to every labelling of every cell at every strength, one after another. It
would take hours, so a uniform sample of its fits is timed and its time extrapolated; the note says so.

The sweep runs as with `--engine process`. The loop is timed twice: with scikit-learn's defaults, and tuned, with one BLAS
thread for each fit and one process for each core, all of which are busy while a fit is timed. On fits of this size two
threads can be many times slower than one.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

import interp
import probes
from benchmarks.parts import Measures
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


def sweep_beside_sklearn(progress: Progress) -> Measures:
    """Return the loop's extrapolated time, by default and tuned, divided by the sweep's.

    Both have the same model, strengths, splits and controls.
    """
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
        table = result.table()
        sample = _sample(store, table)
    by_default = [_fit(fit, None) for fit in sample]
    tuned = _tuned(sample)
    # Each cell and split has the target, its shuffled copies, the control task and the untrained twin. Controls without
    # an address are not counted, which favours the loop.
    fits = len(table) * SPLITS * (1 + SHUFFLES + 1 + 1) * len(LOGISTIC_STRENGTHS)
    what = f"sweep {ours:.0f} s for {len(table)} cells"

    def beside(seconds: Sequence[float], at_once: int, peer: str) -> dict[str, Any]:
        scale = fits / at_once / ours
        interval = bootstrap((seconds,), np.mean, rng=0).confidence_interval
        hours = float(np.mean(seconds)) * fits / at_once / 3600
        return {
            "value": float(np.mean(seconds)) * scale,
            "ci": [float(interval.low) * scale, float(interval.high) * scale],
            "n": len(seconds),
            "unit": "x",
            "peer": peer,
            "peer_version": sklearn.__version__,
            "note": f"{what}; loop {hours:.1f} h, extrapolated from {len(seconds)} timed fits of {np.mean(seconds):.3f} s "
            f"to {fits} fits, {at_once} at once",
        }

    return {
        "probes.sweep_over_sklearn": beside(by_default, 1, "scikit-learn"),
        "scale.sweep_over_tuned": beside(tuned, cores(), "scikit-learn, one BLAS thread a fit, one process a core"),
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


@dataclass(frozen=True)
class SampledFit:
    """One fit of the loop.

    Attributes:
        acts: Training rows, shape (rows, width).
        labels: Their labels.
        strength: L2 penalty.
    """

    acts: np.ndarray
    labels: np.ndarray
    strength: float


def _sample(store: Store, table: pd.DataFrame) -> list[SampledFit]:
    """Return a uniform sample of the fits of the loop."""
    rng = np.random.default_rng(0)
    sample = []
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
        sample.append(SampledFit(acts, labels, float(rng.choice(LOGISTIC_STRENGTHS))))
    return sample


def _fit(fit: SampledFit, threads: int | None) -> float:
    """Return the seconds of one fit with this number of BLAS threads; None is the library's default."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / fit.strength, max_iter=2000))
    with warnings.catch_warnings(), threadpool_limits(threads):
        warnings.simplefilter("ignore")
        started = time.perf_counter()
        model.fit(fit.acts, fit.labels)
        return time.perf_counter() - started


def _tuned(sample: Sequence[SampledFit]) -> list[float]:
    """Return the seconds of each fit with one thread, while every core fits."""
    with multiprocessing.get_context("spawn").Pool(cores()) as pool:
        pool.map(partial(_fit, threads=1), [sample[0]] * (2 * cores()), chunksize=1)  # imports are not timed
        # Twice, so that the last fits of the first time are not timed beside idle cores.
        return pool.map(partial(_fit, threads=1), [*sample, *sample], chunksize=1)[: len(sample)]
