"""What one worker computes of a sweep: all cells of one address, or the controls that no address is needed for.

A unit is small, picklable and says everything by name, so that any engine can run it and a finished one is known
by its hash. Its result is rows of the sweep's table.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from interp.activations import ActivationSource
from interp.decoders.sites import other_problem
from interp.models.address import Address
from interp.statistics.intervals import grouped_mean_interval, matches_p_value
from interp.statistics.metrics import scores
from interp.statistics.splits import Masks
from probes.sweeps import controls as ladder
from probes.sweeps.blocks import Block, blocks, cached_store
from probes.sweeps.description_length import online_codes
from probes.sweeps.fit import Read, fit_all

# Activations of a thought form one cluster for each value, so a single shuffle is right or wrong a whole cluster at a
# time and its accuracy spreads by about 0.1; the mean of several is the control.
SHUFFLES = 4
_SCORES = ("macro_f1", "auroc", "auprc", "log_loss", "brier", "ece")
_VERSION = 2  # of what a unit's result means; another one makes finished units be computed again


@dataclass(frozen=True)
class Unit:
    """One part of a sweep. `address` is None for the controls of `places` that need none."""

    store: str
    config_hash: str
    twin: str | None
    twin_hash: str | None
    address: str | None
    places: tuple[str, ...]
    targets: tuple[str, ...]
    controls: tuple[str, ...]
    seeds: tuple[int, ...]
    estimator: str
    description_length: bool = False

    @property
    def key(self) -> str:
        """A hash of all that decides the result; where the stores lie does not."""
        said = asdict(replace(self, store="", twin=None)) | {"version": _VERSION}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:20]


@dataclass
class _Tested:
    """Test predictions of one cell, collected over splits."""

    classes: np.ndarray
    gold: list[np.ndarray] = field(default_factory=list)
    groups: list[np.ndarray] = field(default_factory=list)
    seeds: list[np.ndarray] = field(default_factory=list)
    read: list[np.ndarray] = field(default_factory=list)
    chances: list[np.ndarray] = field(default_factory=list)
    val: list[float] = field(default_factory=list)
    n_val: int = 0
    control: dict[str, list[float]] = field(default_factory=dict)

    def note(self, control: str, score: float) -> None:
        self.control.setdefault(control, []).append(score)


def run_unit(unit: Unit) -> dict[str, Any]:
    """Compute one unit: `rows` of the table, and in `why_not` the places of controls that could not be had."""
    store = cached_store(unit.store, unit.config_hash)
    twin = cached_store(unit.twin, unit.twin_hash or "") if unit.twin else None
    rows: list[dict[str, Any]] = []
    why_not: dict[str, dict[str, str]] = {}
    known: dict[tuple[str, bytes], float] = {}  # question-only scores, the same at every place with the same problems
    for place in unit.places:
        for block in blocks(store, place, unit.targets, unit.seeds):
            if unit.address is None:
                rows += _without_address(unit, store, place, block, why_not, known)
            else:
                rows += _cells(unit, store, twin, place, block, why_not)
    return {"rows": rows, "why_not": why_not}


def _cells(
    unit: Unit,
    store: ActivationSource,
    twin: ActivationSource | None,
    place: str,
    block: Block,
    why_not: dict[str, dict[str, str]],
) -> list[dict[str, Any]]:
    """One row of the table for each target of the block at this unit's address."""
    assert unit.address is not None
    acts = store.acts(store.address(unit.address), block.rows)
    untrained = None
    if "random_init" in unit.controls:
        substitute = ladder.random_init(block.rows, unit.address, twin)
        untrained = substitute.inputs.get(unit.address)
        if untrained is None:
            why_not.setdefault("random_init", {})[place] = substitute.why_not
    types = ladder.word_types(store, block.rows) if "control_task" in unit.controls else None
    if types is None and "control_task" in unit.controls:
        why_not.setdefault("control_task", {})[place] = "every row has the same words here"
    cells = {target: _Tested(np.unique(gold)) for target, gold in block.targets.items()}
    for seed in unit.seeds:
        _test(unit, cells, acts, untrained, types, block, seed)
    lengths = _description_lengths(unit, acts, types, block) if unit.description_length else {}
    return [_row(unit, target, place, cell) | lengths.get(target, {}) for target, cell in cells.items()]


def _description_lengths(
    unit: Unit, acts: np.ndarray, types: np.ndarray | None, block: Block
) -> dict[str, dict[str, float]]:
    """Bits a label of the online code for each target and its control task, and the target's against a uniform code."""
    seed = unit.seeds[0]
    labellings = block.targets | _control_tasks(block, types, seed)
    sent = online_codes(unit.estimator, acts, labellings, groups=block.groups, seed=seed)
    found = {}
    for target in block.targets:
        found[target] = {"bits_per_label": sent[target].bits_per_label, "compression": sent[target].compression}
        if types is not None:
            found[target]["control_task_bits_per_label"] = sent[f"{target} control task"].bits_per_label
    return found


def _test(
    unit: Unit,
    cells: dict[str, _Tested],
    acts: np.ndarray,
    untrained: np.ndarray | None,
    types: np.ndarray | None,
    block: Block,
    seed: int,
) -> None:
    """Fit on one split everything that shares this design matrix, and note what its test rows say."""
    split, rng = block.splits[seed], np.random.default_rng(seed)
    labellings = dict(block.targets)
    copies = range(SHUFFLES if "shuffled_labels" in unit.controls else 0)
    for target, gold in block.targets.items():
        for k in copies:
            labellings[f"{target} shuffled {k}"] = _shuffled(gold, split, rng)
    labellings |= _control_tasks(block, types, seed)
    read = fit_all(unit.estimator, acts, labellings, split)
    fresh = fit_all(unit.estimator, untrained, block.targets, split) if untrained is not None else None
    part = np.where(split.train, 0, np.where(split.val, 1, 2))
    donors = other_problem(np.zeros(len(part)), block.groups, part, seed)
    for target, gold in block.targets.items():
        cell, said = cells[target], read[target].text
        cell.gold.append(gold[split.test])
        cell.groups.append(block.groups[split.test])
        cell.seeds.append(np.full(int(split.test.sum()), seed))
        cell.read.append(said[split.test])
        cell.chances.append(_aligned(read[target], cell.classes)[split.test])
        cell.val.append(float((said[split.val] == gold[split.val]).mean()))
        cell.n_val += int(split.val.sum())
        if copies:
            right = [(read[f"{target} shuffled {k}"].text == gold)[split.test].mean() for k in copies]
            cell.note("shuffled_labels", float(np.mean(right)))
        if types is not None:
            name = f"{target} control task"
            cell.note("control_task", float((read[name].text == labellings[name])[split.test].mean()))
        if "other_problem" in unit.controls:
            cell.note("other_problem", float((said[donors] == gold)[split.test].mean()))
        if fresh is not None:
            cell.note("random_init", float((fresh[target].text == gold)[split.test].mean()))


def _control_tasks(block: Block, types: np.ndarray | None, seed: int) -> dict[str, np.ndarray]:
    """The control task of every target by name; none where every row has the same words."""
    if types is None:
        return {}
    return {f"{target} control task": ladder.control_task(gold, types, seed) for target, gold in block.targets.items()}


def _shuffled(gold: np.ndarray, split: Masks, rng: np.random.Generator) -> np.ndarray:
    """Labels whose training and validation parts are each permuted; the test part keeps the true ones."""
    out = gold.copy()
    for part in (split.train, split.val):
        out[part] = gold[part][rng.permutation(int(part.sum()))]
    return out


def _aligned(read: Read, classes: np.ndarray) -> np.ndarray:
    """Probabilities of `classes`; 0 for one that no training row had."""
    out = np.zeros((len(read.scores), len(classes)), np.float32)
    out[:, np.searchsorted(classes, read.classes)] = read.probabilities()
    return out


def _row(unit: Unit, target: str, place: str, cell: _Tested) -> dict[str, Any]:
    assert unit.address is not None
    address = Address(unit.address)
    gold, groups, read = (np.concatenate(c) for c in (cell.gold, cell.groups, cell.read))
    low, high = grouped_mean_interval(read == gold, groups, seeds=np.concatenate(cell.seeds))
    _, once = np.unique(groups, return_index=True)
    controls = {name: float(np.mean(values)) for name, values in cell.control.items()}
    accuracy = float((read == gold).mean())
    found = {
        "target": target,
        "place": place,
        "address": unit.address,
        "layer": address.layer,
        "label": address.label,
        "depth": min(address.depth, 1e6),
        "estimator": unit.estimator,
        "accuracy": accuracy,
        "ci_low": low,
        "ci_high": high,
        "val_accuracy": float(np.mean(cell.val)),
        **controls,
        "n_val": cell.n_val,
        "p": matches_p_value(read[once], gold[once]),
        "n": len(once),
        "n_classes": len(set(gold)),
        **scores(gold, cell.classes, np.concatenate(cell.chances), _SCORES),
    }
    if "control_task" in controls:
        found["selectivity"] = accuracy - controls["control_task"]
    return found


def _without_address(
    unit: Unit,
    store: ActivationSource,
    place: str,
    block: Block,
    why_not: dict[str, dict[str, str]],
    known: dict[tuple[str, bytes], float],
) -> list[dict[str, Any]]:
    """The controls that are the same for every address: one row for each target."""
    found: dict[str, dict[str, float]] = {target: {} for target in block.targets}
    if "majority" in unit.controls:
        for target, gold in block.targets.items():
            found[target]["majority"] = float(np.mean([_majority(gold, block.splits[seed]) for seed in unit.seeds]))
    makers = {
        "question_only": ladder.question_only,
        "position_only": ladder.position_only,
        "text_only": ladder.text_only,
    }
    for name, make in makers.items():
        if name not in unit.controls:
            continue
        keys = {target: (target, _same_rows(block, gold)) for target, gold in block.targets.items()}
        if name == "question_only" and all(key in known for key in keys.values()):
            for target, key in keys.items():
                found[target][name] = known[key]
            continue
        substitute = make(store, block.rows)
        if not substitute.inputs:
            why_not.setdefault(name, {})[place] = substitute.why_not
            continue
        for target, score in _best_of(unit, substitute, block).items():
            found[target][name] = score
            if name == "question_only":
                known[keys[target]] = score
    return [{"target": target, "place": place, **values} for target, values in found.items()]


def _same_rows(block: Block, gold: np.ndarray) -> bytes:
    return hashlib.sha256(block.rows["trace"].to_numpy().tobytes() + "|".join(gold).encode()).digest()


def _best_of(unit: Unit, substitute: ladder.Substitute, block: Block) -> dict[str, float]:
    """Test accuracy with the input that is best on validation, averaged over the splits."""
    collected: dict[str, list[float]] = {target: [] for target in block.targets}
    for seed in unit.seeds:
        split = block.splits[seed]
        tried = [fit_all(unit.estimator, inputs, block.targets, split) for inputs in substitute.inputs.values()]
        for target, gold in block.targets.items():
            on_val = [float((read[target].text == gold)[split.val].mean()) for read in tried]
            best = tried[int(np.argmax(on_val))][target]
            collected[target].append(float((best.text == gold)[split.test].mean()))
    return {target: float(np.mean(found)) for target, found in collected.items()}


def _majority(gold: np.ndarray, split: Masks) -> float:
    values, counts = np.unique(gold[split.train], return_counts=True)
    return float((gold[split.test] == values[counts.argmax()]).mean())
