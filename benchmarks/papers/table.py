"""`cotlens bench papers`: every system measured again, as one JSON and one page to read.

A run of one system (`--only`) replaces that system's part of what was kept and leaves the rest. Figures on
other training seeds are kept beside those of the shipped organisms, under the seed's number.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import measures
from benchmarks.harness import RESULTS, keep
from benchmarks.papers.base import Organisms, Section
from benchmarks.papers.earlier import with_earlier
from benchmarks.papers.page import page
from interp.errors import StoreError, unknown
from interp.runtime.console import Bars, jsonable
from interp.runtime.engines import executor
from interp.runtime.files import commit
from interp.runtime.progress import Progress

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
# These are begun first, in this order, so that no worker is left alone with one at the end.
_LONGEST = ("igsm", "heima", "maze", "recurrent", "self_reasoning", "coconut")


@dataclass(frozen=True)
class Work:
    """One system to measure, on the organisms of one training seed."""

    name: str
    full: bool
    folder: Path | None
    seed: int


def bench(
    only: str | None,
    full: bool,
    bars: Bars,
    *,
    folder: Path | None = None,
    seed: int = 0,
    engine: str = "process",
) -> dict[str, Any]:
    """Measure all systems, or one, on the shipped organisms (or those of `seed` in `folder`), and keep the result.

    Systems are measured in processes of their own, as many at a time as there are cores; one alone is measured here.
    What is done is kept at once, so that a run cut off loses only what was under way; what was measured before of
    organisms that are not here stays (see `earlier`). `missing` of the result names them.
    """
    if only is not None and only not in SYSTEMS:
        raise unknown("system", only, SYSTEMS)
    names = [only] if only else sorted(SYSTEMS, key=lambda name: [*_LONGEST, *SYSTEMS].index(name))
    work = [Work(name, full, folder, seed) for name in names]
    kept, missing = _kept(), []
    with bars.stage(f"{SYSTEMS[only] if only else 'the systems'}{f', seed {seed}' if seed else ''}") as step:
        told: Iterable[tuple[int, dict[str, Any]]]
        if only:
            told = [(0, measured(work[0], step))]
        else:
            step(0, len(work))
            told = executor(engine).map(measured, work)
        for done, (number, said) in enumerate(told, 1):
            name = names[number]
            before = kept.get(name, {})
            gone = said.pop("missing")
            missing += gone
            if seed:
                seeds = before.get("seeds", {})
                seeds[str(seed)] = seeds.get(str(seed), {}) | said["measures"]
                kept[name] = before | {"seeds": {number: seeds[number] for number in sorted(seeds, key=int)}}
            else:
                kept[name] = with_earlier(said, before, gone) | {"seeds": before.get("seeds", {})}
            result = _write({name: kept[name] for name in SYSTEMS if name in kept})
            step(done, len(work))
    return result | {"missing": sorted(set(missing))}


def measured(work: Work, progress: Progress = lambda done, total: None) -> dict[str, Any]:
    """A system's section as plain values; where an organism is missing, one that says so in place of figures."""
    started, organisms = time.perf_counter(), Organisms(work.folder, work.seed)
    try:
        module = importlib.import_module(f"benchmarks.papers.{work.name}")
        section = module.measure(progress, work.full, organisms)
    except StoreError as error:
        section = Section(work.name, SYSTEMS[work.name], notes=[f"not measured: {error}"])
    seconds = round(time.perf_counter() - started, 1)
    return _told(section) | {"seconds": seconds, "full": work.full, "missing": organisms.missing}


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
        return json.loads((RESULTS / "papers.json").read_text(encoding="utf-8")).get("systems", {})
    except FileNotFoundError:
        return {}


def _told(section: Section) -> dict[str, Any]:
    return jsonable(
        {
            "title": section.title,
            "tables": {caption: table.to_dict("records") for caption, table in section.tables.items()},
            "measures": section.measures,
            "paper": [vars(figure) for figure in section.paper],
            "notes": section.notes,
        }
    )
