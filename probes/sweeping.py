"""The probe sweep: address x place x target, each score beside its controls, interval and q-value.

Within one problem split, all targets of an address that share their rows are solved together with their
shuffled copies. Over several splits, each problem counts once for its interval, however often it was tested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.activations import Store
from interp.decoders.evaluate import other_problem
from interp.errors import StoreError, UsageError, checked_count
from interp.models.address import Address
from interp.problems.base import checked_seed
from interp.splits import Masks, grouped_split
from interp.stats import grouped_mean_interval, matches_p_value, q_values
from interp.targets import labels, structures, value_targets
from probes import controls as ladder
from probes.results import Sweep
from probes.solver import fit_ridge, one_hot

if TYPE_CHECKING:
    pass

Progress = Callable[[int, int], None]
_MIN_ROWS = 60
# Activations of a thought form one cluster for each value, so a single shuffle is right or wrong a whole cluster at a
# time and its accuracy spreads by about 0.1; the mean of several is the control.
_SHUFFLES = 4


@dataclass
class _Tested:
    """Test predictions of one cell, collected over splits."""

    gold: list[np.ndarray] = field(default_factory=list)
    groups: list[np.ndarray] = field(default_factory=list)
    read: list[np.ndarray] = field(default_factory=list)
    val: list[float] = field(default_factory=list)
    n_val: int = 0
    control: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Block:
    """Targets that are defined on the same rows of one place."""

    rows: pd.DataFrame
    groups: np.ndarray
    targets: dict[str, np.ndarray]
    splits: dict[int, Masks]


def sweep(
    store: Store,
    targets: Sequence[str] | None = None,
    *,
    controls: str | Sequence[str] = "all",
    places: Sequence[str] | None = None,
    addresses: Sequence[str] | None = None,
    seeds: int | Sequence[int] = 3,
    random_init: Store | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Linear probes for every target at every place and address of `store`, each beside its controls.

    `targets` are the values after each step by default. `seeds` are the problem splits (3 means 0, 1 and 2).
    `random_init` is a store of the same problems made by an untrained twin. Raises `UsageError` on unknown
    targets, places, addresses or controls, and when no target has enough rows.
    """
    names = ladder.chosen(controls if isinstance(controls, str) else list(controls))
    splits = list(range(checked_count("seeds", seeds))) if isinstance(seeds, int) else [checked_seed(s) for s in seeds]
    targets = list(targets) if targets else value_targets(store)
    where = [store.address(a) for a in addresses] if addresses else store.addresses
    if random_init is not None and not _same_problems(random_init, store):
        raise StoreError("the untrained twin's store holds other traces than this one; capture the same problems.")
    run = _Run(store, names, splits, random_init)
    wanted = list(places) if places else [p for p in store.places if p != "question"]
    for number, place in enumerate(wanted):
        for block in run.blocks(place, targets):
            for address in where:
                run.probe(place, block, address)
            run.substitutes(place, block)
        if progress:
            progress(number + 1, len(wanted))
    return run.result()


def _same_problems(one: Store, other: Store) -> bool:
    return [t.problem.id for t in one.traces] == [t.problem.id for t in other.traces]


class _Run:
    """One sweep under way: fitted cells, and the controls that many cells share."""

    def __init__(self, store: Store, names: Sequence[str], splits: Sequence[int], twin: Store | None) -> None:
        self.store, self.names, self.splits, self.twin = store, names, splits, twin
        self.cells: dict[tuple[str, str, str], _Tested] = {}
        self.shared: dict[tuple[str, str], dict[str, float]] = {}
        self.why_not: dict[str, dict[str, str]] = {}
        self.left_out: list[dict[str, Any]] = []
        self._splits: dict[tuple[int, int], Masks] = {}
        self._question: dict[tuple[str, int, int], float] = {}

    def blocks(self, place: str, targets: Sequence[str]) -> list[_Block]:
        """The targets with enough rows and more than one label at this place, by the rows they share."""
        rows = self.store.rows(place=place).reset_index(drop=True)
        found: dict[bytes, tuple[np.ndarray, dict[str, np.ndarray]]] = {}
        for target in targets:
            given = labels(self.store, rows, target)
            defined = np.array([label is not None for label in given], dtype=bool)
            if defined.sum() < _MIN_ROWS or len(set(given[defined])) < 2:
                self.left_out.append({"target": target, "place": place, "rows": int(defined.sum())})
                continue
            _, of_target = found.setdefault(defined.tobytes(), (defined, {}))
            of_target[target] = given[defined].astype(str)
        blocks = []
        for defined, of_target in found.values():
            part = rows[defined].reset_index(drop=True)
            groups = structures(self.store, part)
            blocks.append(_Block(part, groups, of_target, {seed: self._split(groups, seed) for seed in self.splits}))
        return blocks

    def _split(self, groups: np.ndarray, seed: int) -> Masks:
        key = (seed, hash(groups.tobytes()))
        if key not in self._splits:
            self._splits[key] = grouped_split(groups, seed)
        return self._splits[key]

    def probe(self, place: str, block: _Block, address: Address) -> None:
        acts = self.store.acts(address, block.rows)
        twin = self._twin(place, block, address)
        for seed in self.splits:
            split = block.splits[seed]
            read, val = _solve(acts, block, split, seed, shuffle="shuffled_labels" in self.names)
            fresh = _solve(twin, block, split, seed)[0] if twin is not None else None
            part = np.where(split.train, 0, np.where(split.val, 1, 2))
            donors = other_problem(np.zeros(len(part)), block.groups, part, seed)
            for target, gold in block.targets.items():
                cell = self.cells.setdefault((target, place, address.name), _Tested())
                cell.gold.append(gold[split.test])
                cell.groups.append(block.groups[split.test])
                cell.read.append(read[target][split.test])
                cell.val.append(val[target])
                cell.n_val += int(split.val.sum())
                note = cell.control.setdefault
                if "shuffled_labels" in self.names:
                    copies = [read[f"{target} shuffled {k}"][split.test] == gold[split.test] for k in range(_SHUFFLES)]
                    note("shuffled_labels", []).append(np.mean(copies))
                if "other_problem" in self.names:
                    right = read[target][donors][split.test] == gold[split.test]
                    note("other_problem", []).append(right.mean())
                if fresh is not None:
                    note("random_init", []).append((fresh[target][split.test] == gold[split.test]).mean())

    def _twin(self, place: str, block: _Block, address: Address) -> np.ndarray | None:
        if "random_init" not in self.names:
            return None
        substitute = ladder.random_init(block.rows, address.name, self.twin)
        if not substitute.inputs:
            self.why_not.setdefault("random_init", {})[place] = substitute.why_not
            return None
        return substitute.inputs[address.name]

    def substitutes(self, place: str, block: _Block) -> None:
        """The controls that do not depend on the address: they are computed once for a place and target."""
        scores: dict[str, dict[str, float]] = {target: {} for target in block.targets}
        if "majority" in self.names:
            for target, gold in block.targets.items():
                scores[target]["majority"] = float(
                    np.mean([_majority(gold, block.splits[seed]) for seed in self.splits])
                )
        if "question_only" in self.names:
            self._add(scores, "question_only", self._question_only(block))
        for name, make in (("position_only", ladder.position_only), ("text_only", ladder.text_only)):
            if name in self.names:
                substitute = make(self.store, block.rows)
                if substitute.inputs:
                    self._add(scores, name, self._best_of(substitute, block))
                else:
                    self.why_not.setdefault(name, {})[place] = substitute.why_not
        for target, found in scores.items():
            self.shared[target, place] = found

    @staticmethod
    def _add(scores: dict[str, dict[str, float]], name: str, found: dict[str, float]) -> None:
        for target, score in found.items():
            scores[target][name] = score

    def _reason(self, found: dict[str, str]) -> str:
        """Why a control is missing, with the places where it is unless that is all of them."""
        reasons: dict[str, list[str]] = {}
        for place, why in found.items():
            reasons.setdefault(why, []).append(place)
        swept = {place for _, place, _ in self.cells}
        return "; ".join(
            why if set(places) == swept else f"{why} (at {', '.join(places)})" for why, places in reasons.items()
        )

    def _question_only(self, block: _Block) -> dict[str, float]:
        """The same for every place that has the same problems, so it is kept."""
        traces = hash(tuple(block.rows["trace"]))
        missing = {t: g for t, g in block.targets.items() if (t, traces, hash(g.tobytes())) not in self._question}
        if missing:
            substitute = ladder.question_only(self.store, block.rows)
            scores = self._best_of(substitute, replace(block, targets=missing))
            for target, score in scores.items():
                self._question[target, traces, hash(missing[target].tobytes())] = score
        return {t: self._question[t, traces, hash(g.tobytes())] for t, g in block.targets.items()}

    def _best_of(self, substitute: ladder.Substitute, block: _Block) -> dict[str, float]:
        """Test accuracy with the input that is best on validation, averaged over the splits."""
        collected: dict[str, list[float]] = {target: [] for target in block.targets}
        for seed in self.splits:
            split = block.splits[seed]
            tried = [_solve(inputs, block, split, seed) for inputs in substitute.inputs.values()]
            for target, gold in block.targets.items():
                read, _ = max(tried, key=lambda result: result[1][target])
                collected[target].append(float((read[target][split.test] == gold[split.test]).mean()))
        return {target: float(np.mean(scores)) for target, scores in collected.items()}

    def result(self) -> Sweep:
        rows = []
        for (target, place, name), cell in self.cells.items():
            address = Address(name)
            gold, groups, read = (np.concatenate(c) for c in (cell.gold, cell.groups, cell.read))
            low, high = grouped_mean_interval(read == gold, groups)
            _, once = np.unique(groups, return_index=True)
            rows.append(
                {
                    "target": target,
                    "place": place,
                    "address": name,
                    "layer": address.layer,
                    "label": address.label,
                    "depth": min(address.depth, 1e6),
                    "accuracy": float((read == gold).mean()),
                    "ci_low": low,
                    "ci_high": high,
                    "val_accuracy": float(np.mean(cell.val)),
                    **{control: float("nan") for control in self.names},
                    **self.shared.get((target, place), {}),
                    **{control: float(np.mean(values)) for control, values in cell.control.items()},
                    "n_val": cell.n_val,
                    "p": matches_p_value(read[once], gold[once]),
                    "n": len(once),
                    "n_classes": len(set(gold)),
                }
            )
        if not rows:
            raise UsageError(
                f"no target has {_MIN_ROWS} rows with two or more labels anywhere in this store. Capture more problems."
            )
        frame = pd.DataFrame(rows)
        frame["q"] = q_values(frame["p"].to_numpy())
        notes = {
            "splits": list(self.splits),
            "controls": {name: ladder.CONTROLS[name] for name in self.names},
            "why_not": {name: self._reason(found) for name, found in self.why_not.items()},
            "left_out": self.left_out,
            "left_out_rule": f"fewer than {_MIN_ROWS} rows, or a single label",
            "store": str(self.store.path),
            "config_hash": self.store.meta["config_hash"],
        }
        return Sweep(frame, notes)


def _solve(
    inputs: np.ndarray, block: _Block, split: Masks, seed: int, *, shuffle: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Predictions on all rows for each target of the block (and its shuffled copies), and validation accuracies."""
    rng = np.random.default_rng(seed)
    columns: list[np.ndarray] = []
    names: list[tuple[str, np.ndarray]] = []
    for target, gold in block.targets.items():
        classes = np.unique(gold[split.train])
        trained = one_hot(gold[split.train], classes)
        names.append((target, classes))
        columns.append(trained)
        for k in range(_SHUFFLES if shuffle else 0):
            names.append((f"{target} shuffled {k}", classes))
            columns.append(trained[rng.permutation(len(trained))])
    scores = fit_ridge(inputs[split.train], columns).predict(inputs)
    read, edge = {}, 0
    for name, classes in names:
        read[name] = classes[scores[:, edge : edge + len(classes)].argmax(axis=1)]
        edge += len(classes)
    val = {t: float((read[t][split.val] == gold[split.val]).mean()) for t, gold in block.targets.items()}
    return read, val


def _majority(gold: np.ndarray, split: Masks) -> float:
    values, counts = np.unique(gold[split.train], return_counts=True)
    return float((gold[split.test] == values[counts.argmax()]).mean())
