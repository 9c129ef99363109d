"""`cotlens dash` in a process of its own, over some files and folders."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from urllib.parse import urlencode

from dashboards.launch import HOST

START_SECONDS = 60.0


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


#: The command of an empty Streamlit page, beside which first paints are timed.
EMPTY_PAGE = [sys.executable, "-m", "benchmarks.dash.empty_page"]


class DashServer:
    """A running dashboard. Use it in a `with` statement, which ends it.

    Args:
        roots: Files and folders that it shows.
        home: Its working folder and home folder; the current one by default.
        command: What is run in place of `cotlens dash ROOTS`, with `--port N` at its end.

    Attributes:
        port: Its port on 127.0.0.1.
        token: The token that a browser must bring; empty where it asks for none.
        process: Its process.
    """

    def __init__(self, roots: Sequence[Path], home: Path | None = None, command: Sequence[str] | None = None) -> None:
        self.port = free_port()
        words = command or [sys.executable, "-m", "cotlens.cli", "dash", *map(str, roots)]
        self.process = subprocess.Popen(
            [*words, "--port", str(self.port)],
            cwd=home,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **({"HOME": str(home)} if home else {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self.token = self.process.stdout.readline().strip().partition("token=")[2]
        self._wait()

    def __enter__(self) -> DashServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def url(self, page: str = "", **params: str) -> str:
        """Return the URL of a page, with the token.

        Args:
            page: Name of the page; empty for home.
            **params: Its settings.
        """
        query = urlencode({**params, **({"token": self.token} if self.token else {})})
        return f"http://{HOST}:{self.port}/{page if page != 'home' else ''}" + (f"?{query}" if query else "")

    def stop(self) -> None:
        """End the server as Ctrl-C does; after ten seconds, by force."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()

    def _wait(self) -> None:
        """Wait until the server answers."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise RuntimeError(f"the dashboard ended with exit code {self.process.returncode} before it answered.")
            try:
                connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
                connection.request("GET", "/_stcore/health", headers={"Cookie": f"cotlens-{self.port}={self.token}"})
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"the dashboard does not answer within {START_SECONDS:.0f} s.")
