"""`cotlens demo`: the whole story on one organism, beside the organisms that should fail where it succeeds."""

from __future__ import annotations

import json
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import interp
from dashboards.study import Study, accuracy_of, interchange_figures, require_thoughts, step_figures, study
from interp.errors import StoreError, UsageError, checked_count
from interp.organisms.catalog import recipe
from interp.problems.base import checked_seed
from interp.reasoners import Reasoner
from interp.runtime.console import Bars, plain
from interp.runtime.files import commit, explained
from interp.statistics.measures import report as measures_report

RUN_FILE = "run.json"
SCHEMA_VERSION = 1
MIN_PROBLEMS = 300
# What an organism of the same task is set beside: other ways of thinking, and none.
COMPARED = ("chain-coconut", "chain-direct", "chain-pause-as-thought", "chain-text")


def run_demo(
    out: Path, organism: str, *, n: int, seed: int, bars: Bars, started: float | None = None
) -> dict[str, Any]:
    """Run the story into the folder `out` and return what `run.json` holds.

    `started` is when the clock began (`time.monotonic`), now by default. Raises `UsageError` on an unknown
    organism, one without thoughts, or too few problems, and `StoreError` when `out` holds another run.
    """
    from dashboards.report import build_report

    started = time.monotonic() if started is None else started
    made = recipe(organism)
    checked_seed(seed)
    if checked_count("n", n) < MIN_PROBLEMS:
        raise UsageError(
            f"n must be at least {MIN_PROBLEMS} for splits and intervals that mean something, but {n} came."
        )
    require_thoughts(organism, made.kind)
    asked = {"organism": organism, "n_problems": n, "seed": seed, "task": made.task}
    _start(out, asked)
    reasoner = interp.load(organism)
    problems = reasoner.task.generate(n, seed=seed, split="test")
    found = study(reasoner, problems, out, bars)
    chance = 1 / len(reasoner.task.values)
    result: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        **asked,
        "kind": reasoner.kind,
        "complete": True,
        "versions": {p: version(p) for p in ("torch", "transformers", "transformer-lens", "sae-lens")},
        **{k: v for k, v in accuracy_of(found.traces).items() if k != "n"},
        "chance": chance,
        "steps": step_figures(found),
        "interchange": interchange_figures(found.interchange),
        "sae": found.sae,
        "controls": found.sweep.notes,
        "comparisons": [_compare(name, found, out / "comparisons" / name, bars) for name in _others(organism)],
        "report": str(out / "report.html"),
    }
    result["seconds"] = round(time.monotonic() - started, 1)
    result["peak_rss_mb"] = round(peak_rss_mb(), 1)
    result["measures"] = measures_report("demo", _measured(result))
    _write(out, result)
    with bars.stage("writing the report"):
        build_report(out)
    # The report shows the figures as they stood when it was begun; writing it counts for the command.
    result["seconds"] = round(time.monotonic() - started, 1)
    result["measures"] = measures_report("demo", _measured(result))
    _write(out, result)
    return result


def _others(organism: str) -> list[str]:
    return [name for name in COMPARED if recipe(name).task == recipe(organism).task and name != organism]


def _compare(name: str, found: Study, out: Path, bars: Bars) -> dict[str, Any]:
    """Another organism on the same problems; silent ones go through the same tests."""
    other: Reasoner = interp.load(name)
    entry: dict[str, Any] = {"organism": name, "kind": other.kind, "summary": recipe(name).summary}
    if other.kind in ("pause", "continuous"):
        same = study(other, found.traces.problems, out, bars, dictionaries=False, twin=False)
        return (
            entry
            | accuracy_of(same.traces)
            | {
                "steps": step_figures(same),
                "interchange": interchange_figures(same.interchange),
            }
        )
    with bars.stage(f"{name}: thinking") as report:
        traces = other.think(found.traces.problems, batch_size=128, progress=report)
    return entry | accuracy_of(traces)


def _measured(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The measures of group `demo`, from what was found."""
    steps, edits, chance = result["steps"], result["interchange"], result["chance"]

    def worst(column: str, interval: str) -> dict[str, Any]:
        step = min(steps, key=lambda s: s[column])
        return {
            "value": step[column],
            "ci": step[interval],
            "n": step["n"],
            "note": f"step {step['step']}, {step['layer']}",
        }

    def above_chance(column: str) -> dict[str, Any]:
        step = max(steps, key=lambda s: s[column])
        return {"value": step[column] - chance, "n": step["n"], "note": f"step {step['step']}, chance {chance:.2f}"}

    taken = {
        "demo.accuracy": {"value": result["accuracy"], "ci": result["ci"], "n": result["n_problems"]},
        "demo.probe_step_top1_min": worst("probe_top1", "ci"),
        "demo.question_only_above_chance_max": above_chance("question_only"),
        "demo.other_problem_above_chance_max": above_chance("other_problem"),
        "demo.sae_step_top1_min": worst("sae_top1", "sae_ci"),
        "demo.interchange_follow": {"value": edits["follow_rate"], "ci": edits["ci"], "n": edits["n"]},
        "demo.interchange_same_value_change": {
            "value": edits["same_value_change_rate"],
            "ci": edits["same_value_ci"],
            "n": edits["n_same_value"],
        },
        "demo.seconds": {"value": result["seconds"], "unit": "s"},
        "demo.peak_rss_mb": {"value": result["peak_rss_mb"], "unit": "MB"},
    }
    baselines = {key: min(s[f"{key}_top1"] for s in steps) for key in ("random_dictionary", "pca", "neurons")}
    taken["demo.sae_step_top1_min"]["peer"] = ", ".join(f"{k} {v:.3f}" for k, v in baselines.items())
    for other in result["comparisons"]:
        if other["kind"] == "direct":
            above = {"value": other["accuracy"] - chance, "ci": [x - chance for x in other["ci"]], "n": other["n"]}
            taken["demo.direct_above_chance"] = above | {"note": other["organism"]}
    return taken


def _start(out: Path, asked: dict[str, Any]) -> None:
    """Claim the folder, or go on with the run of the same name, problems and seed."""
    path = out / RUN_FILE
    if path.exists():
        try:
            there = json.loads(path.read_text())
        except ValueError:
            raise StoreError(f"{path} is damaged. Remove {out}, or choose another --out.") from None
        if any(there.get(key) != value for key, value in asked.items()):
            said = ", ".join(f"{key}={there.get(key)}" for key in asked)
            raise StoreError(f"{out} holds another run ({said}). Choose another --out, or remove it.")
        return
    with explained(f"opening {out}"):
        if out.exists() and any(out.iterdir()):
            raise StoreError(f"{out} is not empty and holds no run. Choose another --out.")
        out.mkdir(parents=True, exist_ok=True)
    _write(out, {"schema_version": SCHEMA_VERSION, **asked, "complete": False})


def _write(out: Path, result: dict[str, Any]) -> None:
    commit(out / RUN_FILE, (json.dumps(plain(result), indent=2) + "\n").encode())


def peak_rss_mb() -> float:
    """The most memory that this process has held; the kernel counts in KiB on Linux and in bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
