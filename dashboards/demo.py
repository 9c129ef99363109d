"""`cotlens demo`: a study of one organism, and of the organisms that it is compared with."""

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
# Organisms of other kinds, which an organism of the same task is compared with.
COMPARED = ("chain-coconut", "chain-direct", "chain-pause-as-thought", "chain-text")


def run_demo(
    out: Path, organism: str, *, n: int, seed: int, bars: Bars, started: float | None = None
) -> dict[str, Any]:
    """Study an organism, compare it with others, and write a report.

    Args:
        out: Folder of the run. An unfinished run of the same options is resumed.
        organism: Name of a shipped organism.
        n: Number of held-out problems, at least 300.
        seed: Seed of the problems.
        bars: Where progress is shown.
        started: When the clock began, as `time.monotonic` counts; now by default.

    Returns:
        The content of `run.json`.

    Raises:
        UsageError: The organism is unknown or has no thoughts, or there are too few problems.
        StoreError: `out` holds another run, or something else.
    """
    from dashboards.report import build_report

    started = time.monotonic() if started is None else started
    made = recipe(organism)
    checked_seed(seed)
    if checked_count("n", n) < MIN_PROBLEMS:
        raise UsageError(
            f"expected n of at least {MIN_PROBLEMS}, got {n}; splits and intervals mean little on fewer problems."
        )
    require_thoughts(organism, made.kind)
    options = {"organism": organism, "n_problems": n, "seed": seed, "task": made.task}
    _start(out, options)
    reasoner = interp.load(organism)
    problems = reasoner.task.generate(n, seed=seed, split="test")
    studied = study(reasoner, problems, out, bars)
    chance = 1 / len(reasoner.task.values)
    result: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        **options,
        "kind": reasoner.kind,
        "complete": True,
        "versions": {p: version(p) for p in ("torch", "transformers", "transformer-lens", "sae-lens")},
        **{k: v for k, v in accuracy_of(studied.traces).items() if k != "n"},
        "chance": chance,
        "steps": step_figures(studied),
        "interchange": interchange_figures(studied.interchange),
        "sae": studied.sae,
        "controls": studied.sweep.notes,
        "comparisons": [_compare(name, studied, out / "comparisons" / name, bars) for name in _others(organism)],
        "report": str(out / "report.html"),
    }
    result["seconds"] = round(time.monotonic() - started, 1)
    result["peak_rss_mb"] = round(peak_rss_mb(), 1)
    result["measures"] = demo_measures(result)
    _write(out, result)
    with bars.stage("writing the report"):
        build_report(out)
    # Written again, because the time of the report counts for the command.
    result["seconds"] = round(time.monotonic() - started, 1)
    result["measures"] = demo_measures(result)
    _write(out, result)
    return result


def _others(organism: str) -> list[str]:
    """Return the organisms that an organism is compared with."""
    return [name for name in COMPARED if recipe(name).task == recipe(organism).task and name != organism]


def _compare(name: str, studied: Study, out: Path, bars: Bars) -> dict[str, Any]:
    """Return the figures of another organism on the same problems, with a full study if it thinks silently."""
    other: Reasoner = interp.load(name)
    entry: dict[str, Any] = {"organism": name, "kind": other.kind, "summary": recipe(name).summary}
    if other.kind in ("pause", "continuous"):
        same = study(other, studied.traces.problems, out, bars, dictionaries=False, twin=False)
        return (
            entry
            | accuracy_of(same.traces)
            | {
                "steps": step_figures(same),
                "interchange": interchange_figures(same.interchange),
            }
        )
    with bars.stage(f"{name}: thinking") as report:
        traces = other.think(studied.traces.problems, batch_size=128, progress=report)
    return entry | accuracy_of(traces)


def _start(out: Path, options: dict[str, Any]) -> None:
    """Begin the run in `out`, or resume the one with the same options there."""
    path = out / RUN_FILE
    if path.exists():
        try:
            existing = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise StoreError(f"{path} is damaged. Remove {out}, or choose another --out.") from None
        if any(existing.get(key) != value for key, value in options.items()):
            others = ", ".join(f"{key}={existing.get(key)}" for key in options)
            raise StoreError(f"{out} holds another run ({others}). Choose another --out, or remove it.")
        return
    with explain_os_errors(f"opening {out}"):
        if out.exists() and any(out.iterdir()):
            raise StoreError(f"{out} is not empty and holds no run. Choose another --out.")
        out.mkdir(parents=True, exist_ok=True)
    _write(out, {"schema_version": SCHEMA_VERSION, **options, "complete": False})


def _write(out: Path, result: dict[str, Any]) -> None:
    """Write run.json."""
    commit(out / RUN_FILE, (json.dumps(jsonable(result), indent=2) + "\n").encode())


def peak_rss_mb() -> float:
    """Return the peak memory of this process in MB."""
    # KiB on Linux, bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
