"""`cotlens bench faithfulness`: metrics of faithfulness against the truth, on organisms nobody chose them on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faithfulness.page import LEVELS, faithfulness_table, lines_of, short_table
from benchmarks.faithfulness.rows import OrganismRows, half_faithful, joined, measure_rows
from benchmarks.faithfulness.scoring import Judged, auroc, best_threshold, judge
from benchmarks.harness import RESULTS, keep
from benchmarks.measures import report
from benchmarks.papers.base import Organisms
from interp.causal.metrics.registry import METRICS
from interp.reasoners import Reasoner
from interp.runtime.console import Bars, jsonable
from interp.runtime.files import commit

VALIDATION = ("reasons",)
#: Families of test organisms. A family of several has its faithful and its unfaithful chains in different ones.
TEST: Mapping[str, tuple[str, ...]] = {
    "reasons-five": ("reasons-five",),
    "omitted trigger": ("concealed-trigger", "chain-text"),
}
#: Organisms that use every step they write.
CLEAN = ("chain-text", "chain3-text", "subtext-1")
SIZES = {"quick": 24, "normal": 48}
SEED = 67
CHOSEN = "ours, chosen"

_MEASURE = ("id", "value", "ci", "n", "op", "target", "note")

Scores = Mapping[str, np.ndarray]
_STATE, _KV, _PATH, _AROUND = "state interchange", "K/V interchange", "path patching", "route around the text"
#: What is chosen from on validation organisms: each of our metrics alone, and combinations of them.
#: Ties go to the earlier one. A chain can be unfaithful in two ways: what it writes is not used, or something that it
#: does not write is. The first candidate asks about both.
CANDIDATES: Mapping[str, Callable[[Scores], np.ndarray]] = {
    "smaller of state interchange and route around the text": lambda scores: np.fmin(scores[_STATE], scores[_AROUND]),
    _STATE: lambda scores: scores[_STATE],
    _KV: lambda scores: scores[_KV],
    _PATH: lambda scores: scores[_PATH],
    _AROUND: lambda scores: scores[_AROUND],
    "mean of state interchange and K/V interchange": lambda scores: (scores[_STATE] + scores[_KV]) / 2,
    "largest of state interchange and path patching": lambda scores: np.fmax(scores[_STATE], scores[_PATH]),
}


def bench(bars: Bars, size: str = "normal", folder: Path | None = None) -> dict[str, Any]:
    """Measure the group `faithfulness`.

    Thresholds and the combination are chosen on validation organisms. Test organisms are of another training and another
    number of values, and share no problem with them.

    Args:
        bars: Progress bars.
        size: A key of `SIZES`. Only the result of `normal` is kept.
        folder: Folder of organisms of further training seeds, each in NAME-seedN: of a test organism, each is a family
            of its own; of a validation organism, each is chosen on too.

    Returns:
        The measures, and the table of every metric.
    """
    rows: dict[str, OrganismRows] = {}
    tests = of_every_seed(TEST, folder)
    tested = {label for labels in tests.values() for label in labels}
    for label in dict.fromkeys([*(label for labels in tests.values() for label in labels), *CLEAN]):
        with bars.stage(label) as progress:
            metrics = METRICS if label in tested else [metric for metric in METRICS if not metric.published]
            n = SIZES[size] if "reasons" in label else SIZES[size] // 2
            rows[label] = replace(
                measure_rows(_load(label, folder), metrics, n, SEED, progress=progress), organism=label
            )
    validation = []
    for label in of_every_seed({name: (name,) for name in VALIDATION}, folder):
        with bars.stage(f"{label}, validation") as progress:
            of = measure_rows(_load(label, folder), METRICS, SIZES[size], SEED, split="val", progress=progress)
            validation.append(replace(half_faithful(of, SEED), organism=label))
    chosen = {level: choose(validation, level) for level in LEVELS}
    for of in (*rows.values(), *validation):
        for level in LEVELS:
            of.scores[level][CHOSEN] = CANDIDATES[chosen[level]](of.scores[level])
    thresholds = {level: thresholds_of(validation, level) for level in LEVELS}
    families = [half_faithful(joined(name, [rows[of] for of in names]), SEED) for name, names in tests.items()]
    table = [
        row_of(of, level, metric, judged, chosen[level])
        for of in families
        for level in LEVELS
        for metric, scores in of.scores[level].items()
        if np.isfinite(scores).any()
        if (judged := judge(of.tables[level], scores, thresholds[level][metric])) is not None
    ]
    measures = jsonable({"m": report("faithfulness", measured(table, rows, chosen, thresholds))})["m"]
    details = jsonable(
        {
            "rows": table,
            "chosen": chosen,
            "organisms": [about(of) for of in (*rows.values(), *validation)],
            "seed": SEED,
        }
    )
    if size != "normal":
        return {"name": "faithfulness", "measures": measures, **details, "table": short_table(table)}
    commit(RESULTS / "faithfulness.md", markdown(table, measures, details["organisms"], chosen).encode())
    return {**keep("faithfulness", measures, **details), "table": short_table(table)}


def of_every_seed(families: Mapping[str, tuple[str, ...]], folder: Path | None) -> dict[str, tuple[str, ...]]:
    """Return families of organisms, and for each family of one organism those of its other training seeds in a folder."""
    found = dict(families)
    for names in families.values():
        if len(names) == 1:
            seeds = [f"{names[0]}-seed{of.seed}" for of in Organisms(folder).other_seeds(names)]
            found |= {label: (label,) for label in seeds}
    return found


def _load(label: str, folder: Path | None) -> Reasoner:
    """Return an organism by its name, or by its name and training seed."""
    name, _, seed = label.partition("-seed")
    return Organisms(folder, int(seed or 0)).load(name)


def choose(validation: list[OrganismRows], level: str) -> str:
    """Return the candidate with the highest AUROC on the worst validation organism; ties go to the earlier one."""

    def worst(name: str) -> float:
        return min(
            auroc(of.tables[level]["truth"].to_numpy(int), np.nan_to_num(CANDIDATES[name](of.scores[level])))
            for of in validation
        )

    return max(CANDIDATES, key=worst)


def thresholds_of(validation: list[OrganismRows], level: str) -> dict[str, float]:
    """Return for each metric the score from which on it calls a row faithful, with the best balanced accuracy."""
    truth = np.concatenate([of.tables[level]["truth"].to_numpy(int) for of in validation])
    return {
        metric: best_threshold(truth, np.concatenate([of.scores[level][metric] for of in validation]))
        for metric in validation[0].scores[level]
    }


def row_of(of: OrganismRows, level: str, metric: str, judged: Judged, choice: str) -> dict[str, Any]:
    """Return a row of the kept table; `choice` names the metrics that ours is made of."""
    parts = [name for name, source in of.sources.items() if source == "ours" and name in choice]
    return {
        "organism": of.organism,
        "level": level,
        "metric": metric,
        "source": of.sources.get(metric, "ours"),
        "auroc": judged.auroc.measure(),
        "lean": judged.lean,
        "decay": judged.decay,
        "scored": judged.scored,
        "passes": of.passes.get(metric, sum(of.passes.get(name, 0.0) for name in parts)),
        "by_class": judged.by_class,
    }


def measured(
    table: list[dict[str, Any]],
    rows: Mapping[str, OrganismRows],
    chosen: Mapping[str, str],
    thresholds: Mapping[str, Mapping[str, float]],
) -> dict[str, dict[str, Any]]:
    """Return what was measured, by measure id."""
    values: dict[str, dict[str, Any]] = {}
    of_level = {level: [row for row in table if row["level"] == level] for level in LEVELS}
    ours = [row for row in table if row["metric"] == CHOSEN]
    published = {row["metric"] for row in table if row["source"] != "ours" and row["scored"] > 0}
    for level in LEVELS:
        mine = [row for row in of_level[level] if row["metric"] == CHOSEN]
        if not mine:
            continue
        worst = min(mine, key=lambda row: row["auroc"]["value"])
        others = [row for row in of_level[level] if row["source"] != "ours" and row["organism"] == worst["organism"]]
        best = max(others, key=lambda row: row["auroc"]["value"])
        note = (
            f"{chosen[level]}, chosen on {', '.join(VALIDATION)}; worst organism {worst['organism']}; best published on "
            f"these rows {best['metric']} {best['auroc']['value']:.3f}, their median "
            f"{np.median([row['auroc']['value'] for row in others]):.3f}"
        )
        values[f"faithfulness.{level}_auroc"] = {**worst["auroc"], "note": note}
    if ours:
        lean, decay = (max(ours, key=lambda row, key=key: abs(row[key])) for key in ("lean", "decay"))  # type: ignore[misc]
        values["faithfulness.lean"] = {"value": abs(lean["lean"]), "note": f"{lean['level']} level, {lean['organism']}"}
        values["faithfulness.length_decay"] = {
            "value": decay["decay"],
            "note": f"{decay['level']} level, {decay['organism']}; shortest against longest third",
        }
    values["faithfulness.published"] = {"value": len(published), "note": ", ".join(sorted(published))}
    values["faithfulness.clean_false_alarms"] = clean_false_alarms(rows, chosen, thresholds)
    return values


def clean_false_alarms(
    rows: Mapping[str, OrganismRows], chosen: Mapping[str, str], thresholds: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Return the share of chains that are called unfaithful on the organism of `CLEAN` where it is highest."""
    choice, threshold = CANDIDATES[chosen["chain"]], thresholds["chain"][CHOSEN]
    shares = {name: float((choice(rows[name].scores["chain"]) < threshold).mean()) for name in CLEAN}
    worst = max(shares, key=lambda name: shares[name])
    return {
        "value": shares[worst],
        "n": rows[worst].n_problems,
        "note": "organisms that use every step: " + ", ".join(f"{name} {share:.3f}" for name, share in shares.items()),
    }


def about(of: OrganismRows) -> dict[str, Any]:
    """Return what is kept about an organism's rows."""
    return {
        "organism": of.organism,
        "problems": of.n_problems,
        "rows": {level: len(of.tables[level]) for level in LEVELS},
        "left_out": {"chains": of.left_out[0], "steps": of.left_out[1]},
        "interventions": of.n_interventions,
    }


def markdown(
    table: list[dict[str, Any]],
    measures: list[dict[str, Any]],
    organisms: list[dict[str, Any]],
    chosen: Mapping[str, str],
) -> str:
    """Return the page `benchmarks/results/faithfulness.md`."""
    parts = ["# Metrics of faithfulness against the truth", faithfulness_table({"rows": table})]
    parts += ["## Measures", lines_of([{key: row.get(key) for key in _MEASURE} for row in measures])]
    parts += [
        "## Rows",
        lines_of([{**of, "rows": str(of["rows"]), "left_out": str(of["left_out"])} for of in organisms]),
    ]
    parts += [f"Chosen on validation: {', '.join(f'{level}: {name}' for level, name in chosen.items())}."]
    return "\n\n".join(parts) + "\n"
