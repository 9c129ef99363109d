"""The code of Streamlit's pages in the browser: sent at once, and asked for before it is needed."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: What every page draws first. The browser would ask for each only after the page has told it to draw one.
ELEMENTS = ("PageLink", "Html", "BidiComponent", "Selectbox", "Button", "TextInput", "Checkbox")
# Without this the browser takes the path of a page for that of the server, asks there first and waits after the refusal.
_SERVER = b"<script>window.__streamlit = {BACKEND_BASE_URL: location.origin};</script>"
_SCRIPTS = "/static/js/"
_NAME = re.compile(r"[\w.-]+\.js")
_IMPORT = re.compile(r'(?:from|import)\s*"\./([\w.-]+\.js)"')
# Their names hold a hash of what they hold.
_FOREVER = "public, max-age=31536000, immutable"


@functools.cache
def streamlit_files() -> Path:
    """Return the folder of what Streamlit sends to browsers."""
    import streamlit

    return Path(streamlit.__file__).parent / "static"


class Assets:
    """Sends scripts in one piece, and lists in each page those that it needs first.

    Streamlit sends files through other threads in small pieces, which takes longer than the browser needs to read them.

    Args:
        app: The application behind.
        folder: What is sent to browsers; Streamlit's by default.
    """

    def __init__(self, app: ASGIApp, *, folder: Path | None = None) -> None:
        self._app = app
        self._folder = streamlit_files() if folder is None else folder
        self._head = _SERVER + b"".join(
            f'<link rel="modulepreload" crossorigin href=".{_SCRIPTS}{name}">'.encode()
            for name in scripts_of(ELEMENTS, self._folder)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        path = self._script(scope["path"])
        if path is not None:
            answer = Response(path.read_bytes(), media_type="text/javascript", headers={"Cache-Control": _FOREVER})
            await answer(scope, receive, send)
        elif "text/html" in Request(scope).headers.get("accept", ""):
            # Not packed, so that it can be added to; it is small.
            headers = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
            await self._app({**scope, "headers": headers}, receive, _with_head(send, self._head))
        else:
            await self._app(scope, receive, send)

    def _script(self, path: str) -> Path | None:
        """Return the file of a script; None where the path names none."""
        name = path.removeprefix(_SCRIPTS)
        if name == path or not _NAME.fullmatch(name):
            return None
        file = self._folder / "static" / "js" / name
        return file if file.is_file() else None


def scripts_of(elements: Iterable[str], folder: Path) -> list[str]:
    """Return the scripts that draw some elements and all that those import, but for what every page lists already.

    Args:
        elements: First parts of the names of scripts; those that are not there are left out.
        folder: The folder of what is sent to browsers.
    """
    scripts = folder / "static" / "js"
    index = folder / "index.html"
    listed = set(_NAME.findall(index.read_text(encoding="utf-8"))) if index.is_file() else set()
    found: dict[str, None] = {}
    waiting = [path.name for element in elements for path in sorted(scripts.glob(f"{element}.*.js"))]
    while waiting:
        name = waiting.pop(0)
        if name in listed or name in found or not (scripts / name).is_file():
            continue
        found[name] = None
        waiting += _IMPORT.findall((scripts / name).read_text(encoding="utf-8"))
    return list(found)


def _with_head(send: Send, head: bytes) -> Send:
    """Return `send`, which adds to the head of an HTML page that is sent whole."""
    start: list[Message] = []
    body: list[bytes] = []

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            kind = MutableHeaders(scope=message).get("content-type", "")
            if message["status"] == HTTPStatus.OK and kind.startswith("text/html"):
                start.append(message)
                return
        if not start:
            await send(message)
            return
        body.append(message.get("body", b""))
        if message.get("more_body"):
            return
        page = b"".join(body).replace(b"</head>", head + b"</head>", 1)
        headers = MutableHeaders(scope=start[0])
        headers["content-length"] = str(len(page))
        for name in ("etag", "last-modified"):  # of the page without the addition
            del headers[name]
        await send(start[0])
        await send({"type": "http.response.body", "body": page})

    return sending
