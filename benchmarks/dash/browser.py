"""A headless Chromium that is driven by Playwright, and keeps a list of the hosts that pages ask."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from dashboards.launch import HOST

#: Chromium then asks no host for updates, lists or a profile of its own.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # No name of another host leads anywhere. Requests are not held up to look at them, as that takes longer than a
    # request to this machine does.
    f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {HOST}",
)
NAMES = ("chromium", "chromium-browser", "google-chrome")
# Streamlit marks its root element while a page is drawn.
_DRAWN = '[data-testid="stApp"][data-test-script-state="notRunning"]'
# A page answers keys once this list is filled, which is after the page is drawn.
_KEYS_LISTED = "dialog dt"
_SETTLE_MS = 500  # charts are drawn again after the window changes
_LOCAL_SCHEMES = ("data", "blob", "about", "file")

# Keeps when a sign was first to be seen, looked for in each frame. Components draw into roots of their own.
_WATCH = """([css, text]) => {
  const all = (root) => [...root.querySelectorAll(css),
    ...[...root.querySelectorAll("*")].filter((e) => e.shadowRoot).flatMap((e) => all(e.shadowRoot))];
  const look = () => {
    const isSeen = all(document).some((e) => e.checkVisibility() && e.textContent.includes(text));
    if (isSeen) window.seenAt = performance.timeOrigin + performance.now();
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""

Theme = Literal["light", "dark"]


def chromium() -> str | None:
    """Return the path of the system's Chromium; None where there is none."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


def why_no_browser() -> str:
    """Return why no browser can be driven here; empty where one can."""
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "the Python package playwright is not installed; `pip install playwright`"
    return "" if chromium() else "chromium is not installed; `apt-get install -y chromium`"


@dataclass
class Browser:
    """A Chromium and what its pages asked for.

    Attributes:
        driver: Playwright's browser.
        outside: URLs of other hosts that pages asked for; none of these requests leaves.
    """

    driver: Any
    outside: list[str] = field(default_factory=list)

    def page(self, *, theme: Theme = "light", width: int = 1280, height: int = 900) -> Any:
        """Return a new page, with cookies of its own.

        Args:
            theme: What the reader's system says.
            width: Of the window, in pixels.
            height: Of the window, in pixels.
        """
        context = self.driver.new_context(
            color_scheme=theme, viewport={"width": width, "height": height}, accept_downloads=True
        )
        context.on("request", lambda request: self._note(request.url))
        page = context.new_page()
        page.on("websocket", lambda socket: self._note(socket.url))
        return page

    def _note(self, url: str) -> None:
        """Keep a URL of another host."""
        parts = urlsplit(url)
        if parts.scheme not in _LOCAL_SCHEMES and parts.hostname != HOST:
            self.outside.append(url)


@dataclass(frozen=True)
class Sign:
    """What shows that a page is useful: an element that can be seen, with a text in it.

    Attributes:
        css: Selector of the element.
        text: The text.
    """

    css: str
    text: str = ""


#: The title of a page.
TITLE = Sign("h1")


def seconds_to(running: Browser, url: str, sign: Sign, timeout: float = 120.0) -> float:
    """Open a page in a new context, and return the seconds until it shows a sign.

    The page looks for the sign itself, in each frame. Playwright looks at growing intervals of up to half a second.

    Args:
        running: The browser.
        url: URL of the page.
        sign: What is waited for.
        timeout: In seconds.
    """
    page = running.page()
    page.add_init_script(f"({_WATCH})({json.dumps([sign.css, sign.text])})")
    started = time.time()
    page.goto(url)
    page.wait_for_function("() => window.seenAt", timeout=timeout * 1000)
    seen = float(page.evaluate("() => window.seenAt"))
    page.context.close()
    return seen / 1000 - started


def in_turns(contestants: Mapping[str, Callable[[], float]], repetitions: int) -> dict[str, list[float]]:
    """Return what contestants measure, one after another in each round; a warm-up round comes first and is not counted."""
    rounds = [{name: measure() for name, measure in contestants.items()} for _ in range(repetitions + 1)][1:]
    return {name: [taken[name] for taken in rounds] for name in contestants}


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a Chromium, and end it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        driver = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        try:
            yield Browser(driver)
        finally:
            driver.close()


def wait_until_drawn(page: Any, timeout: float = 60.0) -> None:
    """Wait until a page of the dashboard is drawn.

    Args:
        page: Playwright's page.
        timeout: In seconds.
    """
    page.wait_for_selector(_DRAWN, timeout=timeout * 1000)
    page.wait_for_selector("h1", timeout=timeout * 1000)
    # Streamlit says that it is done before the last elements are on the page.
    page.wait_for_function(
        '() => !document.querySelector(\'[data-testid="stSkeleton"], [data-testid="stAppSkeleton"]\')',
        timeout=timeout * 1000,
    )


def wait_until_settled(page: Any, timeout: float = 60.0) -> None:
    """Wait until a page of the dashboard is drawn, answers keys, and no element has come or gone for a moment.

    Args:
        page: Playwright's page.
        timeout: In seconds; a page that is never still counts as settled after it.
    """
    wait_until_drawn(page, timeout)
    page.wait_for_selector(_KEYS_LISTED, state="attached", timeout=timeout * 1000)
    page.evaluate(
        """([still, limit]) => new Promise((resolve) => {
          const done = () => { watch.disconnect(); clearTimeout(timer); resolve(); };
          let timer = setTimeout(done, still);
          const watch = new MutationObserver(() => { clearTimeout(timer); timer = setTimeout(done, still); });
          watch.observe(document.body, {childList: true, subtree: true});
          setTimeout(done, limit);
        })""",
        [_SETTLE_MS, timeout * 1000],
    )


def wait_for_theme(page: Any, theme: Theme, timeout: float = 60.0) -> None:
    """Wait until the background of a page is light or dark.

    Args:
        page: Playwright's page.
        theme: The theme.
        timeout: In seconds.
    """
    page.wait_for_function(
        """(isDark) => {
          const colour = getComputedStyle(document.querySelector('[data-testid="stApp"]')).backgroundColor;
          const sum = colour.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0) / 765;
          return isDark ? sum < 0.2 : sum > 0.9;
        }""",
        arg=theme == "dark",
        timeout=timeout * 1000,
    )
    wait_until_settled(page, timeout)


def screenshot(page: Any, path: Path) -> None:
    """Write a picture of a whole page, not only of what the window shows.

    Args:
        page: Playwright's page.
        path: PNG file to write.
    """
    before = page.viewport_size
    # Streamlit scrolls a part of the window, which a picture of the whole document would cut off.
    height = page.evaluate("() => document.querySelector('[data-testid=\"stMain\"]').scrollHeight")
    page.set_viewport_size({"width": before["width"], "height": max(int(height), before["height"])})
    page.wait_for_timeout(_SETTLE_MS)
    page.screenshot(path=path)
    page.set_viewport_size(before)
