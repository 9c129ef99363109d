"""`cotlens bench decoders`: every decoder on every organism with latents, in one table, and the measures of its group.

A unit is one organism of one training seed, or one transfer of decoders between two. Shipped organisms (seed 0) get
every decoder. Those of other seeds, from `--organisms FOLDER`, get the three from which the best is selected on
validation problems. Missing organisms are noted. A part is one organism of all available seeds, or the transfers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import interp
from benchmarks.decoders import lenses
from benchmarks.decoders.measures import ORGANISMS, SOLVED, figures
from benchmarks.decoders.transfer import Transfer, source_of, transfers
from benchmarks.harness import keep, kept_result
from benchmarks.measures import report
from benchmarks.parts import check_parts
from interp.activations import ActivationSource
from interp.activations.targets import structures
from interp.causal.evaluation import Evaluation, evaluate
from interp.decoders.evaluation.lens_divergence import lens_divergences, position_transfer
from interp.decoders.evaluation.scores import COVERAGE
from interp.decoders.tuned_lens import TunedLens
from interp.errors import CotlensError, UsageError
from interp.organisms.catalog import CARD_NAME, card, is_current
from interp.runtime.console import Bars, jsonable
from interp.runtime.engines import executor
from interp.statistics.calibration import abstention, calibration_error, threshold_for
from interp.statistics.intervals import grouped_mean_interval
from interp.statistics.splits import grouped_split

SEED, N, SPLITS = 71, 2500, (0, 1)
TRAINING_SEEDS = (0, 1, 2)
# Substitutes for seeds that do not learn their task; they are optional.
FURTHER_SEEDS = (3, 4)
RACE = ("probe", "logit_lens", "neighbours")
MORE = ("tuned_lens", "nearest_token", "nearest_text", "step_embedding", "continuation", "sae", "oracle", "verbalizer")
TRANSFER = "transfer"
PARTS = (*ORGANISMS, TRANSFER)
# These keep the bench within a quarter of an hour on two cores. Updates take several times as long on long questions.
UPDATES, ORACLE_UPDATES = 700, 300
# A graph's nodes are learned after few updates; texts of four words over five thoughts need many.
VERBALIZED = {"graph-coconut": 300, "variables-coconut": 1500}


@dataclass(frozen=True)
class Unit:
    """One organism of one training seed, what loads it, its decoders and its number of problems."""

    name: str
    seed: int
    source: str
    methods: tuple[str, ...]
    n: int

    @property
    def label(self) -> str:
        """Name and training seed."""
        return f"{self.name}, seed {self.seed}"


def bench(
    bars: Bars,
    *,
    organisms: Path | None = None,
    parts: Sequence[str] = (),
    quick: bool = False,
    workers: int | None = None,
) -> dict[str, Any]:
    """Measure all available organisms, each in its own process, and keep the result.

    Args:
        bars: Progress bars.
        organisms: Folder of organisms of further training seeds, or None.
        parts: Names of organisms, and `transfer`; all by default. What was kept of the others stays, and so does an
            organism of a training seed that is not in the folder.
        quick: Leave out slow decoders and most problems. The result is not kept then.
        workers: Number of processes; by default one for each core.

    Returns:
        The result.

    Raises:
        UsageError: A part is not known, or no organism is available.
    """
    check_parts(parts, PARTS)
    units, missing = _units(organisms, [name for name in parts or ORGANISMS if name != TRANSFER], quick)
    pairs = [] if quick or (parts and TRANSFER not in parts) else transfers(organisms)
    if not units and not pairs:
        raise UsageError(
            f"expected organisms, got none of {', '.join(missing)}; train them, or give --organisms FOLDER."
        )
    before = kept_result("decoders") if parts and not quick else {}
    began = time.perf_counter()
    results: dict[int, dict[str, Any]] = {}
    with bars.stage(f"decoding the thoughts of {len(units)} organisms") as step:
        step(0, len(units) + len(pairs))
        work: list[Unit | Transfer] = [*units, *pairs]
        for number, result in executor("process", workers).map(measure, work):
            results[number] = result
            step(len(results), len(units) + len(pairs))
    kept = _not_measured_again(before, units)
    missing = [name for name in missing if name not in {f"{of['organism']} seed {of['seed']}" for of in kept}]
    ordered = sorted([*(results[number] for number in range(len(units))), *kept], key=_order)
    solving = [result for result in ordered if "error" not in result and result["accuracy"] >= SOLVED]
    measures = report("decoders", figures(ordered, missing)) + report("lenses", lenses.figures(solving))
    details = {"organisms": ordered, "missing": missing, "seconds": time.perf_counter() - began}
    if quick:
        return {"schema_version": 1, "name": "decoders", "measures": measures, **details}
    moved = [results[len(units) + k] for k in range(len(pairs))] if pairs else before.get(TRANSFER, [])
    return keep("decoders", measures, **details, transfer=moved)


def _not_measured_again(before: dict[str, Any], units: Sequence[Unit]) -> list[dict[str, Any]]:
    """Return the kept results of organisms that are not among the units."""
    again = {(unit.name, unit.seed) for unit in units}
    return [result for result in before.get("organisms", []) if (result["organism"], result["seed"]) not in again]


def _order(result: dict[str, Any]) -> tuple[int, int]:
    """Return the sort key of a result: seed, then the order of `ORGANISMS`."""
    return result["seed"], list(ORGANISMS).index(result["organism"])


def _units(folder: Path | None, names: Sequence[str], quick: bool) -> tuple[list[Unit], list[str]]:
    """Return the available units and the missing organisms. Slow units come first, so that none runs alone at the end."""
    units, missing = [], []
    for seed in TRAINING_SEEDS + FURTHER_SEEDS:
        for name in reversed(names):
            source = source_of(folder, name, seed)
            if source is None:
                missing += [f"{name} seed {seed}"] if seed in TRAINING_SEEDS else []
                continue
            methods = RACE if seed or quick else (*RACE, *MORE)
            units.append(Unit(name, seed, source, methods, 600 if quick else N))
    return units, missing


def measure(unit: Unit | Transfer) -> dict[str, Any]:
    """Return the result of one organism or one transfer as plain values; it has an `error` if it cannot be measured."""
    return unit.measure() if isinstance(unit, Transfer) else _organism(unit)


def _organism(unit: Unit) -> dict[str, Any]:
    """Return the result of one organism."""
    seconds: dict[str, float] = {}

    def timed(stage: str, run: Callable[[], Any]) -> Any:
        began = time.process_time()
        result = run()
        seconds[stage] = time.process_time() - began
        return result

    try:
        reasoner = interp.load(unit.source)
        problems = reasoner.task.generate(unit.n, seed=SEED, split="test")
        traces = timed("think", lambda: reasoner.think(problems, batch_size=256))
        store = timed("capture", lambda: interp.record(reasoner, traces, channels=["latent", "special"]))
        race = timed("race", lambda: evaluate(store, RACE, reasoner=reasoner, seeds=SPLITS, causal=False))
        rest = [method for method in unit.methods if method not in RACE]
        settings = {
            "verbalizer": {"updates": VERBALIZED.get(unit.name, UPDATES)},
            "oracle": {"updates": ORACLE_UPDATES},
        }
        # The probe is included because slow decoders read where it reads best.
        wide = (
            timed("rest", lambda: evaluate(store, ["probe", *rest], reasoner=reasoner, edits=120, settings=settings))
            if rest
            else None
        )
        read = timed("lenses", lambda: _lenses(reasoner, store)) if rest else {"lenses": [], "lens_transfer": []}
        swapped = timed("keys and values", lambda: lenses.kv_rows(reasoner, traces))
        found = {"kind": reasoner.config.kind, "kv": swapped, "cpu_seconds": seconds, "settings": settings}
        found["current_recipe"] = _has_current_recipe(unit)
        return jsonable(_result(unit, traces.accuracy, race, wide) | read | found)
    except CotlensError as error:
        return {"organism": unit.name, "seed": unit.seed, "error": str(error).replace(unit.source, unit.label)}


def _has_current_recipe(unit: Unit) -> bool | None:
    """Return whether an organism was trained by its present recipe; None where it has no card."""
    if unit.source == unit.name:
        return is_current(card(unit.name))
    path = Path(unit.source) / CARD_NAME
    return is_current(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _result(unit: Unit, accuracy: float, race: Evaluation, wide: Evaluation | None) -> dict[str, Any]:
    """Return the evaluations of one organism as plain values."""
    best = best_method(race)
    tables = {"scores": [race.table()], "costs": [race.costs()], "causal": [], "search": []}
    if wide is not None:
        tables["scores"].append(wide.table()[wide.table()["method"] != "probe"])
        tables["costs"].append(wide.costs()[wide.costs()["method"] != "probe"])
        tables |= {"causal": [wide.causal], "search": [wide.searched]}
    return {
        "organism": unit.name,
        "seed": unit.seed,
        "accuracy": accuracy,
        "best": best,
        "calibration": calibration(race, best),
        **{name: pd.concat(parts).to_dict("records") if parts else [] for name, parts in tables.items()},
    }


def best_method(evaluation: Evaluation) -> str:
    """Return the method whose worst step is read best on the validation problems of all splits."""

    def worst(method: str) -> float:
        steps: dict[int, list[tuple[float, int]]] = {}
        for read in evaluation.readouts:
            for step, share in read.methods[method].validation.items():
                steps.setdefault(step, []).append(share)
        return min(sum(p * n for p, n in shares) / sum(n for _, n in shares) for shares in steps.values())

    return max(RACE, key=worst)


def calibration(evaluation: Evaluation, method: str) -> dict[str, Any]:
    """Return ECE and confabulation at 90 % coverage, averaged over the splits; the threshold comes from validation.

    `raw_` figures use the decoder's uncalibrated scores. `model_wrong` is the fraction of wrong read-outs that belong to
    problems which the reasoner answered wrong. There the decoder may well have read the thought correctly.
    """
    rows: list[dict[str, float]] = []
    answered = []
    for read in evaluation.readouts:
        table = read.of(method).assign(raw=lambda frame: [scores[0] for scores in frame["scores"]])
        val, test = table[table["split"] == "val"], table[table["split"] == "test"]
        row: dict[str, float] = {}
        for prefix, column in (("", "confidence"), ("raw_", "raw")):
            threshold = threshold_for(val[column].to_numpy(), COVERAGE)
            confidence, right = test[column].to_numpy(), test["right"].to_numpy()
            answers = abstention(confidence, right, threshold)
            row |= {f"{prefix}confabulation": answers["confabulation"], f"{prefix}coverage": answers["coverage"]}
            row[f"{prefix}ece"] = calibration_error(confidence, right)
            if column == "confidence":
                answered.append(test[confidence >= threshold])
        rows.append(row)
    kept = pd.concat(answered)
    wrong = kept[~kept["right"].astype(bool)]
    traces = evaluation.readouts[0].store.traces
    return {
        **pd.DataFrame(rows).mean().to_dict(),
        "confabulation_ci": list(grouped_mean_interval(~kept["right"].to_numpy(bool), kept["structure"].to_numpy())),
        "model_wrong": float(np.mean([not traces[t].correct for t in wrong["trace"]])) if len(wrong) else None,
        "n": len(kept),
    }


def _lenses(reasoner: interp.Reasoner, store: ActivationSource) -> dict[str, Any]:
    """Return the KL of both lenses at every address on held-out problems, and the transfer of a lens between channels."""
    split = grouped_split(structures(store, store.index), 0)
    train, test = store.index[split.train], store.index[split.test]
    lens = TunedLens(reasoner)
    for address in store.addresses:
        lens.fit_rows(store, address, train)
    middle = store.addresses[len(store.addresses) // 2]
    moved = position_transfer(store, reasoner, middle, train, test)
    return {
        "lenses": lens_divergences(store, lens, test).to_dict("records"),
        "lens_transfer": moved.assign(address=middle.name).to_dict("records"),
    }
