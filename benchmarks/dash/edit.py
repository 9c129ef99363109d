"""Live edit in a real browser: from the choice of a value to the answer of the model that thought again."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.dash.browser import Browser, wait_until_settled
from benchmarks.dash.pages import demo_run
from benchmarks.dash.server import DashServer
from benchmarks.harness import median_interval
from benchmarks.parts import Measures
from dashboards.runs import Run
from interp.causal.patching.chosen import values_to_choose
from interp.problems import task as make_task

PROBLEMS_EDITED, EDITS = 3, 5  # of each problem


def measure_edit(browser: Browser, repetitions: int) -> Measures:
    """Take the seconds from the choice of a value to the answer, with all controls beside it; the model is loaded."""
    with demo_run() as run, DashServer([run]) as server:
        times: list[float] = []
        for trace, values in _choices(run)[:PROBLEMS_EDITED]:
            page = browser.page()
            page.goto(server.url("latents", problem=str(trace)))
            wait_until_settled(page)
            seconds = [_edit(page, value) for value in values[: EDITS + 1]]
            times += seconds[1:]  # the first of a page may load the model
            page.context.close()
    note = (
        "chain-coconut, the edited thought and its four controls thought again and read; from the click to the answer"
    )
    return {
        "dash.edit_seconds": {
            "value": statistics.median(times),
            "ci": median_interval(times),
            "n": len(times),
            "unit": "s",
            "note": note,
        }
    }


def _choices(run: Path) -> list[tuple[int, list[str]]]:
    """Return problems and the values that their first thoughts can be given."""
    made = Run(run)
    choices = []
    for trace in made.thoughts("probe")["trace"].unique()[:50].tolist():
        recipient = made.traces[trace]
        choices.append((trace, list(values_to_choose(make_task(recipient.problem.task), recipient, 1))))
    return sorted(choices, key=lambda choice: -len(choice[1]))


def _edit(page: Any, value: str) -> float:
    """Choose a value, and return the seconds until the row of that edit has its answer."""
    choice = page.get_by_test_id("stButtonGroup").filter(has_text="Value to put at thought 1")
    started = time.perf_counter()
    choice.get_by_text(value, exact=True).click()
    page.wait_for_function(
        """(value) => {
          const row = document.querySelector('table.cot-edit tr.cot-chosen');
          return row && row.querySelector('th').textContent.includes(`thought 1 becomes ${value}`) &&
            !row.closest('[data-stale="true"]') && row.querySelector('.cot-answer');
        }""",
        arg=value,
        timeout=120_000,
    )
    return time.perf_counter() - started
