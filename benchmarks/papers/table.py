"""`cotlens bench papers`: every system measured again, as one JSON and one page to read.

A run of one system (`--only`) replaces that system's part of what was kept and leaves the rest. Figures on
other training seeds are kept beside those of the shipped organisms, under the seed's number.
"""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, keep
from benchmarks.papers.base import Organisms, Progress, Section
from benchmarks.papers.page import page
from interp import measures
from interp.console import Bars, plain
from interp.errors import StoreError, unknown
from interp.files import commit

# In the order of the table; each module has `measure(progress, full, organisms)`.
SYSTEMS = {
    "maze": "Beyond Semantics",
    "heima": "Heima",
    "coconut": "Coconut",
    "self_reasoning": "Self-reasoning tokens",
    "pause": "Pause tokens",
    "tracing": "Tracing thoughts",
    "igsm": "Physics of language models",
    "lcm": "Large concept models",
    "concealed": "Alignment faking",
    "recurrent": "Recurrent depth",
}


def bench(only: str | None, full: bool, bars: Bars, *, folder: Path | None = None, seed: int = 0) -> dict[str, Any]:
    """Measure all systems, or one, on the shipped organisms (or those of `seed` in `folder`), and keep the result."""
    if only is not None and only not in SYSTEMS:
        raise unknown("system", only, SYSTEMS)
    kept = _kept()
    for name in [only] if only else SYSTEMS:
        started = time.perf_counter()
        with bars.stage(f"{SYSTEMS[name]}{f', seed {seed}' if seed else ''}") as report:
            section = _measured(name, report, full, Organisms(folder, seed))
        said = _told(section) | {"seconds": round(time.perf_counter() - started, 1), "full": full}
        before = kept.get(name, {})
        if seed:
            kept[name] = before | {"seeds": before.get("seeds", {}) | {str(seed): said["measures"]}}
        else:
            kept[name] = said | {"seeds": before.get("seeds", {})}
    return _write({name: kept[name] for name in SYSTEMS if name in kept})


def _measured(name: str, report: Progress, full: bool, organisms: Organisms) -> Section:
    """A system's section; where an organism is missing, one that says so in place of figures."""
    try:
        return importlib.import_module(f"benchmarks.papers.{name}").measure(report, full, organisms)
    except StoreError as error:
        return Section(name, SYSTEMS[name], notes=[f"not measured: {error}"])


def _write(systems: dict[str, Any]) -> dict[str, Any]:
    taken: dict[str, dict[str, Any]] = {}
    for said in systems.values():
        for name, measure in said.get("measures", {}).items():
            others = {seed: each[name]["value"] for seed, each in said["seeds"].items() if name in each}
            taken[name] = measure | ({"other_seeds": others} if others else {})
    result = keep("papers", measures.report("papers", taken), systems=systems)
    commit(RESULTS / "papers.md", page(result).encode())
    return result


def _kept() -> dict[str, Any]:
    try:
        return json.loads((RESULTS / "papers.json").read_text()).get("systems", {})
    except FileNotFoundError:
        return {}


def _told(section: Section) -> dict[str, Any]:
    return plain(
        {
            "title": section.title,
            "tables": {caption: table.to_dict("records") for caption, table in section.tables.items()},
            "measures": section.measures,
            "paper": [vars(figure) for figure in section.paper],
            "notes": section.notes,
        }
    )
