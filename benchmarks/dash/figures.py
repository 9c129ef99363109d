"""`cotlens bench dash`: the dashboard in a headless browser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmarks.dash.browser import Browser, browser, why_no_browser
from benchmarks.dash.edit import measure_edit
from benchmarks.dash.explorer import measure_bytes, measure_lock, measure_memory, measure_paint
from benchmarks.dash.pages import measure_pages, measure_search
from benchmarks.parts import Measures, PartResult, check_parts, run_parts
from interp.errors import UsageError
from interp.runtime.console import Bars

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
    check_parts(parts, PARTS)
    missing = why_no_browser()
    if missing:
        raise UsageError(f"expected a browser for this bench, got none: {missing}.")
    with browser() as running:

        def part(name: str) -> PartResult:
            with bars.stage(name):
                return PartResult(PARTS[name](running, repetitions))

        return run_parts("dash", {name: partial(part, name) for name in PARTS}, parts)
