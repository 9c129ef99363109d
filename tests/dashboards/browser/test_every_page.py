"""What holds for every page in a real browser: links, Back, keys, colours, accessibility, and no other host."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from benchmarks.dash.browser import wait_until_settled
from dashboards.components.keys import KEYS
from dashboards.pages import PAGES

Open = Callable[..., Any]
NAMES = ("home", *(page.name for page in PAGES))
AXE_OPTIONS = {"resultTypes": ["violations"]}


def query(page: Any) -> str:
    return str(page.evaluate("() => location.search"))


def focused(page: Any) -> dict[str, Any]:
    """What has the focus, also inside a component's shadow root."""
    return page.evaluate(
        """() => {
          let at = document.activeElement;
          while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
          return {tag: at.tagName, label: at.getAttribute("aria-label") ?? "", text: at.textContent.trim()};
        }"""
    )


def brightness(page: Any) -> float:
    colour = page.evaluate("() => getComputedStyle(document.querySelector('[data-testid=\"stApp\"]')).backgroundColor")
    return sum(int(number) for number in re.findall(r"\d+", colour)[:3]) / (3 * 255)


def overflow(page: Any) -> int:
    """By how many pixels the page is wider than its window."""
    return int(
        page.evaluate(
            "() => { const m = document.querySelector('[data-testid=\"stMain\"]'); return m.scrollWidth - m.clientWidth; }"
        )
    )


def violations(page: Any) -> list[str]:
    found = Axe().run(page, options=AXE_OPTIONS).response["violations"]
    return [f"{v['id']}: {v['help']} ({node['html'][:200]})" for v in found for node in v["nodes"]]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_accessible_in_both_themes_and_widths(
    open_page: Open, picture: Callable[..., None], name: str, theme: str
) -> None:
    page = open_page(name, theme=theme)
    assert brightness(page) > 0.9 if theme == "light" else brightness(page) < 0.2
    for width in (1280, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        picture(page, f"{name}-{theme}-{width}")
        assert violations(page) == []
        assert overflow(page) <= 0


def test_a_deep_link_shows_what_it_names(open_page: Open) -> None:
    page = open_page("latents", method="logit_lens", failures="yes", open="demo_run")
    assert page.get_by_role("switch", name="Only failures").is_checked()
    page.reload()
    wait_until_settled(page)
    assert "method=logit_lens" in query(page) and page.get_by_role("switch", name="Only failures").is_checked()


def test_back_returns_to_the_view_before(open_page: Open) -> None:
    def title(text: str) -> None:
        page.wait_for_function("(text) => document.querySelector('h1')?.textContent.includes(text)", arg=text)
        wait_until_settled(page)

    page = open_page("traces", search="start")
    page.get_by_role("link", name="Probes", exact=True).click()
    title("Probes")
    page.go_back()
    title("Traces")
    assert "search=start" in query(page)
    assert page.get_by_label("Search all text").input_value() == "start"


def test_slash_goes_to_the_search(open_page: Open) -> None:
    page = open_page("traces")
    page.get_by_label("Search all text").wait_for()
    page.keyboard.press("/")
    assert focused(page)["label"] == "Search all text"
    # In a text field, keys are text.
    page.keyboard.type("a/b?")
    assert page.get_by_label("Search all text").input_value() == "a/b?"


def test_question_mark_lists_the_keys(open_page: Open) -> None:
    page = open_page("home")
    keys = page.get_by_role("dialog", name="Keys")
    assert not keys.is_visible()
    page.keyboard.press("?")
    assert keys.is_visible()
    assert keys.locator("dt").all_inner_texts() == [key for key, _ in KEYS]
    assert violations(page) == []
    page.keyboard.press("Escape")
    assert not keys.is_visible()
    page.get_by_role("button", name="Keys").click()
    assert keys.is_visible()


@pytest.mark.parametrize("name", NAMES)
def test_tab_reaches_every_control_in_reading_order(open_page: Open, name: str) -> None:
    page = open_page(name)
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
    assert page.evaluate("() => [...window.left].map((e) => e.outerHTML.slice(0, 300))") == []


def test_the_report_is_one_page_that_asks_nothing(open_page: Open, chromium: Any, demo_run: Any) -> None:
    report = demo_run / "report.html"
    page = chromium.page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    page.wait_for_load_state("load")
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert page.locator("h1").count() == 1
    page.context.close()
