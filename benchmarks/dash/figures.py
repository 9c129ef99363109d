"""`cotlens bench dash`: the dashboard in a headless browser."""

from __future__ import annotations

from typing import Any

from benchmarks.dash.browser import browser, why_no_browser
from benchmarks.dash.explorer import measure_explorer
from benchmarks.dash.pages import measure_pages
from benchmarks.harness import keep
from benchmarks.measures import report
from interp.errors import UsageError
from interp.runtime.console import Bars, jsonable


def bench(repetitions: int, bars: Bars) -> dict[str, Any]:
    """Take the measures of the group `dash`.

    Args:
        repetitions: Rounds of each first paint.
        bars: Progress bars.

    Returns:
        The kept result, as `cotlens bench --json` prints it.

    Raises:
        UsageError: No browser can be driven here. The message says what to install.
    """
    missing = why_no_browser()
    if missing:
        raise UsageError(f"expected a browser for this bench, got none: {missing}.")
    with browser() as running:
        measures = measure_explorer(running, repetitions, bars)
        measures |= measure_pages(running, repetitions, bars)
    return keep("dash", jsonable(report("dash", measures)))
