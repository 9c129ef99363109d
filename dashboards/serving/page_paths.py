"""Lead a browser from a path without a page to the nearest page, which says so."""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from dashboards.pages import titles

NOT_FOUND = "not_found"
_SERVER = ("_stcore", "static", "media", "component", "app")


class PagePaths:
    """Redirects visits of paths that no page has, such as /latents/x; Streamlit would leave them blank.

    Args:
        app: The application behind.
        pages: Names of the pages; those of the app by default.
    """

    def __init__(self, app: ASGIApp, *, pages: Collection[str] | None = None) -> None:
        self._app, self._pages = app, pages if pages is not None else tuple(titles())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        page = self._nearest(Request(scope)) if scope["type"] == "http" else None
        if page is None:
            await self._app(scope, receive, send)
            return
        given = list(Request(scope).query_params.multi_items())
        query = urlencode([*given, (NOT_FOUND, scope["path"])])
        await RedirectResponse(f"/{page}?{query}", HTTPStatus.SEE_OTHER)(scope, receive, send)

    def _nearest(self, request: Request) -> str | None:
        """Return the page to lead to (empty for home); None for a path that is fine, or that no browser visits."""
        first, *rest = request.url.path.strip("/").split("/")
        is_visit = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        if not is_visit or first in _SERVER or "." in (rest or [first])[-1]:
            return None
        if first in self._pages or not first:
            return first if rest else None
        return ""
