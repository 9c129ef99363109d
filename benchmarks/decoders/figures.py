"""`cotlens bench decoders`: every decoder on every organism with latents, in one table, and the figures of its group.

One unit is one organism of one training seed, or one pair of them between which decoders are taken. The shipped ones
(seed 0) get every decoder; those of other seeds, from `--organisms FOLDER`, the three that compete to be the best. Which
one is best is decided on validation problems. What is not there is noted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import interp
from benchmarks.decoders.measures import ORGANISMS, figures
from benchmarks.decoders.transfer import Taken, journeys, source_of
from benchmarks.harness import keep
from benchmarks.measures import report
from interp.activations import ActivationSource
from interp.activations.targets import structures
from interp.causal.evaluation import Evaluation, evaluate
from interp.decoders.evaluation.lens_divergence import lens_divergences, position_transfer
from interp.decoders.evaluation.scores import COVERAGE
from interp.decoders.tuned_lens import TunedLens
from interp.errors import CotlensError, UsageError, unknown
from interp.runtime.console import Bars, jsonable
from interp.runtime.engines import executor
from interp.statistics.calibration import abstaining, calibration_error, threshold_for
from interp.statistics.intervals import grouped_mean_interval
from interp.statistics.splits import grouped_split

SEED, N, SPLITS = 71, 2500, (0, 1)
TRAINING_SEEDS = (0, 1, 2)
# Where one of those does not learn its task, a further one may stand for it; it is not missed where it is not there.
FURTHER_SEEDS = (3, 4)
RACE = ("probe", "logit_lens", "neighbours")
MORE = ("tuned_lens", "nearest_token", "nearest_text", "step_embedding", "continuation", "sae", "oracle", "verbalizer")
# So that the bench stays within a quarter of an hour on two cores: where questions are long, each update takes several times as long.
UPDATES, ORACLE_UPDATES = 700, 300
# A graph's nodes are said after few; texts of four words over five thoughts take long.
VERBALIZED = {"graph-coconut": 300, "variables-coconut": 1500}


@dataclass(frozen=True)
class Unit:
    """One organism of one training seed, and what loads it."""

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
    only: str | None = None,
    quick: bool = False,
    workers: int | None = None,
) -> dict[str, Any]:
    """Measure all organisms that are there, in processes of their own, and keep what was found.

    `only` is one organism by name, `quick` leaves the slow decoders and most problems out (a try, not kept).
    """
    if only is not None and only not in ORGANISMS:
        raise unknown("organism of this bench", only, ORGANISMS)
    units, missing = _units(organisms, only, quick)
    if not units:
        raise UsageError(
            f"none of the organisms is there: {', '.join(missing)}. Train them, or give --organisms FOLDER."
        )
    taken = [] if quick or only else journeys(organisms)
    began = time.perf_counter()
    found: dict[int, dict[str, Any]] = {}
    with bars.stage(f"decoding the thoughts of {len(units)} organisms") as step:
        step(0, len(units) + len(taken))
        work: list[Unit | Taken] = [*units, *taken]
        for number, result in executor("process", workers).map(measure, work):
            found[number] = result
            step(len(found), len(units) + len(taken))
    results = sorted((found[number] for number in range(len(units))), key=_place)
    measures = report("decoders", figures(results, missing))
    more = {"organisms": results, "missing": missing, "seconds": time.perf_counter() - began}
    if quick or only:
        return {"schema_version": 1, "name": "decoders", "measures": measures, **more}
    return keep("decoders", measures, **more, transfer=[found[len(units) + k] for k in range(len(taken))])


def _place(result: dict[str, Any]) -> tuple[int, int]:
    return result["seed"], list(ORGANISMS).index(result["organism"])


def _units(folder: Path | None, only: str | None, quick: bool) -> tuple[list[Unit], list[str]]:
    """The slow ones first, so that no worker is left alone with one at the end."""
    units, missing = [], []
    for seed in TRAINING_SEEDS + FURTHER_SEEDS:
        for name in [only] if only else reversed(ORGANISMS):
            source = source_of(folder, name, seed)
            if source is None:
                missing += [f"{name} seed {seed}"] if seed in TRAINING_SEEDS else []
                continue
            methods = RACE if seed or quick else (*RACE, *MORE)
            units.append(Unit(name, seed, source, methods, 600 if quick else N))
    return units, missing


def measure(unit: Unit | Taken) -> dict[str, Any]:
    """Everything about one organism, or one journey, as plain values; what cannot be measured has an `error`."""
    return unit.measure() if isinstance(unit, Taken) else _organism(unit)


def _organism(unit: Unit) -> dict[str, Any]:
    seconds: dict[str, float] = {}

    def timed(stage: str, run: Callable[[], Any]) -> Any:
        began = time.process_time()
        found = run()
        seconds[stage] = time.process_time() - began
        return found

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
        # The probe comes along because slow decoders read where it does.
        wide = (
            timed("rest", lambda: evaluate(store, ["probe", *rest], reasoner=reasoner, edits=120, settings=settings))
            if rest
            else None
        )
        lenses = timed("lenses", lambda: _lenses(reasoner, store)) if rest else {"lenses": [], "lens_transfer": []}
        return jsonable(
            _found(unit, traces.accuracy, race, wide) | lenses | {"cpu_seconds": seconds, "settings": settings}
        )
    except CotlensError as error:
        return {"organism": unit.name, "seed": unit.seed, "error": str(error).replace(unit.source, unit.label)}


def _found(unit: Unit, accuracy: float, race: Evaluation, wide: Evaluation | None) -> dict[str, Any]:
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
        **{name: pd.concat(found).to_dict("records") if found else [] for name, found in tables.items()},
    }


def best_method(found: Evaluation) -> str:
    """The method whose worst step is read best on the validation problems of all splits."""

    def worst(method: str) -> float:
        steps: dict[int, list[tuple[float, int]]] = {}
        for read in found.readouts:
            for step, share in read.methods[method].validation.items():
                steps.setdefault(step, []).append(share)
        return min(sum(p * n for p, n in each) / sum(n for _, n in each) for each in steps.values())

    return max(RACE, key=worst)


def calibration(found: Evaluation, method: str) -> dict[str, Any]:
    """ECE and confabulation at 90 % coverage, the threshold from validation, averaged over the splits.

    `raw_` figures are those of the decoder's own scores. `model_wrong` is the share of the wrong answered read-outs that
    belong to problems whose answer the reasoner itself got wrong: there the decoder may well say what the thought holds.
    """
    rows: list[dict[str, float]] = []
    answered = []
    for read in found.readouts:
        table = read.of(method).assign(raw=lambda each: [scores[0] for scores in each["scores"]])
        val, test = table[table["split"] == "val"], table[table["split"] == "test"]
        row: dict[str, float] = {}
        for prefix, column in (("", "confidence"), ("raw_", "raw")):
            threshold = threshold_for(val[column].to_numpy(), COVERAGE)
            confidence, right = test[column].to_numpy(), test["right"].to_numpy()
            answers = abstaining(confidence, right, threshold)
            row |= {f"{prefix}confabulation": answers["confabulation"], f"{prefix}coverage": answers["coverage"]}
            row[f"{prefix}ece"] = calibration_error(confidence, right)
            if column == "confidence":
                answered.append(test[confidence >= threshold])
        rows.append(row)
    kept = pd.concat(answered)
    wrong = kept[~kept["right"].astype(bool)]
    traces = found.readouts[0].store.traces
    return {
        **pd.DataFrame(rows).mean().to_dict(),
        "confabulation_ci": list(grouped_mean_interval(~kept["right"].to_numpy(bool), kept["structure"].to_numpy())),
        "model_wrong": float(np.mean([not traces[t].correct for t in wrong["trace"]])) if len(wrong) else None,
        "n": len(kept),
    }


def _lenses(reasoner: interp.Reasoner, store: ActivationSource) -> dict[str, Any]:
    """KL of both lenses at every address on held-out problems, and a translator taken between kinds of positions."""
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
