"""Live edit in a real browser: a value is chosen, the later thoughts and the answer change, and the controls stand beside it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from benchmarks.dash.browser import wait_until_settled
from dashboards.runs import Run
from interp.causal.patching.chosen import values_to_choose
from interp.problems import task as make_task

Open = Callable[..., Any]


def later_edit(run: Path) -> tuple[int, str, str, str]:
    """A problem, a value for its first thought, the answer that must follow, and the answer without the edit."""
    made = Run(run)
    for trace in made.thoughts("probe")["trace"].unique():
        recipient = made.traces[int(trace)]
        values = values_to_choose(make_task(recipient.problem.task), recipient, 1)
        if recipient.correct and recipient.problem.n_steps > 2 and values:
            value, answer = next(iter(values.items()))
            return int(trace), value, answer, recipient.answer
    raise AssertionError("no problem of the run allows an edit of its first thought")


def test_a_chosen_value_changes_the_thoughts_after_it_and_the_answer(open_page: Open, demo_run: Path) -> None:
    trace, value, answer, own = later_edit(demo_run)
    page = open_page("latents", problem=str(trace))
    table = page.locator("table.cot-edit")
    expect(table).to_have_count(0)
    choice = page.get_by_test_id("stButtonGroup").filter(has_text="Value to put at thought 1")
    choice.get_by_role("radio", name=value, exact=True).or_(
        choice.get_by_role("button", name=value, exact=True)
    ).click()
    edited = table.locator("tr.cot-chosen")
    expect(edited.locator(".cot-answer")).to_have_text(answer)
    expect(edited.locator("th")).to_contain_text(f"thought 1 becomes {value}")
    expect(edited).to_contain_text(f"if used: {answer}")
    # The last thought holds the answer, so it is another than without the edit; the page says what it was.
    last = edited.locator("td").nth(Run(demo_run).traces[trace].problem.n_steps - 1)
    expect(last).to_have_class(re.compile("cot-moved"))
    expect(last.locator("span")).to_have_text(answer)
    expect(last).to_contain_text(f"was {own}")
    # Beside it: the model without an edit, the same value, and the same donor at wrong places.
    expect(table.locator("tbody tr").first.locator(".cot-answer")).to_have_text(own)
    same = table.locator("tbody tr").filter(has_text="control: donor with the same value")
    expect(same.locator(".cot-answer")).to_have_text(own)
    expect(same).to_contain_text("changes nothing")
    for name in ("at a word of the question", "at another step", "random vector"):
        expect(table.locator("tbody tr").filter(has_text=name)).to_have_count(1)
    expect(page).to_have_url(re.compile(f"edit=1(:|%3A){value}"))
    # The edit is part of the view: another page and back, then Undo.
    page.get_by_role("link", name="Probes", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Probes")
    wait_until_settled(page)
    page.get_by_role("link", name="Thoughts", exact=True).click()
    expect(edited.locator(".cot-answer")).to_have_text(answer)
    wait_until_settled(page)
    page.get_by_role("button", name="Reset", exact=True).click()
    expect(table).to_have_count(0)
    expect(page).not_to_have_url(re.compile("edit="))
