"""One probe at a time: fitted at one place and kept, or taken to another store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.activations.targets import labels, structures
from interp.decoders.sites import other_problem
from interp.errors import StoreError, UsageError, unknown
from interp.problems.base import checked_seed
from interp.statistics.intervals import grouped_mean_interval
from interp.statistics.metrics import scores
from interp.statistics.splits import grouped_split
from probes.estimators.base import Probe
from probes.estimators.class_means import LDAProbe, MassMeanProbe
from probes.estimators.linear import LogisticProbe, RidgeProbe
from probes.estimators.mlp import MLPProbe
from probes.estimators.saved import DESCRIPTION, SavedProbe, load_probe, save_probe
from probes.sweeps.blocks import MIN_ROWS, Block, blocks
from probes.sweeps.fit import LOGISTIC_STRENGTHS
from probes.sweeps.run import sweep

# What is tried for each estimator; the best on validation is kept.
CANDIDATES: dict[str, list[Any]] = {
    "ridge": [RidgeProbe],
    "logistic": [lambda strength=strength: LogisticProbe(C=1.0 / strength) for strength in LOGISTIC_STRENGTHS],
    "mass_mean": [MassMeanProbe, lambda: MassMeanProbe(whitening=True)],
    "lda": [LDAProbe],
    "mlp": [MLPProbe],
}


def train_probe(
    store: ActivationSource,
    out: Path | str,
    *,
    target: str,
    place: str,
    address: str,
    estimator: str = "ridge",
    seed: int = 0,
    controls: str | list[str] = "all",
    random_init: ActivationSource | None = None,
) -> dict[str, Any]:
    """Fit one probe on the training problems of split `seed`, choose its strength on validation, and keep it in `out`.

    Returns and keeps its test scores with the control ladder of the same split. Raises `UsageError` on unknown
    names and too few rows, `StoreError` when `out` holds something already.
    """
    if estimator not in CANDIDATES:
        raise unknown("estimator", estimator, CANDIDATES)
    if Path(out).exists() and any(Path(out).iterdir()):
        raise StoreError(f"{out} is not empty; choose another --out, or remove it.")
    block = block_at(store, place, target, checked_seed(seed))
    gold, split = block.targets[target], block.splits[seed]
    acts = store.acts(store.address(address), block.rows)
    fitted = [make().fit(acts[split.train], gold[split.train]) for make in CANDIDATES[estimator]]
    probe: Probe = max(fitted, key=lambda each: (each.predict(acts[split.val]) == gold[split.val]).mean())
    swept = sweep(
        store,
        [target],
        places=[place],
        addresses=[address],
        seeds=[seed],
        estimator=estimator,
        controls=controls,
        random_init=random_init,
    )
    cell = swept.cell(target, place, str(store.address(address)))
    metrics = _metrics(probe, acts[split.test], gold[split.test], block.groups[split.test])
    metrics |= {
        "place": place,
        "estimator": estimator,
        "controls": {name: float(cell[name]) for name in swept.notes["controls"]},
        "why_not": swept.notes["why_not"],
    }
    save_probe(probe, out, address=address, store=store, target=target, split=seed, metrics=metrics)
    return {"out": str(out), "target": target, "address": str(store.address(address)), "split": seed, **metrics}


def evaluate_probe(
    saved: SavedProbe,
    store: ActivationSource,
    *,
    place: str | None = None,
    target: str | None = None,
    transfer: bool = False,
) -> dict[str, Any]:
    """A saved probe on another store, on the problem structures that its split held out.

    `place` and `target` are those that it was fitted to by default. Another model's rows are refused unless
    `transfer` is said. Beside the scores stand the most frequent label and another problem's rows.
    """
    place, target = place or saved.metrics.get("place"), target or saved.target
    rows, gold, groups = held_out_rows(saved, store, place=place, target=target)
    if len(rows) < MIN_ROWS // 4:
        raise UsageError(
            f"only {len(rows)} rows of {place!r} have {target!r} and a held-out structure; capture more problems."
        )
    probability = saved.predict_proba(store, rows, transfer=transfer)
    read = saved.probe.classes_[probability.argmax(axis=1)].astype(str)
    donors = other_problem(np.zeros(len(rows)), groups, np.zeros(len(rows)), saved.split or 0)
    low, high = grouped_mean_interval(read == gold, groups)
    _, counts = np.unique(gold, return_counts=True)
    return {
        "fitted_to": f"{saved.model}, {saved.target}, {saved.metrics.get('place')}",
        "tested_on": f"{store.meta['reasoner']['name']}, {target}, {place}",
        "address": saved.address.name,
        "accuracy": float((read == gold).mean()),
        "ci_low": low,
        "ci_high": high,
        **scores(gold, saved.probe.classes_.astype(str), probability, ("macro_f1", "auroc", "log_loss", "ece")),
        "majority": float(counts.max() / counts.sum()),
        "other_problem": float((read[donors] == gold).mean()),
        "n": len(np.unique(groups)),
    }


def held_out_rows(
    saved: SavedProbe, store: ActivationSource, *, place: str | None = None, target: str | None = None
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """The rows of `store` that a saved probe may be judged on, with their labels and structures.

    Which part of a split a structure belongs to is decided by the structure alone, so a problem that the probe was
    fitted to is left out here too. Raises `UsageError` when neither the probe nor the caller says where and what.
    """
    place, target = place or saved.metrics.get("place"), target or saved.target
    if place is None or target is None:
        raise UsageError("this probe does not say where or for what it was fitted; give place and target.")
    rows = store.rows(place=place).reset_index(drop=True)
    given = labels(store, rows, target)
    groups = structures(store, rows)
    use = grouped_split(groups, saved.split or 0).test & np.array([label is not None for label in given], dtype=bool)
    return rows[use].reset_index(drop=True), given[use].astype(str), groups[use]


def kept_probes(folder: Path | str) -> list[dict[str, Any]]:
    """Every saved probe below a folder; one that cannot be read is listed with the reason."""
    found = []
    for path in sorted(Path(folder).rglob(DESCRIPTION)):
        row: dict[str, Any] = {"probe": str(path.parent)}
        try:
            saved = load_probe(path.parent)
        except StoreError as error:
            found.append({**row, "error": str(error)})
            continue
        row |= {"class": type(saved.probe).__name__, "target": saved.target, "place": saved.metrics.get("place")}
        row |= {"address": saved.address.name, "model": saved.model, "accuracy": saved.metrics.get("accuracy")}
        found.append(row)
    return found


def block_at(store: ActivationSource, place: str, target: str, seed: int) -> Block:
    """The rows, labels and split of one target at one place. Raises `UsageError` where there are too few."""
    for block in blocks(store, place, (target,), (seed,)):
        if target in block.targets:
            return block
    raise UsageError(
        f"{target!r} cannot be probed at {place!r}: it needs {MIN_ROWS} rows with two or more labels. Capture more problems."
    )


def _metrics(probe: Probe, acts: np.ndarray, gold: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    probability = probe.predict_proba(acts)
    right = probe.classes_[probability.argmax(axis=1)] == gold
    low, high = grouped_mean_interval(right, groups)
    return {"ci_low": low, "ci_high": high, "n": len(np.unique(groups)), **scores(gold, probe.classes_, probability)}
