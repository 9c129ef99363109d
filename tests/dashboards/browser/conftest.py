"""A dashboard and a headless Chromium for the tests of this folder, all of them slow.

`COTLENS_SCREENSHOTS=FOLDER` keeps a picture of every page there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from benchmarks.dash.browser import Browser, browser, screenshot, wait_until_settled, why_no_browser
from benchmarks.dash.server import DashServer
from dashboards.pages import PAGES

EXPECT_MS = 60_000  # a loaded machine is slow; what is waited for usually comes at once
NAMES = ("home", *(page.name for page in PAGES))

# Read now: a test begins without settings of this project.
SCREENSHOTS = os.environ.get("COTLENS_SCREENSHOTS")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)


# Of the module, not of the session: Playwright keeps an event loop running, which asyncio in other tests cannot bear.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser; a request to another host fails the test that made it."""
    missing = why_no_browser()
    if missing:
        pytest.skip(missing)
    from playwright.sync_api import expect

    expect.set_options(timeout=EXPECT_MS)
    with browser() as running:
        yield running


@pytest.fixture(scope="session")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., DashServer]]:
    """Return the dashboard over some files and folders, each started once."""
    servers: dict[tuple[Path, ...], DashServer] = {}
    with ExitStack() as stack:

        def start(*roots: Path) -> DashServer:
            if roots not in servers:
                servers[roots] = stack.enter_context(DashServer(roots, tmp_path_factory.mktemp("home")))
            return servers[roots]

        yield start


@pytest.fixture
def open_page(chromium: Browser, dashboard: Callable[..., DashServer], demo_run: Path) -> Iterator[Callable[..., Any]]:
    """Open a page of the dashboard (over the shared run by default), and wait until it can be used.

    Arguments: name of the page, `roots`, `theme` ("light" or "dark"), `width`, `height`, and its settings. Returns
    Playwright's page.
    """
    asked_before, pages = len(chromium.outside), []

    def open_one(
        name: str,
        *,
        roots: tuple[Path, ...] = (),
        theme: str = "light",
        width: int = 1280,
        height: int = 900,
        **params: str,
    ) -> Any:
        page = chromium.page(theme=theme, width=width, height=height)  # type: ignore[arg-type]
        pages.append(page)
        page.goto(dashboard(*(roots or (demo_run,))).url(name, **params))
        wait_until_settled(page)
        return page

    yield open_one
    for page in pages:
        page.context.close()
    assert chromium.outside[asked_before:] == [], "a page asked another host"


# Opening a page costs more than what is looked at, so tests that only look share one. Pytest runs all tests of a page
# before it opens the next.
@pytest.fixture(scope="module", params=NAMES)
def shared_page(
    request: pytest.FixtureRequest, chromium: Browser, dashboard: Callable[..., DashServer], demo_run: Path
) -> Iterator[Any]:
    """A page over the shared run, light and 1280 pixels wide; a test must leave it so. Its name: `shared_page.name`."""
    asked_before, page = len(chromium.outside), chromium.page()
    page.goto(dashboard(demo_run).url(request.param))
    wait_until_settled(page)
    page.name = request.param
    yield page
    page.context.close()
    assert chromium.outside[asked_before:] == [], "a page asked another host"


@pytest.fixture(scope="session")
def picture() -> Callable[[Any, str], None]:
    """Keep a picture of a page, in the folder of COTLENS_SCREENSHOTS; nothing without it."""

    def keep(page: Any, name: str) -> None:
        if SCREENSHOTS:
            folder = Path(SCREENSHOTS)
            folder.mkdir(parents=True, exist_ok=True)
            screenshot(page, folder / f"{name}.png")

    return keep
