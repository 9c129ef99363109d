"""Requests with a forged Host, Origin or token, over HTTP and over the websocket."""

from __future__ import annotations

import http.client
from typing import Any

from benchmarks.dash.server import DashServer
from dashboards.launch import HOST

_STREAM = "/_stcore/stream"


def refused_share(server: DashServer) -> dict[str, Any]:
    """Return the share of forged requests that a server refuses. One that is not forged must get through.

    Args:
        server: A running dashboard with a token.

    Raises:
        RuntimeError: The server refuses its own pages too, so that refusals show nothing.
    """
    host, cookie = f"{HOST}:{server.port}", f"cotlens-{server.port}={server.token}"
    own = {"Host": host, "Origin": f"http://{host}", "Cookie": cookie}
    for upgrade in (False, True):
        status = _status(server.port, own, upgrade=upgrade)
        if status not in (101, 200):
            raise RuntimeError(f"expected the dashboard to answer its own pages, got {status}.")
    names = ("evil.example", f"evil.example:{server.port}", f"{HOST}.evil.example", f"{HOST}@evil.example", "[::1]", "")
    origins = ("http://evil.example", "null", f"http://{HOST}:1", f"http://{host}.evil.example", "file://")
    forged = [
        *({**own, "Host": name} for name in names),
        *({**own, "Origin": origin} for origin in origins),
        *({**own, "Cookie": f"cotlens-{server.port}={token}"} for token in ("", "x", server.token[:-1])),
        {**own, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
    ]
    passed = [
        f"{'websocket' if upgrade else 'HTTP'} {headers}"
        for headers in forged
        for upgrade in (False, True)
        if _status(server.port, headers, upgrade=upgrade) in (101, 200)
    ]
    n = 2 * len(forged)
    note = (
        f"got through: {'; '.join(passed[:3])}"
        if passed
        else "Host, Origin, token and fetch metadata, HTTP and websocket"
    )
    return {"value": 1 - len(passed) / n, "n": n, "unit": "", "note": note}


def _status(port: int, headers: dict[str, str], *, upgrade: bool) -> int:
    """Return the status of an answer; 101 where a websocket was opened, 0 where the connection was closed."""
    more = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    more |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    connection.putrequest("GET", _STREAM if upgrade else "/", skip_host=True, skip_accept_encoding=True)
    for name, value in {**headers, **(more if upgrade else {})}.items():
        connection.putheader(name, value)
    try:
        connection.endheaders()
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
