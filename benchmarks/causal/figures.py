"""Causal tests on the organisms: interchange, content or compute, used maps, steering and attribution graphs.

Addresses and doses are selected on other problems than the reported ones; all are held-out structures. Where an
organism exists in several training seeds, the worst figure is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.causal.pushes import commitment, graphs, steering
from benchmarks.causal.run import SEED, Run
from benchmarks.causal.swaps import content, interchange, used
from benchmarks.harness import keep, kept_result
from benchmarks.measures import report
from benchmarks.parts import Measures, check_parts, kept_measures
from interp.errors import CotlensError
from interp.runtime.console import Bars, jsonable

PARTS: dict[str, Callable[[Run], Measures]] = {
    "interchange": interchange,
    "content": content,
    "used": used,
    "steering": steering,
    "graphs": graphs,
    "commitment": commitment,
}
_TITLES = {"content": "content or compute", "used": "used maps", "graphs": "attribution graphs"}
_MEASURES = {
    "interchange": ("follow_min", "same_value_max", "wrong_site_max"),
    "content": ("content_verdicts_right",),
    "used": ("used_map_agreement",),
    "steering": ("steer_success", "steer_collateral"),
    "graphs": ("replacement_agreement", "paths_confirmed"),
    "commitment": ("commitment_exact",),
}


def bench(bars: Bars, *, folder: Path | None = None, scale: float = 1.0, parts: Sequence[str] = ()) -> dict[str, Any]:
    """Measure the group `causal`.

    Args:
        bars: Progress bars.
        folder: Folder of organisms of further training seeds, or None.
        scale: Factor on every sample size. Only a result at 1 is kept.
        parts: Names in `PARTS`; all by default. What was kept of the others stays.

    Returns:
        The measures, and for each part its tables and notes on what could not be measured.

    Raises:
        UsageError: A part is unknown.
    """
    check_parts(parts, PARTS)
    before = kept_result("causal") if parts and scale == 1 else {}
    measures = kept_measures("causal", before)
    tables, notes = ({**before.get(key, {})} for key in ("tables", "notes"))
    for name in parts or PARTS:
        run = Run(folder, scale)
        with bars.stage(_TITLES.get(name, name)):
            # A part that fails leaves no figure of an earlier run.
            for measure in _MEASURES[name]:
                measures.pop(f"causal.{measure}", None)
            try:
                measures |= PARTS[name](run)
            except CotlensError as error:
                run.notes.append(str(error))
        tables[name] = {title: table.to_dict("records") for title, table in run.tables.items()}
        notes[name] = run.notes
    rows = jsonable({"m": report("causal", measures)})["m"]
    details = jsonable({"seed": SEED, "notes": notes, "tables": tables})
    if scale != 1:
        return {"name": "causal", "measures": rows, **details}
    return keep("causal", rows, **details)
