"""Causal tests on the organisms: interchange, content or compute, used maps, steering and attribution graphs.

Sites and doses are chosen on other problems than those that are reported; all are held-out structures. Of organisms
that are there in several training seeds a figure is the worst over all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.causal.pushes import commitment, graphs, steering
from benchmarks.causal.run import SEED, Run
from benchmarks.causal.swaps import content, interchange, used
from benchmarks.harness import keep
from benchmarks.measures import report
from interp.errors import CotlensError
from interp.runtime.console import Bars, jsonable

PARTS: dict[str, Callable[[Run], dict[str, dict[str, Any]]]] = {
    "interchange": interchange,
    "content or compute": content,
    "used maps": used,
    "steering": steering,
    "attribution graphs": graphs,
    "commitment": commitment,
}


def bench(bars: Bars, *, folder: Path | None = None, scale: float = 1.0) -> dict[str, Any]:
    """Every measure of group `causal`, its tables, and notes on what could not be measured.

    With `folder` also the organisms of every training seed in it. `scale` multiplies every sample size; anything but
    1 is a trial, which is not kept.
    """
    run = Run(folder, scale)
    taken: dict[str, dict[str, Any]] = {}
    for title, part in PARTS.items():
        with bars.stage(title):
            try:
                taken |= part(run)
            except CotlensError as error:
                run.notes.append(f"{title}: {error}")
    measures = report("causal", taken)
    tables = {name: table.to_dict("records") for name, table in run.tables.items()}
    more = jsonable({"seed": SEED, "notes": run.notes, "tables": tables})
    if scale != 1:
        return {"name": "causal", "measures": jsonable({"m": measures})["m"], **more}
    return keep("causal", jsonable({"m": measures})["m"], **more)
