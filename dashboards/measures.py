"""The measures that `cotlens demo` takes, with their targets.

They are kept in the package, so that an installed demo needs no checkout. A test holds them equal to
those of `benchmarks/measures.toml`.
"""

from __future__ import annotations

from typing import Any

from interp.runtime.workers import cores
from interp.statistics.measures import measure_rows

DEMO_MEASURES: dict[str, dict[str, Any]] = {
    "demo.accuracy": {"op": ">=", "target": 0.97, "says": "chain-coconut answers right, held-out structures"},
    "demo.direct_above_chance": {"op": "<=", "target": 0.05, "says": "chain-direct accuracy minus chance"},
    "demo.probe_step_top1_min": {
        "op": ">=",
        "target": 0.95,
        "says": "worst step: value read by probe from the thought that should hold it, top-1, matched position",
    },
    "demo.question_only_above_chance_max": {
        "op": "<=",
        "target": 0.05,
        "says": "worst step: question-only control minus chance",
    },
    "demo.other_problem_above_chance_max": {
        "op": "<=",
        "target": 0.05,
        "says": "worst step: other-problem control minus chance",
    },
    "demo.sae_step_top1_min": {
        "op": ">=",
        "target": 0.85,
        "says": "worst step: SAE read-out with one feature per value (random dictionary, PCA and neurons beside it)",
    },
    "demo.interchange_follow": {
        "op": ">=",
        "target": 0.9,
        "says": "donor's thought makes the answer what the donor's value implies",
    },
    "demo.interchange_same_value_change": {"op": "<=", "target": 0.02, "says": "a same-value donor changes the answer"},
    "demo.seconds": {"op": "<=", "target": 180, "says": "wall time on 2 cores after installation"},
    "demo.peak_rss_mb": {"op": "<=", "target": 4096, "says": "peak memory"},
}

#: Of the group `scale`, what the demo takes.
SCALE_MEASURES: dict[str, dict[str, Any]] = {
    "scale.demo_seconds": {"op": "<=", "target": 45, "says": "the demo after installation"},
}


def demo_measures(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every measure of the demo, with target and verdict.

    Args:
        run: The content of a run's `run.json`, with the results in it.
    """
    seconds = {"value": run["seconds"], "unit": "s", "note": f"{cores()} cores"}
    scale = measure_rows("scale", SCALE_MEASURES, {"scale.demo_seconds": seconds})
    return measure_rows("demo", DEMO_MEASURES, _measured(run)) + scale


def _measured(run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the values of the group `demo`, from the results of a run."""
    steps, edits, chance = run["steps"], run["interchange"] or {}, run["chance"]
    missing = {"value": None, "note": "could not be measured for this organism"}

    def worst(column: str, interval: str) -> dict[str, Any]:
        measured = [step for step in steps if step.get(column) is not None]
        if not measured:
            return dict(missing)
        step = min(measured, key=lambda s: s[column])
        return {
            "value": step[column],
            "ci": step[interval],
            "n": step["n"],
            "note": f"step {step['step']}, {step[_where(column)]}",
        }

    def above_chance(column: str) -> dict[str, Any]:
        measured = [step for step in steps if step.get(column) is not None]
        if not measured:
            return dict(missing)
        step = max(measured, key=lambda s: s[column])
        return {
            "value": step[column] - chance,
            "n": step["n"],
            "note": f"step {step['step']}, a guess of the answer {chance:.2f}",
        }

    measured = {
        "demo.accuracy": {"value": run["accuracy"], "ci": run["ci"], "n": run["n_problems"]},
        "demo.probe_step_top1_min": worst("probe_top1", "ci"),
        "demo.question_only_above_chance_max": above_chance("question_only"),
        "demo.other_problem_above_chance_max": above_chance("other_problem"),
        "demo.sae_step_top1_min": worst("sae_top1", "sae_ci"),
        "demo.interchange_follow": {"value": edits.get("follow_rate"), "ci": edits.get("ci"), "n": edits.get("n")},
        "demo.interchange_same_value_change": {
            "value": edits.get("same_value_change_rate"),
            "ci": edits.get("same_value_ci"),
            "n": edits.get("n_same_value"),
        },
        "demo.seconds": {"value": run["seconds"], "unit": "s"},
        "demo.peak_rss_mb": {"value": run["peak_rss_mb"], "unit": "MB"},
    }
    for key in ("random_dictionary", "pca", "neurons"):
        values = [step[f"{key}_top1"] for step in steps if step.get(f"{key}_top1") is not None]
        if values:
            peers = measured["demo.sae_step_top1_min"].get("peer")
            measured["demo.sae_step_top1_min"]["peer"] = f"{f'{peers}, ' if peers else ''}{key} {min(values):.3f}"
    for other in run["comparisons"]:
        if other["kind"] == "direct":
            above = {"value": other["accuracy"] - chance, "ci": [x - chance for x in other["ci"]], "n": other["n"]}
            measured["demo.direct_above_chance"] = above | {"note": other["organism"]}
    return measured


def _where(column: str) -> str:
    """Return the field that names where a score was read."""
    return "where" if column == "probe_top1" else column.replace("_top1", "_where")
