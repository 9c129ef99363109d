"""Starting the dashboard: which run, at which address, and with which of Streamlit's settings."""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path

from dashboards.runs import Run, newest_run
from interp.errors import UsageError
from interp.runtime import palette

HOST = "127.0.0.1"
RUN_VARIABLE = "COTLENS_RUN"
APP = Path(__file__).with_name("app.py")


def address_of(run: Path | None, port: int) -> tuple[str, Path]:
    """The address to serve at and the run folder to show: `run`, or the newest finished one below runs/.

    Raises `UsageError` when the port is no port or is taken, and `StoreError` when there is no finished run.
    """
    if isinstance(port, bool) or not 1 <= port <= 65535:
        raise UsageError(f"--port must lie between 1 and 65535, but {port} came.")
    folder = Run(run if run is not None else newest_run()).path.resolve()
    _check_free(port)
    return f"http://{HOST}:{port}/", folder


def _check_free(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the server itself will: a port that only waits for old connections to fade is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise UsageError(f"port {port} on {HOST} {why}. Choose another with --port.") from None


def options(port: int) -> dict[str, str | tuple[str, ...]]:
    """Streamlit's settings, by name. Given as flags they win over any config.toml or environment variable."""
    return {
        "server.address": HOST,
        "server.port": str(port),
        # Without this list a web page elsewhere could reach the websocket under a name that it rebinds to 127.0.0.1.
        "server.allowedHosts": (HOST, "localhost"),
        "server.enableCORS": "true",
        "server.enableXsrfProtection": "true",
        "server.enableAgentApi": "false",
        "server.baseUrlPath": "",
        "server.headless": "true",
        "server.showEmailPrompt": "false",
        # The pages are installed code: nothing changes under them, so nothing has to be watched.
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "viewer",
        "client.showErrorDetails": "type",
        "logger.hideWelcomeMessage": "true",
        "theme.base": "light",
        "theme.primaryColor": palette.BLUE,
        "theme.textColor": palette.BLACK,
    }


def arguments(port: int) -> list[str]:
    """What `streamlit` is called with."""
    flags = []
    for name, value in options(port).items():
        # A list is given by repeating its flag; with commas it would be one host of a strange name.
        flags += [f"--{name}={each}" for each in ((value,) if isinstance(value, str) else value)]
    return ["run", str(APP), *flags]


def serve(folder: Path, port: int, url: str) -> None:
    """Serve the dashboard over the run in `folder` until Ctrl-C; prints `url` on stdout."""
    from streamlit.web import cli

    os.environ[RUN_VARIABLE] = str(folder)
    print(url, flush=True)
    print(f"the dashboard of {folder}; Ctrl-C ends it", file=sys.stderr, flush=True)
    cli.main(args=arguments(port), prog_name="streamlit", standalone_mode=False)
