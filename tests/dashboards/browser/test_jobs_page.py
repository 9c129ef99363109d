"""The form of a job in a real browser: a model from the list, and one that is not in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect

Open = Callable[..., Any]


def test_a_model_is_chosen_from_the_list_or_written(open_page: Open) -> None:
    page = open_page("jobs", job="study")
    field = page.get_by_role("combobox", name="MODEL")
    field.click()
    page.get_by_role("option", name="chain-text (shipped organism)").click()
    expect(page).to_have_url(re.compile(r"[?&]model=chain-text(&|$)"))
    expect(page.get_by_test_id("stCode").first).to_contain_text("cotlens study")
    field.click()
    field.fill("owner/another-model")
    field.press("Enter")
    expect(page).to_have_url(re.compile(r"[?&]model=owner(%2F|/)another-model(&|$)"))
    expect(page.get_by_test_id("stCode").first).to_contain_text("owner/another-model")
    page.reload()
    expect(page.get_by_test_id("stCode").first).to_contain_text("owner/another-model")
