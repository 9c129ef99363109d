"""The grid of the trace explorer under the mouse and the keyboard: a locked cell, its card, and the URL agree."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from benchmarks.dash.browser import wait_for_theme, wait_until_settled
from benchmarks.dash.long_traces import long_store
from interp.activations import Store

Open = Callable[..., Any]
SAID = re.compile(r"Locked: (?P<layer>.+?), position (?P<position>\d+), token (?P<token>.+?), (?P<place>[^,]+): ")


@pytest.fixture
def explorer(open_page: Open, demo_run: Any) -> Iterator[tuple[Any, int]]:
    """The explorer over the shared run at its first trace, and the position of that trace's first thought."""
    index = Store(demo_run / "store").index
    row = index[index["place"] == "thought 1"].iloc[0]
    yield open_page("explorer", trace=str(row["trace"]), readout="top1"), int(row["position"])


@pytest.fixture(scope="module")
def long_traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose traces have 700 positions: more than the closest zoom shows."""
    folder = tmp_path_factory.mktemp("long") / "store"
    long_store(folder, 700, 2)
    return folder


def fact(page: Any, name: str) -> Any:
    """What the card says of the locked cell."""
    return page.locator(f".cot-facts div:has(span:text-is('{name}')) b")


def expect_card(page: Any) -> dict[str, str]:
    """Wait until card and URL are those of the cell that the grid says is locked, and return that cell."""
    live = page.locator(".live")
    expect(live).to_contain_text("Locked:")
    said = live.inner_text()
    cell = SAID.match(said)
    assert cell, said
    expect(page).to_have_url(re.compile(rf"[?&]position={cell['position']}(&|$)"))
    for name in ("layer", "position", "token", "place"):
        expect(fact(page, name)).to_have_text(cell[name])
    best = re.search(r"reads (.+)$", said)
    if best:  # the likeliest token in the cell is the first of the card's table
        table = page.locator(".st-key-locked_cell").get_by_test_id("stTable").first
        expect(table.locator("tbody tr").first.locator("td").nth(1)).to_have_text(best[1])
    return cell.groupdict()


@pytest.mark.parametrize("width", [1920, 1000])
def test_the_minimap_is_as_wide_as_the_grid_in_a_window_of_another_size(explorer: tuple[Any, int], width: int) -> None:
    page, _ = explorer
    page.set_viewport_size({"width": width, "height": 900})
    wait_until_settled(page)
    widths = [page.locator(f".frame {part}").first.bounding_box()["width"] for part in ("canvas.map", ".body")]
    assert abs(widths[0] - widths[1]) <= 1


def test_a_click_locks_the_cell_under_it(explorer: tuple[Any, int]) -> None:
    page, _ = explorer
    expect(page.locator(".live")).to_contain_text("No cell is locked")
    cells = page.locator(".cells")
    box = cells.bounding_box()
    seen = []
    for x, y in ((0.5, 0.25), (0.8, 0.25), (0.8, 0.7)):
        where = {"x": 82 + x * (box["width"] - 82), "y": 20 + y * (box["height"] - 36)}
        cells.hover(position=where)
        named = cells.get_attribute("title")
        cells.click(position=where)
        expect(page.locator(".live")).to_have_text(f"Locked: {named}")
        seen.append(expect_card(page))
    first, right, below = seen
    assert int(right["position"]) > int(first["position"]) and right["layer"] == first["layer"]
    assert below["position"] == right["position"] and below["layer"] != right["layer"]
    page.reload()
    wait_until_settled(page)
    assert expect_card(page) == below


def test_arrow_keys_move_the_lock_and_escape_takes_it_away(explorer: tuple[Any, int]) -> None:
    page, _ = explorer
    page.locator(".pane").focus()
    page.keyboard.press("ArrowRight")
    first = expect_card(page)
    page.keyboard.press("ArrowRight")
    expect(fact(page, "position")).to_have_text(str(int(first["position"]) + 1))
    assert expect_card(page)["layer"] == first["layer"]
    page.keyboard.press("ArrowDown")
    expect(fact(page, "layer")).not_to_have_text(first["layer"])
    below = expect_card(page)
    assert int(below["position"]) == int(first["position"]) + 1
    # A key that is held moves many cells; the card is the last one's.
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(fact(page, "position")).to_have_text(str(int(below["position"]) + 3))
    assert expect_card(page)["layer"] == below["layer"]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    expect(fact(page, "position")).to_have_text(str(int(below["position"]) + 2))
    assert expect_card(page)["layer"] == first["layer"]
    page.keyboard.press("Escape")
    expect(page.locator(".live")).to_contain_text("No cell is locked")
    expect(page.locator(".cot-facts")).to_have_count(0)
    expect(page).not_to_have_url(re.compile("position="))


def test_a_locked_thought_is_read_where_the_url_says(explorer: tuple[Any, int], open_page: Open) -> None:
    page, position = explorer
    trace = re.search(r"trace=(\d+)", page.url)
    assert trace
    linked = open_page("explorer", trace=trace[1], readout="top1", position=str(position), layer="blocks.1.hook_out")
    cell = expect_card(linked)
    assert cell["place"] == "thought 1" and int(cell["position"]) == position
    assert linked.locator(".part[aria-selected=true]").inner_text().startswith("thought 1")


def test_a_locked_cell_is_kept_over_a_switch_of_pages(explorer: tuple[Any, int]) -> None:
    page, _ = explorer
    page.locator(".pane").focus()
    page.keyboard.press("ArrowRight")
    cell = expect_card(page)
    page.get_by_role("link", name="Probes", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Probes")
    wait_until_settled(page)
    page.get_by_role("link", name="Trace explorer", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Trace explorer")
    wait_until_settled(page)
    assert expect_card(page) == cell


def test_zoom_and_shift_draw_the_whole_page_again(open_page: Open, long_traces: Any) -> None:
    page = open_page("explorer", roots=(long_traces,), readout="norm")
    caption = page.get_by_text(re.compile(r"Positions [\d,]+ to [\d,]+ of 700"))
    expect(caption).to_contain_text("Positions 0 to 699")
    page.get_by_role("button", name="Tokens").click()
    expect(page).to_have_url(re.compile("zoom=tokens"))
    expect(caption).not_to_contain_text("Positions 0 to 699")
    page.get_by_role("button", name="Later positions").click()
    expect(page).to_have_url(re.compile("start="))
    wait_until_settled(page)
    shown = re.search(r"Positions (\d+) to (\d+)", caption.inner_text())
    start = re.search(r"start=(\d+)", page.url)
    assert shown and start and shown[1] == start[1]
    assert page.locator(".pane").get_attribute("aria-label").find(f"positions {shown[1]} to {shown[2]}") > 0


def test_the_grid_follows_the_system_into_the_dark_and_keeps_its_lock(explorer: tuple[Any, int]) -> None:
    page, _ = explorer
    page.locator(".pane").focus()
    page.keyboard.press("ArrowRight")
    cell = expect_card(page)
    # The canvas paints its row names on the colour of the page.
    corner = """() => {
      const inside = (root) => [...root.querySelectorAll("*")].flatMap((e) => e.shadowRoot ? [e, ...inside(e.shadowRoot)] : [e]);
      const canvas = inside(document).find((e) => e.matches("canvas.cells"));
      return [...canvas.getContext("2d").getImageData(2, canvas.height - 3, 1, 1).data.slice(0, 3)];
    }"""
    assert min(page.evaluate(corner)) > 230
    for theme, is_right in (("dark", "Math.max(...rgb) < 60"), ("light", "Math.min(...rgb) > 230")):
        page.emulate_media(color_scheme=theme)
        wait_for_theme(page, theme)
        page.wait_for_function(f"() => {{ const rgb = ({corner})(); return {is_right}; }}")
        assert expect_card(page) == cell
