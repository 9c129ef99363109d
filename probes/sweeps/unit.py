"""One unit of a sweep: all cells of some places of one address, or the controls that need no address.

A unit is small and picklable and names everything it needs, so any engine can run it, and a finished unit is known by
its hash. Its result is rows of the sweep's table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from interp.activations import ActivationSource
from interp.models.address import Address
from interp.statistics.donors import other_problem
from interp.statistics.estimates import Estimate
from interp.statistics.intervals import matches_p_value
from interp.statistics.metrics import scores
from interp.statistics.splits import Masks
from probes.sweeps import controls as control_inputs
from probes.sweeps.blocks import Block, blocks, cached_store
from probes.sweeps.controls import ControlInputs
from probes.sweeps.description_length import online_codes
from probes.sweeps.fit import FittedScores, fit_all

# Activations of a thought form one cluster for each value, so a shuffled probe is right or wrong a whole cluster at a
# time, and its accuracy varies by about 0.1; the control is therefore the mean of several shuffles.
SHUFFLES = 4
# These depend on the trace alone, so they are computed once for all places with the same traces.
_SAME_AT_EVERY_PLACE = ("question_only", "before_thinking")
_SCORES = ("macro_f1", "auroc", "auprc", "log_loss", "brier", "ece")
_VERSION = 6  # a new number makes finished units be computed again

# One row of the sweep's table: column name to text or number.
TableRow = dict[str, Any]


@dataclass(frozen=True)
class Unit:
    """One part of a sweep.

    Attributes:
        store: Folder of the store.
        config_hash: Its configuration hash.
        twin: Folder of the untrained twin's store.
        twin_hash: Its configuration hash.
        address: Name of the address; None for the controls of `places` that need none.
        places: Places to probe.
        targets: Targets to probe.
        controls: Controls to compute.
        splits: Seeds of the problem splits.
        estimator: Name of the estimator.
        description_length: Whether to compute the online code too.
    """

    store: str
    config_hash: str
    twin: str | None
    twin_hash: str | None
    address: str | None
    places: tuple[str, ...]
    targets: tuple[str, ...]
    controls: tuple[str, ...]
    splits: tuple[int, ...]
    estimator: str
    description_length: bool = False

    @property
    def key(self) -> str:
        """A hash of all that decides the result; the folders of the stores are not part of it."""
        content = asdict(replace(self, store="", twin=None)) | {"version": _VERSION}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


@dataclass
class UnitResult:
    """Result of one unit.

    Attributes:
        rows: Rows of the sweep's table.
        why_not: For each control that could not be computed, the reason by place.
        unconverged: Number of logistic fits that did not converge, of cells and of controls.
    """

    rows: list[TableRow] = field(default_factory=list)
    why_not: dict[str, dict[str, str]] = field(default_factory=dict)
    unconverged: int = 0

    def note_missing(self, control: str, place: str, reason: str) -> None:
        """Record why a control could not be computed at a place."""
        self.why_not.setdefault(control, {})[place] = reason


@dataclass
class _TestPredictions:
    """Test predictions of one cell, collected over splits."""

    classes: np.ndarray
    gold: list[np.ndarray] = field(default_factory=list)
    groups: list[np.ndarray] = field(default_factory=list)
    splits: list[np.ndarray] = field(default_factory=list)
    predicted: list[np.ndarray] = field(default_factory=list)
    probabilities: list[np.ndarray] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    n_val: int = 0
    controls: dict[str, list[float]] = field(default_factory=dict)
    unconverged: int | None = None

    def count_unconverged(self, fits: Iterable[FittedScores]) -> None:
        """Count the fits that did not converge; where no fit says so, there is no count."""
        known = [fit.converged for fit in fits if fit.converged is not None]
        if known:
            self.unconverged = (self.unconverged or 0) + known.count(False)

    def add_control(self, control: str, accuracy: float) -> None:
        self.controls.setdefault(control, []).append(accuracy)


def run_unit(unit: Unit) -> UnitResult:
    """Compute one unit of a sweep."""
    store = cached_store(unit.store, unit.config_hash)
    twin = cached_store(unit.twin, unit.twin_hash or "") if unit.twin else None
    result = UnitResult()
    cached: dict[tuple[str, str, bytes], float] = {}
    for place in unit.places:
        for block in blocks(store, place, unit.targets, unit.splits):
            if unit.address is None:
                result.rows.extend(_controls_without_address(unit, store, place, block, result, cached))
            else:
                result.rows.extend(_cells(unit, store, twin, place, block, result))
    return result


def _cells(
    unit: Unit, store: ActivationSource, twin: ActivationSource | None, place: str, block: Block, result: UnitResult
) -> list[TableRow]:
    """Return one table row for each target of the block at the unit's address."""
    assert unit.address is not None
    acts = store.acts(store.address(unit.address), block.rows)
    untrained = None
    if "random_init" in unit.controls:
        twin_inputs = control_inputs.random_init(block.rows, unit.address, twin)
        untrained = twin_inputs.inputs.get(unit.address)
        if untrained is None:
            result.note_missing("random_init", place, twin_inputs.why_not)
    types = control_inputs.word_types(store, block.rows) if "control_task" in unit.controls else None
    if types is None and "control_task" in unit.controls:
        result.note_missing("control_task", place, "every row has the same tokens here")
    cells = {target: _TestPredictions(np.unique(gold)) for target, gold in block.targets.items()}
    for split_seed in unit.splits:
        _test(unit, cells, acts, untrained, types, block, split_seed)
    result.unconverged += sum(cell.unconverged or 0 for cell in cells.values())
    lengths = _description_lengths(unit, acts, types, block) if unit.description_length else {}
    return [_table_row(unit, target, place, cell) | lengths.get(target, {}) for target, cell in cells.items()]


def _description_lengths(
    unit: Unit, acts: np.ndarray, types: np.ndarray | None, block: Block
) -> dict[str, dict[str, float]]:
    """Return bits a label by the online code for each target and its control task, and the target's compression."""
    seed = unit.splits[0]
    labellings = block.targets | _control_tasks(block, types, seed)
    codes = online_codes(unit.estimator, acts, labellings, groups=block.groups, seed=seed)
    columns = {}
    for target in block.targets:
        columns[target] = {"bits_per_label": codes[target].bits_per_label, "compression": codes[target].compression}
        if types is not None:
            columns[target]["control_task_bits_per_label"] = codes[f"{target} control task"].bits_per_label
    return columns


def _test(
    unit: Unit,
    cells: dict[str, _TestPredictions],
    acts: np.ndarray,
    untrained: np.ndarray | None,
    types: np.ndarray | None,
    block: Block,
    split_seed: int,
) -> None:
    """Fit on one split everything that shares this design matrix, and add the test predictions to `cells`."""
    split, rng = block.splits[split_seed], np.random.default_rng(split_seed)
    labellings = dict(block.targets)
    shuffles = range(SHUFFLES if "shuffled_labels" in unit.controls else 0)
    for target, gold in block.targets.items():
        for k in shuffles:
            labellings[f"{target} shuffled {k}"] = shuffled(gold, split, rng)
    labellings |= _control_tasks(block, types, split_seed)
    fitted = fit_all(unit.estimator, acts, labellings, split)
    twin_fitted = fit_all(unit.estimator, untrained, block.targets, split) if untrained is not None else None
    part = np.where(split.train, 0, np.where(split.val, 1, 2))
    donors = other_problem(np.zeros(len(part)), block.groups, part, split_seed)
    for target, gold in block.targets.items():
        cell, predicted = cells[target], fitted[target].labels
        own = [target, *(f"{target} shuffled {k}" for k in shuffles)]
        own += [] if types is None else [f"{target} control task"]
        cell.count_unconverged([fitted[name] for name in own] + ([twin_fitted[target]] if twin_fitted else []))
        cell.gold.append(gold[split.test])
        cell.groups.append(block.groups[split.test])
        cell.splits.append(np.full(int(split.test.sum()), split_seed))
        cell.predicted.append(predicted[split.test])
        cell.probabilities.append(_aligned(fitted[target], cell.classes)[split.test])
        cell.val_accuracy.append(float((predicted[split.val] == gold[split.val]).mean()))
        cell.n_val += int(split.val.sum())
        if shuffles:
            right = [(fitted[f"{target} shuffled {k}"].labels == gold)[split.test].mean() for k in shuffles]
            cell.add_control("shuffled_labels", float(np.mean(right)))
        if types is not None:
            name = f"{target} control task"
            cell.add_control("control_task", float((fitted[name].labels == labellings[name])[split.test].mean()))
        if "other_problem" in unit.controls:
            cell.add_control("other_problem", float((predicted[donors] == gold)[split.test].mean()))
        if twin_fitted is not None:
            cell.add_control("random_init", float((twin_fitted[target].labels == gold)[split.test].mean()))


def _control_tasks(block: Block, types: np.ndarray | None, seed: int) -> dict[str, np.ndarray]:
    """Return the labels of every target's control task by name; none if every row has the same tokens."""
    if types is None:
        return {}
    return {
        f"{target} control task": control_inputs.control_task(gold, types, seed)
        for target, gold in block.targets.items()
    }


def shuffled(gold: np.ndarray, split: Masks, rng: np.random.Generator) -> np.ndarray:
    """Return labels whose training and validation parts are each permuted; the test part is unchanged."""
    out = gold.copy()
    for part in (split.train, split.val):
        out[part] = gold[part][rng.permutation(int(part.sum()))]
    return out


def _aligned(fitted: FittedScores, classes: np.ndarray) -> np.ndarray:
    """Return probabilities of `classes`; 0 for a class that no training row has."""
    out = np.zeros((len(fitted.scores), len(classes)), np.float32)
    out[:, np.searchsorted(classes, fitted.classes)] = fitted.probabilities()
    return out


def _table_row(unit: Unit, target: str, place: str, cell: _TestPredictions) -> TableRow:
    assert unit.address is not None
    address = Address(unit.address)
    gold, groups, predicted = (np.concatenate(arrays) for arrays in (cell.gold, cell.groups, cell.predicted))
    accuracy = Estimate.of_mean(predicted == gold, groups, seeds=np.concatenate(cell.splits))
    _, first = np.unique(groups, return_index=True)
    controls = {name: float(np.mean(values)) for name, values in cell.controls.items()}
    row = {
        "target": target,
        "place": place,
        "address": unit.address,
        "layer": address.layer,
        "label": address.label,
        "depth": min(address.depth, 1e6),
        "estimator": unit.estimator,
        "accuracy": accuracy.value,
        "ci_low": accuracy.low,
        "ci_high": accuracy.high,
        "val_accuracy": float(np.mean(cell.val_accuracy)),
        **controls,
        "n_val": cell.n_val,
        "p": matches_p_value(predicted[first], gold[first]),
        "n": len(first),
        "n_classes": len(set(gold)),
        **scores(gold, cell.classes, np.concatenate(cell.probabilities), _SCORES),
    }
    if cell.unconverged is not None:
        row["unconverged"] = cell.unconverged
    if "control_task" in controls:
        row["selectivity"] = accuracy.value - controls["control_task"]
    return row


def _controls_without_address(
    unit: Unit,
    store: ActivationSource,
    place: str,
    block: Block,
    result: UnitResult,
    cached: dict[tuple[str, str, bytes], float],
) -> list[TableRow]:
    """Return the controls that are equal for every address, one table row for each target."""
    rows: dict[str, dict[str, float]] = {target: {} for target in block.targets}
    if "majority" in unit.controls:
        for target, gold in block.targets.items():
            rows[target]["majority"] = float(
                np.mean([majority_accuracy(gold, block.splits[seed]) for seed in unit.splits])
            )
    for name in unit.controls:
        make_inputs = control_inputs.input_control(name)
        if make_inputs is None:
            continue
        keys = {target: (name, target, _same_rows(block, gold)) for target, gold in block.targets.items()}
        if place != control_inputs.QUESTION_END and all(key in cached for key in keys.values()):
            for target, key in keys.items():
                rows[target][name] = cached[key]
            continue
        alternatives = make_inputs(store, block.rows)
        if not alternatives.inputs:
            result.note_missing(name, place, alternatives.why_not)
            continue
        accuracies, unconverged = _best_accuracy(unit.estimator, alternatives, block)
        result.unconverged += unconverged
        for target, accuracy in accuracies.items():
            rows[target][name] = accuracy
            if name in _SAME_AT_EVERY_PLACE:
                cached[keys[target]] = accuracy
    return [{"target": target, "place": place, **values} for target, values in rows.items()]


def _same_rows(block: Block, gold: np.ndarray) -> bytes:
    """Return a hash of the traces of a block's rows and their labels."""
    return hashlib.sha256(block.rows["trace"].to_numpy().tobytes() + "|".join(gold).encode()).digest()


def best_accuracy(estimator: str, alternatives: ControlInputs, block: Block) -> dict[str, float]:
    """Return test accuracy with the input that is best on validation, averaged over the splits of the block."""
    return _best_accuracy(estimator, alternatives, block)[0]


def _best_accuracy(estimator: str, alternatives: ControlInputs, block: Block) -> tuple[dict[str, float], int]:
    """Return `best_accuracy`, and how many logistic fits did not converge."""
    unconverged = 0
    accuracies: dict[str, list[float]] = {target: [] for target in block.targets}
    for split in block.splits.values():
        fits = [fit_all(estimator, inputs, block.targets, split) for inputs in alternatives.inputs.values()]
        unconverged += sum(fit.converged is False for fitted in fits for fit in fitted.values())
        for target, gold in block.targets.items():
            on_val = [float((fitted[target].labels == gold)[split.val].mean()) for fitted in fits]
            best = fits[int(np.argmax(on_val))][target]
            accuracies[target].append(float((best.labels == gold)[split.test].mean()))
    return {target: float(np.mean(values)) for target, values in accuracies.items()}, unconverged


def majority_accuracy(gold: np.ndarray, split: Masks) -> float:
    """Return the share of test rows with the most frequent training label."""
    values, counts = np.unique(gold[split.train], return_counts=True)
    return float((gold[split.test] == values[counts.argmax()]).mean())
