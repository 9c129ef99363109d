"""Checks in front of the dashboard's server: Host, Origin and token of every request, over HTTP and over the websocket.

Streamlit checks Host and Origin on its websocket only, and asks an outside service for this machine's address when an
Origin is foreign. Requests that are refused here never reach it.
"""

from __future__ import annotations

import secrets
from http import HTTPStatus
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

NAMES = ("127.0.0.1", "localhost")
TOKEN = "token"
# A browser that keeps to this policy loads nothing from another host, whatever a page holds.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_NO_TOKEN = "This dashboard needs its token. Open the URL that `cotlens dash` printed when it started.\n"
_FOREIGN = "This dashboard answers its own pages on this machine only.\n"


def new_token() -> str:
    """Return a random token for a URL."""
    return secrets.token_urlsafe(24)


class Guard:
    """Lets the requests of the dashboard's own pages through, and refuses all others.

    A request needs a Host that names this machine, no Origin or the same one, and the token. The token comes in the URL
    (`?token=…`) once; the answer keeps it in a cookie and leads to the same URL without it, so that a copied link does
    not hold it.

    Args:
        app: The application behind.
        port: Port of the server; cookies are not kept apart by port, so their name has it.
        token: The token; None lets everybody on this machine in.
    """

    def __init__(self, app: ASGIApp, *, port: int, token: str | None) -> None:
        self._app, self._token = app, token
        self._cookie = f"cotlens-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        answer = self._answer(HTTPConnection(scope))
        if answer is None:
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await WebSocketClose(code=1008)(scope, receive, send)
        else:
            await answer(scope, receive, _with_headers(send))

    def _answer(self, request: HTTPConnection) -> Response | None:
        """Return the answer to a request that is not handed on; None for one that is."""
        if not _is_own(request):
            return PlainTextResponse(_FOREIGN, HTTPStatus.FORBIDDEN)
        if self._token is None:
            return None
        given = request.query_params.getlist(TOKEN)
        if given and request.scope["type"] == "http":
            return self._enter(request) if self._is_token(given[0]) else _refused()
        return None if self._is_token(request.cookies.get(self._cookie, "")) else _refused()

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode(), (self._token or "").encode())

    def _enter(self, request: HTTPConnection) -> Response:
        """Return the answer that keeps the token in a cookie and leads to the URL without it."""
        query = urlencode([(key, value) for key, value in parse_qsl(request.url.query, True) if key != TOKEN])
        # With two slashes in front, a browser would take the path for another host's name.
        path = "/" + quote(request.url.path.replace("\\", "/").lstrip("/"))
        answer = RedirectResponse(f"{path}?{query}" if query else path, HTTPStatus.SEE_OTHER)
        answer.headers["Cache-Control"] = "no-store"
        answer.set_cookie(self._cookie, self._token or "", httponly=True, samesite="lax")
        return answer


def _refused() -> Response:
    return PlainTextResponse(_NO_TOKEN, HTTPStatus.FORBIDDEN)


def _is_own(request: HTTPConnection) -> bool:
    """Return whether a request names this machine and comes from no other web page."""
    headers = request.headers
    hosts, origins = headers.getlist("host"), headers.getlist("origin")
    if len(hosts) != 1 or _name(hosts[0]) not in NAMES:
        return False
    # The port may differ from the server's own: a tunnel has a port of its own.
    if any(origin.lower() not in (f"http://{hosts[0]}".lower(), f"https://{hosts[0]}".lower()) for origin in origins):
        return False
    # Pages of other servers on this machine send cookies too; they may only lead here.
    site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode", "navigate")
    return site in ("none", "same-origin") or (mode == "navigate" and headers.get("sec-fetch-dest") == "document")


def _name(host: str) -> str:
    """Return the name in a Host header, or an empty text where it is no plain name with a port."""
    try:
        parts = urlsplit(f"//{host}")
        plain = parts.hostname is not None and host.lower() in (parts.hostname, f"{parts.hostname}:{parts.port}")
    except ValueError:
        return ""
    return str(parts.hostname) if plain else ""


def _with_headers(send: Send) -> Send:
    """Return `send`, which also sends the headers that keep browsers from other hosts."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
        await send(message)

    return sending
