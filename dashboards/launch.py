"""Start the dashboard: over which folders, at which URL, and with which settings of Streamlit."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from interp.errors import Interrupted, StoreError, UsageError
from interp.runtime import palette

HOST = "127.0.0.1"
ROOTS_VARIABLE = "COTLENS_DASH_ROOTS"
APP = Path(__file__).with_name("app.py")
DEFAULT_ROOT = Path("runs")


def checked_roots(paths: Sequence[Path]) -> list[Path]:
    """Return the files and folders to show, as absolute paths.

    Args:
        paths: What was asked for; runs/ by default, and this folder where there is none.

    Raises:
        StoreError: One of them does not exist.
    """
    for path in paths:
        if not path.exists():
            raise StoreError(
                f"expected a file or folder to show, got nothing at {path}. Make a run there: `cotlens study MODEL --out "
                f"{path}`, or `cotlens demo --out {path}`."
            )
    default = DEFAULT_ROOT if DEFAULT_ROOT.is_dir() else Path()
    return list(dict.fromkeys(path.resolve() for path in paths or [default]))


def url_of(port: int, token: str | None = None) -> str:
    """Return the URL to open.

    Args:
        port: Port on 127.0.0.1.
        token: The token that the server asks for; None where it asks for none.

    Raises:
        UsageError: The port is not between 1 and 65535, or is taken.
    """
    if isinstance(port, bool) or not 1 <= port <= 65535:
        raise UsageError(f"expected a --port between 1 and 65535, got {port}.")
    _check_free(port)
    url = f"http://{HOST}:{port}/"
    return f"{url}?{urlencode({'token': token})}" if token else url


def _check_free(port: int) -> None:
    """Raise `UsageError` where the port cannot be used."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the server does: a port where only closed connections linger is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            problem = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise UsageError(f"port {port} on {HOST} {problem}. Choose another with --port.") from None


def options(port: int) -> dict[str, Any]:
    """Return Streamlit's settings by name. Given to the server they win over config.toml and the environment."""
    themes = {f"theme.{base}.primaryColor": colour for base, colour in (("light", palette.BLUE), ("dark", palette.SKY))}
    return {
        "server.address": HOST,
        "server.port": port,
        "server.allowedHosts": [HOST, "localhost"],
        "server.enableCORS": True,
        "server.enableXsrfProtection": True,
        "server.enableAgentApi": False,
        "server.enableStaticServing": False,
        "server.baseUrlPath": "",
        "server.headless": True,
        "server.showEmailPrompt": False,
        # The pages are installed code, which does not change while it runs.
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": False,
        "browser.serverAddress": HOST,
        "client.toolbarMode": "viewer",
        "client.showErrorDetails": "type",
        "logger.hideWelcomeMessage": True,
        # No base: light or dark follows the reader's system.
        **themes,
        # Captions are this colour at 60 %, which must still stand out from white.
        "theme.light.textColor": "#0f1016",
    }


def roots_of_environment() -> list[Path]:
    """Return the files and folders that the app shows; those of `checked_roots` where none were given."""
    given = os.environ.get(ROOTS_VARIABLE)
    return [Path(path) for path in json.loads(given)] if given else checked_roots([])


def serve(roots: Sequence[Path], port: int, token: str | None) -> None:
    """Print the URL on stdout, and serve the dashboard over files and folders until Ctrl-C.

    Args:
        roots: Absolute paths.
        port: Port on 127.0.0.1.
        token: Token that a browser must bring; None lets everybody on this machine in.
    """
    from starlette.middleware import Middleware
    from streamlit import App

    from dashboards.serving.allocating import give_memory_back
    from dashboards.serving.assets import Assets
    from dashboards.serving.guard import Guard
    from dashboards.serving.no_delay import send_at_once
    from dashboards.serving.page_paths import PagePaths

    url = url_of(port, token)
    give_memory_back()
    send_at_once()
    os.environ[ROOTS_VARIABLE] = json.dumps([str(root) for root in roots])
    in_front = [Middleware(Guard, port=port, token=token), Middleware(PagePaths), Middleware(Assets)]
    app = App(APP, middleware=in_front)
    print(url, flush=True)
    shown = ", ".join(repr(str(root))[1:-1] for root in roots)
    print(f"serving the dashboard of {shown}; press Ctrl-C to stop", file=sys.stderr, flush=True)
    with contextlib.suppress(KeyboardInterrupt, Interrupted):  # the way to end it
        app.run(config=options(port))
