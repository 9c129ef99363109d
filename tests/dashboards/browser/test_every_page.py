"""What holds for every page in a real browser: links, Back, keys, colours, accessibility, and no other host."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from benchmarks.dash.browser import wait_for_theme, wait_until_settled
from dashboards.components.keys import KEYS

Open = Callable[..., Any]
WIDTHS = (1280, 1920)
PATIENCE = 20.0  # seconds
OVERLAYS = "#stFloatingOverlayPortal"  # where Streamlit puts tooltips, outside of all landmarks
ALL_RULES: dict[str, Any] = {"resultTypes": ["violations"]}
# What a theme changes is colours; all else is looked at in the light.
COLOURS = ALL_RULES | {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}


def violations(page: Any, options: dict[str, Any] = ALL_RULES) -> list[str]:
    """What a page does against the rules, once it does nothing or for `PATIENCE`: a theme arrives part by part."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = Axe().run(page, context={"exclude": [OVERLAYS]}, options=options).response["violations"]
        if not found or time.monotonic() > deadline:
            return [f"{v['id']}: {v['help']} ({node['html'][:200]})" for v in found for node in v["nodes"]]
        page.wait_for_timeout(500)


def overflow(page: Any) -> int:
    """By how many pixels the page is wider than its window."""
    return int(
        page.evaluate(
            "() => { const m = document.querySelector('[data-testid=\"stMain\"]'); return m.scrollWidth - m.clientWidth; }"
        )
    )


def look(page: Any, picture: Callable[..., None], theme: str, options: dict[str, Any]) -> None:
    """Hold a page to the rules at both widths, and leave it as wide as it was."""
    try:
        for width in WIDTHS:
            if page.viewport_size["width"] != width:
                page.set_viewport_size({"width": width, "height": 900})
                wait_until_settled(page)
            picture(page, f"{page.name}-{theme}-{width}")
            assert violations(page, options) == []
            assert overflow(page) <= 0
    finally:
        page.set_viewport_size({"width": WIDTHS[0], "height": 900})
        wait_until_settled(page)


def test_a_page_is_accessible_at_both_widths(shared_page: Any, picture: Callable[..., None]) -> None:
    wait_for_theme(shared_page, "light")
    look(shared_page, picture, "light", ALL_RULES)


def test_tab_reaches_every_control_in_reading_order(shared_page: Any) -> None:
    page = shared_page
    # Every control that can be seen, without those of a chart's or table's own bar, and of what a list holds.
    page.evaluate(
        """() => {
          const inside = (root) => [...root.querySelectorAll("*")].flatMap((e) => e.shadowRoot ? [e, ...inside(e.shadowRoot)] : [e]);
          const wanted = "a[href], button, input, select, textarea, summary";
          const own = inside(document.querySelector('[data-testid="stApp"]')).filter((e) =>
            e.matches(wanted) && !e.disabled && e.type !== "hidden" && e.checkVisibility({visibilityProperty: true}) &&
            !e.closest('[data-testid="stElementToolbar"], .modebar, details:not([open]) > div, [data-testid="stHeader"]') && e.tabIndex >= 0);
          window.left = new Set(own);
        }"""
    )
    n = page.evaluate("() => window.left.size")
    assert n > 5
    for _ in range(6 * n):
        page.keyboard.press("Tab")
        if not page.evaluate(
            """() => {
              let at = document.activeElement;
              while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
              window.left.delete(at);
              // Tab enters a group of choices once; the arrow keys move in it.
              const group = at?.closest('[role="radiogroup"], [role="toolbar"]');
              for (const e of group?.querySelectorAll("button") ?? []) window.left.delete(e);
              return window.left.size;
            }"""
        ):
            break
    left = page.evaluate("() => [...window.left].map((e) => e.outerHTML.slice(0, 300))")
    # Other tests see this page too: what the focus opened is closed.
    page.keyboard.press("Escape")
    page.evaluate("() => document.activeElement?.blur()")
    assert left == []


def test_a_page_follows_the_system_into_the_dark(shared_page: Any, picture: Callable[..., None]) -> None:
    page = shared_page
    try:
        page.emulate_media(color_scheme="dark")
        wait_for_theme(page, "dark")
        look(page, picture, "dark", COLOURS)
    finally:
        page.emulate_media(color_scheme="light")
        wait_for_theme(page, "light")


def test_a_page_that_is_opened_in_the_dark_is_accessible(open_page: Open) -> None:
    page = open_page("latents", theme="dark")
    wait_for_theme(page, "dark")
    assert violations(page) == []


def test_a_deep_link_shows_what_it_names(open_page: Open) -> None:
    page = open_page("latents", method="logit_lens", failures="yes", open="demo_run")
    switch = page.get_by_role("switch", name="Only failures")
    expect(switch).to_be_checked()
    page.reload()
    wait_until_settled(page)
    expect(page).to_have_url(re.compile("method=logit_lens"))
    expect(switch).to_be_checked()


def test_a_deep_link_finds_the_server_with_the_first_question(open_page: Open) -> None:
    page = open_page("latents", open="demo_run")
    asked = page.evaluate("() => performance.getEntriesByType('resource').map((entry) => new URL(entry.name).pathname)")
    assert [path for path in asked if path.endswith("/_stcore/health")] == ["/_stcore/health"]


def test_back_returns_to_the_view_before(open_page: Open) -> None:
    page = open_page("traces", search="start")
    page.get_by_role("link", name="Probes", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Probes")
    wait_until_settled(page)
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Traces")
    expect(page).to_have_url(re.compile("search=start"))
    expect(page.get_by_label("Search all text")).to_have_value("start")


def test_slash_goes_to_the_search(open_page: Open) -> None:
    page = open_page("traces")
    field = page.get_by_label("Search all text")
    field.wait_for()
    page.keyboard.press("/")
    expect(field).to_be_focused()
    # In a text field, keys are text.
    page.keyboard.type("a/b?")
    expect(field).to_have_value("a/b?")


def test_question_mark_lists_the_keys(open_page: Open) -> None:
    page = open_page("home")
    keys = page.get_by_role("dialog", name="Keys")
    expect(keys).to_be_hidden()
    page.keyboard.press("?")
    expect(keys).to_be_visible()
    assert keys.locator("dt").all_inner_texts() == [key for key, _ in KEYS]
    assert violations(page) == []
    page.keyboard.press("Escape")
    expect(keys).to_be_hidden()
    page.get_by_role("button", name="Keys").click()
    expect(keys).to_be_visible()


def test_the_report_is_one_page_that_asks_nothing(chromium: Any, demo_run: Any) -> None:
    report = demo_run / "report.html"
    page = chromium.page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    page.wait_for_load_state("load")
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    expect(page.locator("h1")).to_have_count(1)
    page.context.close()
