"""Start the dashboard: which run, at which URL, and with which settings of Streamlit."""

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


def url_of(run: Path | None, port: int) -> tuple[str, Path]:
    """Return the URL to serve at and the run folder to show.

    Args:
        run: Folder of a run; the newest finished one below runs/ by default.
        port: Port on 127.0.0.1.

    Raises:
        UsageError: The port is not between 1 and 65535, or is taken.
        StoreError: There is no finished run.
    """
    if isinstance(port, bool) or not 1 <= port <= 65535:
        raise UsageError(f"expected a --port between 1 and 65535, got {port}.")
    folder = Run(run if run is not None else newest_run()).path.resolve()
    _check_free(port)
    return f"http://{HOST}:{port}/", folder


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


def options(port: int) -> dict[str, str | tuple[str, ...]]:
    """Return Streamlit's settings by name. As flags they win over config.toml and the environment."""
    return {
        "server.address": HOST,
        "server.port": str(port),
        # Without this list a foreign web page could reach the websocket by rebinding its name to 127.0.0.1.
        "server.allowedHosts": (HOST, "localhost"),
        "server.enableCORS": "true",
        "server.enableXsrfProtection": "true",
        "server.enableAgentApi": "false",
        "server.baseUrlPath": "",
        "server.headless": "true",
        "server.showEmailPrompt": "false",
        # The pages are installed code, which does not change while it runs.
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
    """Return the command-line arguments of `streamlit`."""
    flags = []
    for name, value in options(port).items():
        # A list repeats its flag; with commas it would be read as one host.
        flags += [f"--{name}={item}" for item in ((value,) if isinstance(value, str) else value)]
    return ["run", str(APP), *flags]


def serve(folder: Path, port: int, url: str) -> None:
    """Print `url` on stdout, and serve the dashboard over the run in `folder` until Ctrl-C."""
    from streamlit.web import cli

    os.environ[RUN_VARIABLE] = str(folder)
    print(url, flush=True)
    print(f"serving the dashboard of {folder}; press Ctrl-C to stop", file=sys.stderr, flush=True)
    cli.main(args=arguments(port), prog_name="streamlit", standalone_mode=False)
