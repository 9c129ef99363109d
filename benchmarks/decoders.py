"""`cotlens bench decoders`: every decoder on every organism that has latents, in one table, and the figures of its group.

One unit is one organism of one training seed. The shipped ones (seed 0) get every decoder; those of other seeds, from
`--organisms FOLDER`, the quick ones. Which decoder is best is decided on validation problems. What is not there is noted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import interp
from benchmarks.harness import keep
from interp.console import Bars, plain
from interp.decoders.calibration import abstaining, calibration_error, threshold_for
from interp.decoders.scores import COVERAGE
from interp.decoders.tuned_lens import TunedLens, lens_divergences, position_transfer
from interp.errors import CotlensError, UsageError, unknown
from interp.evaluation import Evaluation, evaluate
from interp.executors import executor
from interp.measures import report
from interp.organisms.catalog import shipped
from interp.splits import grouped_split
from interp.stats import grouped_mean_interval
from interp.targets import structures

SEED, N, SPLITS = 71, 2500, (0, 1, 2)
# organism -> the figure that it belongs to
ORGANISMS = {
    "chain-coconut": "chain",
    "chain3-thinking-tokens": "chain",
    "chain31-coconut": "chain",
    "chain-coconut-hard": "hard",
    "graph-coconut": "other",
    "variables-coconut": "other",
}
TRAINING_SEEDS = (0, 1, 2)
RACE = ("probe", "logit_lens", "neighbours")
MORE = ("tuned_lens", "nearest_token", "nearest_text", "step_embedding", "continuation", "sae", "verbalizer", "oracle")
# Says each step's text from the question and the latent, so its own question-only twin stands beside it.
VERBALIZER = "verbalizer"


@dataclass(frozen=True)
class Unit:
    """One organism of one training seed; `folder` holds those that are not shipped."""

    name: str
    seed: int
    folder: str | None
    methods: tuple[str, ...]
    n: int

    @property
    def source(self) -> str:
        return self.name if self.folder is None else str(Path(self.folder) / f"{self.name}-seed{self.seed}")

    @property
    def label(self) -> str:
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
    found: dict[int, dict[str, Any]] = {}
    with bars.stage(f"decoding the thoughts of {len(units)} organisms") as step:
        step(0, len(units))
        for number, result in executor("process", workers).map(measure, units):
            found[number] = result
            step(len(found), len(units))
    results = [found[number] for number in sorted(found)]
    measures = report("decoders", _measures(results, missing))
    more = {"organisms": results, "missing": missing}
    if quick or only:
        return {"schema_version": 1, "name": "decoders", "measures": measures, **more}
    return keep("decoders", measures, **more)


def _units(folder: Path | None, only: str | None, quick: bool) -> tuple[list[Unit], list[str]]:
    units, missing = [], []
    for seed in TRAINING_SEEDS:
        for name in [only] if only else ORGANISMS:
            there = name in shipped() if seed == 0 else folder is not None and (folder / f"{name}-seed{seed}").is_dir()
            if there:
                methods = RACE if seed or quick else (*RACE, *MORE)
                units.append(Unit(name, seed, None if seed == 0 else str(folder), methods, 600 if quick else N))
            else:
                missing.append(f"{name} seed {seed}")
    return units, missing


def measure(unit: Unit) -> dict[str, Any]:
    """Everything about one organism, as plain values; an organism that cannot be measured has an `error`."""
    try:
        reasoner = interp.load(unit.source)
        problems = reasoner.task.generate(unit.n, seed=SEED, split="test")
        traces = reasoner.think(problems, batch_size=256)
        with tempfile.TemporaryDirectory() as folder:
            store = interp.capture(reasoner, traces, channels=["latent", "special"], out=Path(folder) / "store")
            race = evaluate(store, RACE, reasoner=reasoner, seeds=SPLITS, causal=False)
            rest = [method for method in unit.methods if method not in RACE]
            wide = evaluate(store, ["probe", *rest], reasoner=reasoner, causal=bool(rest), edits=300)
            return plain(_found(unit, traces.accuracy, race, wide) | _lenses(reasoner, store, bool(rest)))
    except CotlensError as error:
        return {"organism": unit.name, "seed": unit.seed, "error": str(error).replace(unit.source, unit.label)}


def _found(unit: Unit, accuracy: float, race: Evaluation, wide: Evaluation) -> dict[str, Any]:
    best = best_method(race)
    table = pd.concat([race.table(), wide.table()[wide.table()["method"] != "probe"]])
    quality = calibration(race, best)
    tables = {
        "scores": table,
        "costs": pd.concat([race.costs(), wide.costs()]).drop_duplicates("method"),
        "causal": wide.causal,
        "search": wide.searched,
    }
    return {
        "organism": unit.name,
        "seed": unit.seed,
        "accuracy": accuracy,
        "best": best,
        "calibration": quality,
        **{name: frame.to_dict("records") for name, frame in tables.items()},
    }


def best_method(found: Evaluation) -> str:
    """The method whose worst step is read best on the validation problems of all splits."""

    def worst(method: str) -> float:
        steps: dict[int, list[tuple[float, int]]] = {}
        for read in found.readouts:
            for step, share in read.validation[method].items():
                steps.setdefault(step, []).append(share)
        return min(sum(p * n for p, n in each) / sum(n for _, n in each) for each in steps.values())

    return max(RACE, key=worst)


def calibration(found: Evaluation, method: str) -> dict[str, Any]:
    """ECE and confabulation at 90 % coverage, the threshold from validation, averaged over the splits."""
    errors, wrong, covered = [], [], []
    for read in found.readouts:
        table = read.of(method)
        val, test = table[table["split"] == "val"], table[table["split"] == "test"]
        threshold = threshold_for(val["confidence"].to_numpy(), COVERAGE)
        confidence, right = test["confidence"].to_numpy(), test["right"].to_numpy()
        errors.append(calibration_error(confidence, right))
        said = abstaining(confidence, right, threshold)
        wrong.append(said["confabulation"])
        covered.append(said["coverage"])
    table = pd.concat([read.of(method) for read in found.readouts])
    test = table[table["split"] == "test"]
    answered = test[test["confidence"] >= threshold_for(test["confidence"].to_numpy(), COVERAGE)]
    ci = grouped_mean_interval(~answered["right"].to_numpy(), answered["structure"].to_numpy())
    return {
        "ece": float(np.mean(errors)),
        "confabulation": float(np.mean(wrong)),
        "confabulation_ci": list(ci),
        "coverage": float(np.mean(covered)),
        "n": len(test),
    }


def _lenses(reasoner: interp.Reasoner, store: interp.Store, wanted: bool) -> dict[str, Any]:
    """KL of both lenses at every address on held-out problems, and a translator taken between kinds of positions."""
    if not wanted:
        return {"lenses": [], "lens_transfer": []}
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


def _measures(results: Sequence[dict[str, Any]], missing: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The group's figures, each the worst over the organisms that were measured."""
    whole = [each for each in results if "error" not in each]
    absent = [
        *missing,
        *(f"{each['organism']} seed {each['seed']} ({each['error']})" for each in results if "error" in each),
    ]
    taken = {}
    for figure, group in (("chain_exact_min", "chain"), ("other_exact_min", "other"), ("hard_exact_min", "hard")):
        of_group = [each for each in whole if ORGANISMS[each["organism"]] == group]
        taken[f"decoders.{figure}"] = _exact(of_group, [m for m in absent if ORGANISMS[m.split(" seed")[0]] == group])
    taken["decoders.control_above_chance_max"] = _controls(whole)
    taken["decoders.verbalizer_exact"] = _verbalizer(whole)
    taken |= _calibrations(whole)
    taken["decoders.tuned_below_logit"] = _tuned(whole)
    return taken


def _steps(each: dict[str, Any], method: str) -> list[dict[str, Any]]:
    return [row for row in each["scores"] if row["method"] == method and row["step"] > 0]


def _exact(results: Sequence[dict[str, Any]], absent: Sequence[str]) -> dict[str, Any]:
    if not results:
        return {"value": None, "note": f"not there: {', '.join(absent)}"}
    worst = [(min(_steps(each, each["best"]), key=lambda row: row["top1"]), each) for each in results]
    cell, _ = min(worst, key=lambda pair: pair[0]["top1"])
    said = "; ".join(
        f"{each['organism']} seed {each['seed']}: {row['top1']:.3f} (step {row['step']}, {each['best']}, {row['site']}; "
        f"answers right {each['accuracy']:.3f})"
        for row, each in worst
    )
    gone = f"; not there: {', '.join(absent)}" if absent else ""
    return {"value": cell["top1"], "ci": [cell["ci_low"], cell["ci_high"]], "n": cell["n"], "note": said + gone}


def _controls(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The worst of question-only and other-problem over chance, and what the state before any thinking holds, beside it."""
    if not results:
        return {"value": None, "note": "no organism was measured"}
    cells = [(row, each) for each in results for row in _steps(each, each["best"])]

    def above(row: dict[str, Any]) -> float:
        return max(row["question_only"], row["other_problem"]) - row["chance"]

    row, each = max(cells, key=lambda cell: above(cell[0]))
    before, where = max(cells, key=lambda cell: cell[0]["before_thinking"] - cell[0]["chance"])
    return {
        "value": above(row),
        "n": row["n"],
        "note": f"{each['organism']} seed {each['seed']}, step {row['step']}: question's words {row['question_only']:.3f}, "
        f"another problem {row['other_problem']:.3f}, chance {row['chance']:.3f}. Not a control, because the model has begun "
        f"to compute there: the last state of the question holds up to {before['before_thinking']:.3f} "
        f"({where['organism']} seed {where['seed']}, step {before['step']})",
    }


def _verbalizer(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    read = [
        (row, each) for each in results for row in _steps(each, VERBALIZER) if ORGANISMS[each["organism"]] == "chain"
    ]
    if not read:
        return {"value": None, "note": "no chain organism of seed 0 was measured with the verbalizer"}
    row, _ = min(read, key=lambda cell: cell[0]["top1"])
    by_step = "; ".join(
        f"{each['organism']} step {cell['step']}: {cell['top1']:.3f}, question only {cell['question_only']:.3f}"
        for cell, each in read
    )
    return {
        "value": row["top1"],
        "ci": [row["ci_low"], row["ci_high"]],
        "n": row["n"],
        "note": f"worst step, seed 0. {by_step}. An early step follows from the question, so only later ones can stand above it",
    }


def _calibrations(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    if not results:
        return {}
    ece = max(results, key=lambda each: each["calibration"]["ece"])
    wrong = max(results, key=lambda each: each["calibration"]["confabulation"])
    found = wrong["calibration"]
    return {
        "decoders.ece": {
            "value": ece["calibration"]["ece"],
            "n": ece["calibration"]["n"],
            "note": f"the largest: {ece['organism']} seed {ece['seed']}, {ece['best']}; median "
            f"{np.median([each['calibration']['ece'] for each in results]):.3f} of {len(results)}",
        },
        "decoders.confabulation_at_90": {
            "value": found["confabulation"],
            "ci": found["confabulation_ci"],
            "n": found["n"],
            "note": f"the largest: {wrong['organism']} seed {wrong['seed']}, {wrong['best']}, coverage {found['coverage']:.3f}; "
            f"median {np.median([each['calibration']['confabulation'] for each in results]):.4f} of {len(results)}",
        },
    }


def _tuned(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Layers at which there is something to translate; at the last one both lenses are the model."""
    rows = [(row, each) for each in results for row in each["lenses"]]
    early = [(row, each) for row, each in rows if max(row["logit_lens"], row["tuned_lens"]) > 1e-6]
    if not early:
        return {"value": None, "note": "no lens was measured"}
    below = [row["tuned_lens"] < row["logit_lens"] for row, _ in early]
    last = max((row["tuned_lens"] for row, _ in rows if row["address"] == "ln_final.hook_out"), default=float("nan"))
    said = "; ".join(
        f"{each['organism']} {row['address']}: {row['tuned_lens']:.2f} against {row['logit_lens']:.2f}"
        for row, each in early
    )
    return {"value": float(np.mean(below)), "n": len(early), "note": f"KL in nats, last layer {last:.1e}; {said}"}
