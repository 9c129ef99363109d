"""The other pages in a real browser: first paint, search, calls to other hosts, and forged requests."""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.dash.browser import TITLE, Browser, Sign, in_turns, seconds_to, wait_until_drawn
from benchmarks.dash.forged import refused_share
from benchmarks.dash.server import EMPTY_PAGE, DashServer
from benchmarks.harness import median_interval, ratio
from benchmarks.parts import Measures
from dashboards.pages import PAGES

TRACES, SEARCHES, PROBLEMS = 10_000, 20, 300
# Text below the title, or a message.
_USEFUL = Sign('[data-testid="stCaptionContainer"], [data-testid="stAlert"], [data-testid="stMetric"]')
_NO_HOST = ("127.0.0.1", "0.0.0.0")


@contextmanager
def demo_run() -> Iterator[Path]:
    """Make the run of a small demo."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        demo = [sys.executable, "-m", "cotlens.cli", "demo", "--n", str(PROBLEMS), "--out", str(run)]
        subprocess.run(demo, check=True, capture_output=True)
        yield run


def measure_pages(browser: Browser, repetitions: int) -> Measures:
    """Take the first paint of every page but the explorer, forged requests, and what was asked of other hosts."""
    with (
        demo_run() as run,
        DashServer([], command=EMPTY_PAGE) as empty,
        DashServer([run]) as server,
    ):
        measures = {
            "dash.other_paint": _paint(browser, empty, server, repetitions),
            "dash.forged_refused": refused_share(server),
        }
        asked = sorted({*browser.outside, *_connections(server)})
        measures["dash.outside_calls"] = {
            "value": len(asked),
            "n": len(PAGES) + 1,
            "unit": "",
            "note": "URLs that pages ask for, and addresses that the server has connections to, after every page and "
            "every forged request" + (f": {', '.join(asked[:5])}" if asked else ""),
        }
        return measures


def measure_search(browser: Browser, repetitions: int) -> Measures:
    """Take the time of a search over all that a model wrote in 10,000 traces."""
    with tempfile.TemporaryDirectory() as folder:
        traces = Path(folder) / "traces.parquet"
        _write_traces(traces)
        with DashServer([traces]) as server:
            return {"dash.search_ms": _search(browser, server)}


def _write_traces(path: Path) -> None:
    """Write traces of an organism, as often as it takes to have enough."""
    import interp

    reasoner = interp.load("chain-text")
    thought = list(reasoner.think(reasoner.task.generate(500, seed=0, split="test")))
    interp.TraceSet([replace(thought[k % len(thought)], id=k) for k in range(TRACES)]).to_parquet(path)


def _paint(browser: Browser, empty: DashServer, server: DashServer, repetitions: int) -> dict[str, Any]:
    """Return the worst page's time to its first text over the time to the title of an empty page."""
    names = [page.name for page in PAGES if page.name != "explorer"]
    contestants: dict[str, Callable[[], float]] = {"empty": partial(seconds_to, browser, empty.url(), TITLE)}
    for name in ("home", *names):
        contestants[name] = partial(seconds_to, browser, server.url(name), _USEFUL)
    seconds = in_turns(contestants, repetitions)
    ratios = {name: ratio(seconds, name, "empty") for name in ("home", *names)}
    worst = max(ratios, key=lambda name: ratios[name]["value"])
    every = ", ".join(f"{name} {figure['value']:.2f}" for name, figure in ratios.items())
    return ratios[worst] | {"note": f"worst: {worst}; {every}"}


def _search(browser: Browser, server: DashServer) -> dict[str, Any]:
    """Return the milliseconds from Enter in the search field to the number of traces that match."""
    page = browser.page()
    page.goto(server.url("traces"))
    wait_until_drawn(page)
    field = page.get_by_label("Search all text")
    times = []
    for number in range(SEARCHES + 1):
        # Each search has another number of matches than the one before.
        words = ("no such words", "start with")[number % 2]
        before = page.get_by_text(f"of {TRACES:,} traces match").inner_text()
        field.fill(words)
        started = time.perf_counter()
        field.press("Enter")
        page.wait_for_function(
            "(before) => [...document.querySelectorAll('p')].some((p) => p.textContent.includes('traces match') && "
            "!before.includes(p.textContent))",
            arg=before,
        )
        times.append(1000 * (time.perf_counter() - started))
    page.context.close()
    times = times[1:]  # the first reads the file
    return {
        "value": statistics.median(times),
        "ci": median_interval(times),
        "n": len(times),
        "unit": "ms",
        "note": f"{TRACES} traces, from Enter to the number of matches in the browser",
    }


def _connections(server: DashServer) -> set[str]:
    """Return the addresses of other machines that the server has connections to, or opens."""
    folder = Path(f"/proc/{server.process.pid}")
    own = {str(link.readlink()) for link in (folder / "fd").iterdir() if link.is_symlink()}
    rows = [line.split() for line in (folder / "net/tcp").read_text(encoding="utf-8").splitlines()[1:]]
    words = [row[2].partition(":")[0] for row in rows if f"socket:[{row[9]}]" in own]
    return {socket.inet_ntoa(bytes.fromhex(word)[::-1]) for word in words} - set(_NO_HOST)
