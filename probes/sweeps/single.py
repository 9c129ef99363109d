"""Single probes: trained and saved, evaluated on other stores, and listed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.activations.splits import split_is_own, trace_parts
from interp.activations.step_positions import rows_at
from interp.activations.targets import labels, structures
from interp.errors import StoreError, UsageError
from interp.problems.base import checked_seed
from interp.statistics.donors import other_problem
from interp.statistics.estimates import Estimate
from interp.statistics.intervals import grouped_mean_interval
from interp.statistics.metrics import scores
from interp.statistics.splits import grouped_split
from probes.estimators.base import Probe
from probes.estimators.registry import estimator_class
from probes.estimators.saved import DESCRIPTION, SavedProbe, load_probe, save_probe
from probes.sweeps.blocks import MIN_ROWS, Block, blocks
from probes.sweeps.run import sweep

# Fewer held-out rows than this are too few to evaluate a saved probe on.
MIN_HELD_OUT = MIN_ROWS // 4


@dataclass(frozen=True)
class TrainingResult:
    """A trained probe's scores on the held-out problems of its split.

    Attributes:
        out: Folder of the saved probe.
        target: The target that it predicts.
        place: The place that it reads.
        address: The address that it reads.
        estimator: Name of the estimator.
        split: Seed of the problem split.
        accuracy: Held-out accuracy; n counts problem structures.
        scores: Further held-out scores by name.
        controls: Held-out accuracy of each control; NaN if it could not be computed.
        why_not: Why a control could not be computed.
        split_by: Who decided the split, and in a questions file's own the number of traces in each part.
        used_structures: The structures that were fitted or selected on; None where a seed and the structure tell.
    """

    out: str
    target: str
    place: str
    address: str
    estimator: str
    split: int
    accuracy: Estimate
    scores: dict[str, float]
    controls: dict[str, float]
    why_not: dict[str, str]
    split_by: dict[str, Any]
    used_structures: list[str] | None

    def metrics(self) -> dict[str, Any]:
        """Return the scores in the form that a saved probe keeps."""
        return {
            **_interval_columns(self.accuracy),
            **self.scores,
            "place": self.place,
            "estimator": self.estimator,
            "controls": self.controls,
            "why_not": self.why_not,
            "split_by": self.split_by,
            **({} if self.used_structures is None else {"used_structures": self.used_structures}),
        }

    def record(self) -> dict[str, Any]:
        """Return the result in the form that `cotlens probe train --json` prints."""
        identity = {"out": self.out, "target": self.target, "address": self.address, "split": self.split}
        return identity | {key: value for key, value in self.metrics().items() if key != "used_structures"}


@dataclass(frozen=True)
class EvaluationResult:
    """A saved probe's scores on another store, on the structures that its split held out.

    Attributes:
        fitted_to: Model, target and place that the probe was fitted to.
        tested_on: Model, target and place that it was tested on.
        address: The address that it reads.
        accuracy: Accuracy; n counts problem structures.
        scores: Further scores by name.
        majority: Accuracy of the most frequent label.
        other_problem: Accuracy on another problem's activations.
    """

    fitted_to: str
    tested_on: str
    address: str
    accuracy: Estimate
    scores: dict[str, float]
    majority: float
    other_problem: float

    def record(self) -> dict[str, Any]:
        """Return the result in the form that `cotlens probe eval --json` prints."""
        return {
            "fitted_to": self.fitted_to,
            "tested_on": self.tested_on,
            "address": self.address,
            **_interval_columns(self.accuracy),
            **self.scores,
            "majority": self.majority,
            "other_problem": self.other_problem,
        }


def train_probe(
    store: ActivationSource,
    out: Path | str,
    *,
    target: str,
    place: str,
    address: str,
    estimator: str = "ridge",
    split_seed: int = 0,
    controls: str | list[str] = "all",
    random_init: ActivationSource | None = None,
) -> TrainingResult:
    """Fit one probe on the training problems of a split, choose its strength on validation, and save it.

    Args:
        store: The store.
        out: Folder for the probe; it must be empty or not exist.
        target: The target to predict.
        place: The place to read.
        address: The address to read.
        estimator: A name from `probes.estimators.registry.estimator_names()`.
        split_seed: Seed of the problem split.
        controls: "all", "none" or names of controls.
        random_init: A store of the same problems made by an untrained twin.

    Returns:
        Held-out scores with the controls of the same split; they are saved with the probe.

    Raises:
        UsageError: A name is unknown, or the target has too few rows at the place.
        StoreError: `out` is not empty, or cannot be written.
    """
    variants = estimator_class(estimator).variants()
    if Path(out).exists() and any(Path(out).iterdir()):
        raise StoreError(f"expected an empty folder, got files in {out}; choose another --out, or remove it.")
    block = block_at(store, place, target, checked_seed(split_seed))
    gold, split = block.targets[target], block.splits[split_seed]
    acts = store.acts(store.address(address), block.rows)
    fitted = [variant.fit(acts[split.train], gold[split.train]) for variant in variants]
    probe = max(fitted, key=lambda p: (p.predict(acts[split.val]) == gold[split.val]).mean())
    swept = sweep(
        store,
        [target],
        places=[place],
        addresses=[address],
        splits=[split_seed],
        estimator=estimator,
        controls=controls,
        random_init=random_init,
    )
    cell = swept.cell(target, place, str(store.address(address)))
    accuracy, further = _test_scores(probe, acts[split.test], gold[split.test], block.groups[split.test])
    result = TrainingResult(
        out=str(out),
        target=target,
        place=place,
        address=str(store.address(address)),
        estimator=estimator,
        split=split_seed,
        accuracy=accuracy,
        scores=further,
        controls={name: float(cell[name]) for name in swept.notes["controls"]},
        why_not=swept.notes["why_not"],
        split_by=swept.notes["split"],
        used_structures=np.unique(block.groups[~split.test]).tolist() if split_is_own(store) else None,
    )
    save_probe(probe, out, address=address, store=store, target=target, split=split_seed, metrics=result.metrics())
    return result


def evaluate_probe(
    saved: SavedProbe,
    store: ActivationSource,
    *,
    place: str | None = None,
    target: str | None = None,
    transfer: bool = False,
) -> EvaluationResult:
    """Evaluate a saved probe on another store, on the problem structures that its split held out.

    Args:
        saved: The probe.
        store: The store to read.
        place: The place to read; that of the probe by default.
        target: The target to score; that of the probe by default.
        transfer: Allow activations of another model.

    Returns:
        Scores, with those of the most frequent label and of another problem's activations.

    Raises:
        UsageError: The place or target is unknown, or there are too few held-out rows.
        StoreError: The store is of another model and `transfer` is False.
    """
    place, target = place or saved.metrics.get("place"), target or saved.target
    rows, gold, groups = held_out_rows(saved, store, place=place, target=target)
    if len(rows) < MIN_HELD_OUT:
        raise UsageError(
            f"expected {MIN_HELD_OUT} held-out rows of {place!r} with {target!r}, got {len(rows)}; capture more problems."
        )
    probability = saved.predict_proba(store, rows, transfer=transfer)
    predicted = saved.probe.classes_[probability.argmax(axis=1)].astype(str)
    donors = other_problem(np.zeros(len(rows)), groups, np.zeros(len(rows)), saved.split or 0)
    _, counts = np.unique(gold, return_counts=True)
    return EvaluationResult(
        fitted_to=f"{saved.model}, {saved.target}, {saved.metrics.get('place')}",
        tested_on=f"{store.meta['reasoner']['name']}, {target}, {place}",
        address=saved.address.name,
        accuracy=_accuracy(predicted == gold, groups),
        scores=scores(gold, saved.probe.classes_.astype(str), probability, ("macro_f1", "auroc", "log_loss", "ece")),
        majority=float(counts.max() / counts.sum()),
        other_problem=float((predicted[donors] == gold).mean()),
    )


def held_out_rows(
    saved: SavedProbe, store: ActivationSource, *, place: str | None = None, target: str | None = None
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Return the rows of a store that a saved probe may be tested on.

    A structure's part of a split depends on the structure alone, so problems that the probe was fitted to are left
    out in every store. A probe that was fitted on the split of a questions file names those problems.

    Args:
        saved: The probe.
        store: The store to read.
        place: The place to read; that of the probe by default.
        target: The target; that of the probe by default.

    Returns:
        Rows of the store's index, their labels and their structures.

    Raises:
        UsageError: Neither the probe nor the caller names a place and a target.
    """
    place, target = place or saved.metrics.get("place"), target or saved.target
    if place is None or target is None:
        raise UsageError("expected a probe with a place and a target, got one without; give place and target.")
    rows = rows_at(store, place).reset_index(drop=True)
    target_labels = labels(store, rows, target)
    groups = structures(store, rows)
    defined = np.array([label is not None for label in target_labels], dtype=bool)
    kept = _held_out(saved, store, rows, groups) & defined
    return rows[kept].reset_index(drop=True), target_labels[kept].astype(str), groups[kept]


def _held_out(saved: SavedProbe, store: ActivationSource, rows: pd.DataFrame, groups: np.ndarray) -> np.ndarray:
    """Return which rows are of problems that the probe was neither fitted to nor selected on."""
    used = saved.metrics.get("used_structures")
    if used is None:
        return grouped_split(groups, saved.split or 0).test
    parts = trace_parts(store, saved.split or 0)[rows["trace"].to_numpy()]
    tested = parts == "test" if split_is_own(store) else np.ones(len(rows), dtype=bool)
    return tested & ~np.isin(groups, used)


def saved_probes(folder: Path | str) -> list[dict[str, Any]]:
    """Return one table row for each saved probe below a folder.

    Args:
        folder: Folder to search, with its subfolders.

    Returns:
        Rows with the keys probe, class, target, place, address, model and accuracy; for a probe that cannot be read,
        probe and error.
    """
    rows = []
    for path in sorted(Path(folder).rglob(DESCRIPTION)):
        row: dict[str, Any] = {"probe": str(path.parent)}
        try:
            saved = load_probe(path.parent)
        except StoreError as error:
            rows.append({**row, "error": str(error)})
            continue
        row |= {"class": type(saved.probe).__name__, "target": saved.target, "place": saved.metrics.get("place")}
        row |= {"address": saved.address.name, "model": saved.model, "accuracy": saved.metrics.get("accuracy")}
        rows.append(row)
    return rows


def block_at(store: ActivationSource, place: str, target: str, split_seed: int) -> Block:
    """Return the rows, labels and split of one target at one place.

    Raises:
        UsageError: The target has too few rows there, or a single label.
    """
    for block in blocks(store, place, (target,), (split_seed,)):
        if target in block.targets:
            return block
    raise UsageError(
        f"expected {MIN_ROWS} rows with two or more labels of {target!r} at {place!r}, got fewer; capture more problems."
    )


def _test_scores(
    probe: Probe, acts: np.ndarray, gold: np.ndarray, groups: np.ndarray
) -> tuple[Estimate, dict[str, float]]:
    probability = probe.predict_proba(acts)
    right = probe.classes_[probability.argmax(axis=1)] == gold
    return _accuracy(right, groups), scores(gold, probe.classes_, probability)


def _accuracy(right: np.ndarray, groups: np.ndarray) -> Estimate:
    """Return the share of right rows, with an interval over structures and their number."""
    low, high = grouped_mean_interval(right, groups)
    return Estimate(float(right.mean()), low, high, len(np.unique(groups)))


def _interval_columns(accuracy: Estimate) -> dict[str, float]:
    return {"accuracy": accuracy.value, "ci_low": accuracy.low, "ci_high": accuracy.high, "n": accuracy.n}
