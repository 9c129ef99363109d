"""Small answers that are sent at once."""

from __future__ import annotations

import asyncio
import functools
import socket


def send_at_once() -> None:
    """Let the servers that this process starts send each answer at once.

    An answer is written in two parts, head and body. By default the system keeps the second back until the other side has
    confirmed the first, which browsers do 40 ms later; a page asks for some hundred small files. Asyncio turns that off
    only for sockets that name their protocol, which Streamlit's does not.
    """
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    connected = AutoHTTPProtocol.connection_made
    if hasattr(connected, "__wrapped__"):
        return

    @functools.wraps(connected)
    def connection_made(self: asyncio.BaseProtocol, transport: asyncio.BaseTransport) -> None:
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected(self, transport)  # type: ignore[call-arg, arg-type]

    setattr(AutoHTTPProtocol, connected.__name__, connection_made)
