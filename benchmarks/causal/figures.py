"""Causal tests on the organisms: interchange, content or compute, used maps, steering and attribution graphs.

Addresses and doses are selected on other problems than the reported ones; all are held-out structures. Where an
organism exists in several training seeds, the worst figure is reported.
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
    """Measure the group `causal`.

    Args:
        bars: Progress bars.
        folder: Folder of organisms of further training seeds, or None.
        scale: Factor on every sample size. Only a result at 1 is kept.

    Returns:
        The measures, the tables, and notes on what could not be measured.
    """
    run = Run(folder, scale)
    figures: dict[str, dict[str, Any]] = {}
    for title, part in PARTS.items():
        with bars.stage(title):
            try:
                figures |= part(run)
            except CotlensError as error:
                run.notes.append(f"{title}: {error}")
    measures = report("causal", figures)
    tables = {name: table.to_dict("records") for name, table in run.tables.items()}
    details = jsonable({"seed": SEED, "notes": run.notes, "tables": tables})
    if scale != 1:
        return {"name": "causal", "measures": jsonable({"m": measures})["m"], **details}
    return keep("causal", jsonable({"m": measures})["m"], **details)
