"""`cotlens bench dash`: the dashboard in a headless browser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.dash.browser import Browser, browser, why_no_browser
from benchmarks.dash.edit import measure_edit
from benchmarks.dash.explorer import Measures, measure_bytes, measure_lock, measure_memory, measure_paint
from benchmarks.dash.pages import measure_pages, measure_search
from benchmarks.harness import keep, kept_result
from benchmarks.measures import report, table
from interp.errors import UsageError, unknown
from interp.runtime.console import Bars, jsonable

#: Each takes some minutes and makes what it needs.
PARTS: dict[str, Callable[[Browser, int], Measures]] = {
    "paint": measure_paint,
    "lock": measure_lock,
    "bytes": measure_bytes,
    "memory": measure_memory,
    "pages": measure_pages,
    "search": measure_search,
    "edit": measure_edit,
}


def bench(repetitions: int, bars: Bars, parts: Sequence[str] = ()) -> dict[str, Any]:
    """Take the measures of the group `dash`.

    Args:
        repetitions: Rounds of each first paint.
        bars: Progress bars.
        parts: Names of `PARTS`; all by default. Measures of the others stay as they were kept.

    Returns:
        The kept result, as `cotlens bench --json` prints it.

    Raises:
        UsageError: A part is unknown, or no browser can be driven here. The message says what to install.
    """
    for name in parts:
        if name not in PARTS:
            raise unknown("part of this bench", name, list(PARTS))
    missing = why_no_browser()
    if missing:
        raise UsageError(f"expected a browser for this bench, got none: {missing}.")
    measures = kept_measures() if parts else {}
    result: dict[str, Any] = {}
    with browser() as running:
        for name in parts or PARTS:
            with bars.stage(name):
                measures |= PARTS[name](running, repetitions)
            # After each part, so that one that fails loses nothing of the others.
            result = keep("dash", jsonable(report("dash", measures)))
    return result


def kept_measures() -> Measures:
    """Return what was measured before, by measure id; empty where nothing was kept."""
    rows = kept_result("dash").get("measures", [])
    described = {key for row in table()["dash"].values() for key in row} | {"id", "met"}
    return {
        row["id"]: {key: value for key, value in row.items() if key not in described}
        for row in rows
        if row["value"] is not None and row["id"] in table()["dash"]
    }
