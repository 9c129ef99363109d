"""Panels are pinned, downloaded as one HTML file, and that file is read without a network and in print."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from benchmarks.dash.browser import wait_until_settled

Open = Callable[..., Any]
A4_WIDTH = 794 - 2 * 53  # pixels of an upright page between margins of 14 mm


def pin(page: Any, name: str | re.Pattern[str]) -> None:
    """Press a button that pins, and wait until the page says that it did."""
    page.get_by_role("button", name=name, exact=isinstance(name, str)).click()
    expect(page.get_by_test_id("stToast").filter(has_text="Pinned")).to_have_count(1)
    page.get_by_test_id("stToast").get_by_role("button", name="Close").first.click()
    expect(page.get_by_test_id("stToast")).to_have_count(0)


def test_pinned_panels_become_one_page_that_needs_no_network_and_prints_whole(
    open_page: Open, chromium: Any, demo_run: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"  # panels are kept in the first folder, and the shared run is not written into
    own.mkdir()
    page = open_page("latents", roots=(own, demo_run))
    pin(page, "Pin heatmap")
    pin(page, "Pin edits")
    page.get_by_role("link", name="Probes", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Probes")
    wait_until_settled(page)
    pin(page, re.compile("^Pin probe-"))
    page.get_by_role("link", name="Report builder", exact=True).click()
    expect(page.get_by_role("heading", level=2)).to_have_count(3)
    wait_until_settled(page)
    page.get_by_label("Title of the report").fill("Three panels")
    page.get_by_label("Title of the report").press("Enter")
    expect(page).to_have_url(re.compile("title=Three"))
    wait_until_settled(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Report: HTML, 3 panels").click()
    file = tmp_path / "report.html"
    download.value.save_as(file)

    reader = chromium.page(width=1280)
    reader.context.set_offline(True)
    asked: list[str] = []
    problems: list[str] = []
    reader.on("request", lambda request: asked.append(request.url))
    reader.on("pageerror", lambda error: problems.append(str(error)))
    reader.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    reader.goto(file.as_uri())
    expect(reader.get_by_role("heading", level=1)).to_have_text("Three panels")
    expect(reader.locator("section.panel")).to_have_count(3)
    expect(reader.locator(".js-plotly-plot .main-svg").first).to_be_visible()
    expect(reader.locator(".js-plotly-plot")).to_have_count(2)
    assert reader.locator("tbody tr").count() > 3
    text = reader.locator("main").inner_text()
    assert "by cotlens" in text and f"cotlens dash {own}" in text
    reader.emulate_media(media="print")
    reader.set_viewport_size({"width": A4_WIDTH, "height": 1000})
    cut_off = """(width) => [...document.querySelectorAll("main *")].filter((e) => {
      const box = e.getBoundingClientRect();
      return e.checkVisibility() && box.width && (box.right > width + 1 || box.left < -1) && !e.closest("svg, .modebar");
    }).map((e) => e.outerHTML.slice(0, 200))"""
    assert reader.evaluate(cut_off, A4_WIDTH) == []
    for svg in reader.locator(".js-plotly-plot .main-svg").all():
        box = svg.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= A4_WIDTH + 1
    assert reader.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
    assert asked == [file.as_uri()] and problems == []
    reader.context.close()
