"""`cotlens bench papers`: measure every system and write one JSON file and one page.

A run of one system (`--only`) replaces that system's part of the kept results and leaves the others. Figures of other
training seeds are kept beside those of the shipped organisms, under the seed's number.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import measures
from benchmarks.harness import RESULTS, keep, kept_result
from benchmarks.papers import seeds
from benchmarks.papers.base import Organisms, Section
from benchmarks.papers.earlier import with_earlier_rows
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
# In place of a system: only the group that is read from what other benches have kept.
SEEDS_ALONE = "seeds"
# The slowest systems start first, so that none runs alone at the end.
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
    """Measure all systems, or one, and keep the result.

    Each system is written as soon as it is measured, so an interrupted run loses only the systems in progress. Rows of
    missing organisms stay as an earlier run measured them (see `earlier`).

    Args:
        only: Name of one system, `seeds` to read the group `seeds` again from what other benches have kept, which
            measures nothing, or None for all.
        full: Measure on more problems.
        bars: Progress bars.
        folder: Folder of further trained organisms, or None for the shipped ones.
        seed: Training seed of the organisms.
        engine: How systems run at the same time; one alone runs in this process.

    Returns:
        The kept result; `missing` names the organisms that could not be loaded.

    Raises:
        UsageError: `only` is not a system.
    """
    if only == SEEDS_ALONE:
        systems = kept_result("papers", required=True)["systems"]
        return _write({name: systems[name] for name in SYSTEMS if name in systems}) | {"missing": []}
    if only is not None and only not in SYSTEMS:
        raise unknown("system", only, [*SYSTEMS, SEEDS_ALONE])
    names = [only] if only else sorted(SYSTEMS, key=lambda name: [*_LONGEST, *SYSTEMS].index(name))
    work = [Work(name, full, folder, seed) for name in names]
    kept, missing = kept_result("papers").get("systems", {}), []
    with bars.stage(f"{SYSTEMS[only] if only else 'the systems'}{f', seed {seed}' if seed else ''}") as step:
        sections: Iterable[tuple[int, dict[str, Any]]]
        if only:
            sections = [(0, measure_system(work[0], step))]
        else:
            step(0, len(work))
            sections = executor(engine).map(measure_system, work)
        for done, (number, section) in enumerate(sections, 1):
            name = names[number]
            before = kept.get(name, {})
            absent = section.pop("missing")
            missing += absent
            if seed:
                of_seed = before.get("seeds", {})
                of_seed[str(seed)] = of_seed.get(str(seed), {}) | section["measures"]
                kept[name] = before | {"seeds": {key: of_seed[key] for key in sorted(of_seed, key=int)}}
            else:
                kept[name] = with_earlier_rows(section, before, absent) | {"seeds": before.get("seeds", {})}
            result = _write({name: kept[name] for name in SYSTEMS if name in kept})
            step(done, len(work))
    return result | {"missing": sorted(set(missing))}


def measure_system(work: Work, progress: Progress = lambda done, total: None) -> dict[str, Any]:
    """Return a system's section as plain values; where an organism is missing, it holds a note and no figures."""
    started, organisms = time.perf_counter(), Organisms(work.folder, work.seed)
    try:
        module = importlib.import_module(f"benchmarks.papers.{work.name}")
        section = module.measure(progress, work.full, organisms)
    except StoreError as error:
        section = Section(work.name, SYSTEMS[work.name], notes=[f"not measured: {error}"])
    seconds = round(time.perf_counter() - started, 1)
    return _to_dict(section) | {"seconds": seconds, "full": work.full, "missing": organisms.missing}


def _write(systems: dict[str, Any]) -> dict[str, Any]:
    """Write the JSON file and the page; return what the file holds."""
    values: dict[str, dict[str, Any]] = {}
    for section in systems.values():
        for name, measure in section.get("measures", {}).items():
            others = {seed: figures[name]["value"] for seed, figures in section["seeds"].items() if name in figures}
            values[name] = measure | ({"other_seeds": others} if others else {})
    rows = measures.report("papers", values) + measures.report("seeds", seeds.figures(systems))
    result = keep("papers", rows, systems=systems)
    commit(RESULTS / "papers.md", page(result).encode())
    return result


def _to_dict(section: Section) -> dict[str, Any]:
    """Return a section as plain values."""
    return jsonable(
        {
            "title": section.title,
            "tables": {caption: table.to_dict("records") for caption, table in section.tables.items()},
            "measures": section.measures,
            "paper": [vars(figure) for figure in section.paper],
            "notes": section.notes,
        }
    )
