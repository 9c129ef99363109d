"""Scripts for browsers: sent whole, and listed in the pages that need them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from dashboards.serving.assets import ELEMENTS, Assets, scripts_of, streamlit_files

PAGE = "<html><head><title>A page</title></head><body>{}</body></html>".format("text " * 300)
BROWSER = {"accept": "text/html,*/*"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files for a browser: a button that imports two scripts, one of which the page lists itself."""
    scripts = tmp_path / "static" / "js"
    scripts.mkdir(parents=True)
    (tmp_path / "index.html").write_text(
        '<head><script src="./static/js/index.a1.js"></script></head>', encoding="utf-8"
    )
    (scripts / "index.a1.js").write_text("start()", encoding="utf-8")
    (scripts / "Button.b2.js").write_text(
        'import{a}from"./index.a1.js";import"./useField.c3.js";const d="é";', encoding="utf-8"
    )
    (scripts / "useField.c3.js").write_text('export*from"./Button.b2.js"', encoding="utf-8")
    (scripts / "secret.txt").write_text("no script", encoding="utf-8")
    return tmp_path


@pytest.fixture
def client(folder: Path) -> TestClient:
    routes = [
        Route("/traces", lambda _: HTMLResponse(PAGE)),
        Route("/gone", lambda _: HTMLResponse(PAGE, 404)),
        Route("/{rest:path}", lambda _: PlainTextResponse("from behind")),
    ]
    behind = [Middleware(Assets, folder=folder), Middleware(GZipMiddleware)]
    return TestClient(Starlette(routes=routes, middleware=behind))


def test_scripts_and_all_that_they_import_are_found_once(folder: Path) -> None:
    assert scripts_of(["Button", "NoSuchElement"], folder) == ["Button.b2.js", "useField.c3.js"]


def test_streamlit_has_a_script_for_every_element() -> None:
    names = scripts_of(ELEMENTS, streamlit_files())
    assert set(ELEMENTS) <= {name.partition(".")[0] for name in names}
    assert all((streamlit_files() / "static" / "js" / name).is_file() for name in names)


def test_a_page_lists_its_scripts(client: TestClient, folder: Path) -> None:
    answer = client.get("/traces", headers=BROWSER)
    assert re.findall(r'rel="modulepreload" crossorigin href="\./static/js/([^"]+)"', answer.text) == scripts_of(
        ELEMENTS, folder
    )
    assert re.sub("<link[^>]*>|<script>[^<]*</script>", "", answer.text) == PAGE
    assert "BACKEND_BASE_URL: location.origin" in answer.text
    assert int(answer.headers["content-length"]) == len(answer.content)


@pytest.mark.parametrize(
    ("path", "headers", "text"),
    [("/gone", BROWSER, PAGE), ("/traces", {"accept": "application/json"}, PAGE), ("/text", BROWSER, "from behind")],
)
def test_all_else_stays_as_it_is(client: TestClient, path: str, headers: dict[str, str], text: str) -> None:
    assert client.get(path, headers=headers).text == text


def test_a_script_is_sent_whole_and_kept_by_the_browser(client: TestClient, folder: Path) -> None:
    answer = client.get("/static/js/Button.b2.js")
    assert answer.content == (folder / "static" / "js" / "Button.b2.js").read_bytes()
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    "name", ["secret.txt", "../../index.html", "%2e%2e/index.html", "none.js", "..%2fjs%2fx.js", ""]
)
def test_no_other_file_is_sent(client: TestClient, name: str) -> None:
    assert client.get(f"/static/js/{name}").text == "from behind"
