"""The trace explorer in a real browser: first paint, locking a cell, bytes of the websocket, and memory of the server."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.dash.browser import TITLE, Browser, Sign, in_turns, seconds_to, wait_until_drawn
from benchmarks.dash.long_traces import LAYERS, long_store
from benchmarks.dash.server import EMPTY_PAGE, DashServer
from benchmarks.harness import median_interval, ratio
from benchmarks.parts import Measures

SIZES = {"1k": 1_000, "10k": 10_000, "30k": 30_000}
LOCKS = 30
GROW_TRACES, GROW_LOCKS, GROW_TOKENS = 20, 25, 3_000
# What the grid says once it is drawn.
_GRID = Sign(".live", "No cell is locked")
_DRAWN = f"{_GRID.css}:has-text('{_GRID.text}')"
_IDLE = '[data-testid="stApp"][data-test-script-state="notRunning"]'


@contextmanager
def _server(tokens: Mapping[str, int], traces: int) -> Iterator[DashServer]:
    """Serve a store of long traces for each name."""
    with tempfile.TemporaryDirectory() as folder:
        roots = {name: Path(folder) / name for name in tokens}
        for name, root in roots.items():
            long_store(root, tokens[name], traces)
        with DashServer(list(roots.values())) as server:
            yield server


def measure_paint(browser: Browser, repetitions: int) -> Measures:
    """Take the time to the drawn grid over the time to the title of an empty page, at each size."""
    with DashServer([], command=EMPTY_PAGE) as empty, _server(SIZES, 2) as server:
        return _paints(browser, empty, server, repetitions)


def measure_lock(browser: Browser, repetitions: int) -> Measures:
    """Take the time from a click on a cell to its whole card, at 30k tokens."""
    with _server({"30k": SIZES["30k"]}, 2) as server:
        return {"dash.lock_ms": _locking(browser, server)}


def measure_bytes(browser: Browser, repetitions: int) -> Measures:
    """Take the bytes that a browser receives for the view of 30k tokens."""
    with _server({"30k": SIZES["30k"]}, 2) as server:
        return {"dash.websocket_mb_30k": _bytes(browser, server)}


def measure_memory(browser: Browser, repetitions: int) -> Measures:
    """Take the memory that the server keeps after 500 locked cells in 20 traces."""
    with _server({"grow": GROW_TOKENS}, GROW_TRACES) as server:
        return {"dash.grow_mb": _growth(browser, server)}


def _paints(browser: Browser, empty: DashServer, server: DashServer, repetitions: int) -> dict[str, dict[str, Any]]:
    """Return the time to the drawn grid over the time to the title of an empty page, at each size."""
    contestants = {"empty": partial(seconds_to, browser, empty.url(), TITLE)}
    for name in SIZES:
        contestants[name] = partial(seconds_to, browser, server.url("explorer", open=name), _GRID)
    seconds = in_turns(contestants, repetitions)
    note = f"{LAYERS} layers, a warm server and a new browser context each time; looked for in each frame"
    return {f"dash.paint_{name}": ratio(seconds, name, "empty") | {"note": note} for name in SIZES}


def _explorer(browser: Browser, server: DashServer, name: str) -> Any:
    page = browser.page()
    page.goto(server.url("explorer", open=name))
    page.wait_for_selector(_DRAWN, timeout=120_000)
    wait_until_drawn(page)
    return page


def _locking(browser: Browser, server: DashServer) -> dict[str, Any]:
    """Return the median time from a click on a cell to its whole card, at 30k tokens."""
    page = _explorer(browser, server, "30k")
    cells = page.locator(".cells")
    cells.scroll_into_view_if_needed()
    box = cells.bounding_box()
    times = []
    for k in range(LOCKS + 1):
        before = _card(page)
        # The pointer is on the cell before it is pressed, as a hand's is; Playwright's own click looks for it first.
        page.mouse.move(
            box["x"] + 100 + (37 * k) % (box["width"] - 120), box["y"] + 40 + (61 * k) % (box["height"] - 80)
        )
        started = time.perf_counter()
        page.mouse.down()
        page.mouse.up()
        page.wait_for_function(_CHANGED, arg=before, timeout=60_000)
        page.wait_for_selector(_IDLE, timeout=60_000)
        if k:
            times.append(1000 * (time.perf_counter() - started))
    page.context.close()
    return {
        "value": statistics.median(times),
        "ci": median_interval(times),
        "n": len(times),
        "unit": "ms",
        "note": f"{LAYERS} layers; from the press of the button until the card is the new cell's and the page is at rest",
    }


_CHANGED = """(before) => {
  const card = document.querySelector('.cot-facts');
  return card && card.innerText !== before && !card.closest('[data-stale="true"]');
}"""


def _card(page: Any) -> str:
    return str(page.evaluate("() => document.querySelector('.cot-facts')?.innerText ?? ''"))


def _bytes(browser: Browser, server: DashServer) -> dict[str, Any]:
    """Return the megabytes that a browser receives over the websocket until the view of 30k tokens is complete."""
    page, sizes = browser.page(), []

    def count(payload: str | bytes) -> None:
        sizes.append(len(payload))

    page.on("websocket", lambda socket: socket.on("framereceived", count))
    page.goto(server.url("explorer", open="30k"))
    page.wait_for_selector(_DRAWN, timeout=120_000)
    wait_until_drawn(page)
    page.context.close()
    return {"value": sum(sizes) / 1e6, "n": len(sizes), "unit": "MB", "note": "all frames until the page is complete"}


def _growth(browser: Browser, server: DashServer) -> dict[str, Any]:
    """Return by how many megabytes the server grows over 500 locked cells in 20 traces."""
    page = _explorer(browser, server, "grow")
    page.locator(".pane").focus()
    _press(page, "ArrowRight")
    before = _memory(server.process.pid)
    for number in range(GROW_TRACES):
        page.goto(server.url("explorer", open="grow", trace=str(number)))
        page.wait_for_selector(_DRAWN, timeout=120_000)
        page.locator(".pane").focus()
        for k in range(GROW_LOCKS):
            _press(page, "ArrowRight" if k % 3 else "ArrowDown")
    after = _memory(server.process.pid)
    page.context.close()
    note = f"anonymous memory of the server, {before:.0f} MB before; {GROW_TRACES} traces of {GROW_TOKENS:,} tokens"
    return {"value": after - before, "n": GROW_TRACES * GROW_LOCKS, "unit": "MB", "note": note}


def _press(page: Any, key: str) -> None:
    """Press a key in the grid and wait for the card."""
    before = _card(page)
    page.keyboard.press(key)
    page.wait_for_function(_CHANGED, arg=before, timeout=60_000)
    page.wait_for_selector(_IDLE, timeout=60_000)


def _memory(process: int) -> float:
    """Return the anonymous memory of a process in megabytes: files that are mapped, such as stores, do not count."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1000
