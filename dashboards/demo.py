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
from dashboards.measures import demo_measures
from dashboards.study import Study, accuracy_of, interchange_figures, require_thoughts, step_figures, study
from interp.errors import StoreError, UsageError, checked_count
from interp.organisms.catalog import recipe
from interp.problems.base import checked_seed
from interp.reasoners import Reasoner
from interp.runtime.console import Bars, jsonable
from interp.runtime.files import commit, explain_os_errors

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
    result["measures"] = demo_measures(result)
    _write(out, result)
    with bars.stage("writing the report"):
        build_report(out)
    # The report shows the figures as they stood when it was begun; writing it counts for the command.
    result["seconds"] = round(time.monotonic() - started, 1)
    result["measures"] = demo_measures(result)
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
    with explain_os_errors(f"opening {out}"):
        if out.exists() and any(out.iterdir()):
            raise StoreError(f"{out} is not empty and holds no run. Choose another --out.")
        out.mkdir(parents=True, exist_ok=True)
    _write(out, {"schema_version": SCHEMA_VERSION, **asked, "complete": False})


def _write(out: Path, result: dict[str, Any]) -> None:
    commit(out / RUN_FILE, (json.dumps(jsonable(result), indent=2) + "\n").encode())


def peak_rss_mb() -> float:
    """The most memory that this process has held; the kernel counts in KiB on Linux and in bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
