"""The server: it answers on this machine only, refuses forged host names, and ends on Ctrl-C without a traceback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from dashboards.launch import APP, HOST, arguments, options, url_of
from interp.errors import StoreError, UsageError

START_S = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Server:
    """`cotlens dash RUN --port N` in a process of its own."""

    def __init__(self, run: Path, folder: Path) -> None:
        self.port = free_port()
        # What a user's own settings say must not open the dashboard to others.
        (folder / ".streamlit").mkdir()
        (folder / ".streamlit" / "config.toml").write_text(
            '[server]\naddress = "0.0.0.0"\nenableCORS = false\nbaseUrlPath = "x"\n'
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cotlens.cli", "dash", str(run), "--port", str(self.port)],
            cwd=folder,
            env={**os.environ, "STREAMLIT_SERVER_ALLOWED_HOSTS": "*", "HOME": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.url = f"http://{HOST}:{self.port}/"

    def wait(self) -> float:
        """Seconds until the server is healthy."""
        started = time.monotonic()
        while time.monotonic() - started < START_S:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended: {self.process.communicate()}")
            try:
                with urllib.request.urlopen(f"{self.url}_stcore/health", timeout=2) as answer:
                    assert answer.status == 200 and answer.read() == b"ok"
                return time.monotonic() - started
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"not healthy within {START_S:.0f} s")

    def connect(self, host: str | None = None, origin: str | None = None) -> ClientConnection:
        name = host or f"{HOST}:{self.port}"
        with socket.create_connection((HOST, self.port)) as raw:
            return connect(
                f"ws://{name}/_stcore/stream",
                sock=raw.dup(),
                origin=origin,  # type: ignore[arg-type]
                subprotocols=["streamlit"],  # type: ignore[list-item]
                max_size=None,
                open_timeout=10,
            )

    def end(self) -> tuple[int, str, str]:
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=15)
        return self.process.returncode, out, err


@pytest.fixture
def start_server(demo_run: Path, tmp_path: Path) -> Iterator[Callable[[], Server]]:
    started: list[Server] = []

    def start() -> Server:
        started.append(Server(demo_run, tmp_path))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()


@pytest.fixture(scope="module")
def server(demo_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests that only read from it."""
    running = Server(demo_run, tmp_path_factory.mktemp("served"))
    try:
        running.wait()
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


def drawn(connection: ClientConnection, page: str, query: str = "") -> str:
    """Everything that the server sends while it first draws a page."""
    asked = BackMsg()
    asked.rerun_script.page_name = page
    asked.rerun_script.query_string = query
    connection.send(asked.SerializeToString())
    result = []
    while True:
        message = ForwardMsg()
        content = connection.recv(timeout=30)
        assert isinstance(content, bytes)
        message.ParseFromString(content)
        result.append(str(message))
        if message.WhichOneof("type") == "script_finished":
            return "\n".join(result)


@pytest.mark.parametrize("port", [0, -1, 65536, 99999])
def test_a_wrong_port_is_refused(demo_run: Path, port: int) -> None:
    with pytest.raises(UsageError, match=f"between 1 and 65535, got {port}"):
        url_of(demo_run, port)


def test_a_taken_port_names_the_option(demo_run: Path) -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} .* is taken. Choose another with --port"):
            url_of(demo_run, port)


def test_the_url_and_the_folder(demo_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.chdir(demo_run.parent)
    assert url_of(Path(demo_run.name), port) == (f"http://127.0.0.1:{port}/", demo_run.resolve())


def test_without_a_run_the_newest_is_taken(demo_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="no finished run below runs/"):
        url_of(None, free_port())
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(demo_run)
    assert url_of(None, free_port())[1] == demo_run.resolve()


def test_an_unfinished_run_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no run at"):
        url_of(tmp_path, free_port())
    (tmp_path / "run.json").write_text('{"complete": false, "organism": "chain-text"}')
    with pytest.raises(StoreError, match="not finished"):
        url_of(tmp_path, free_port())


def test_print_url_starts_nothing(cotlens: Any, demo_run: Path) -> None:
    port = free_port()
    ended = cotlens("dash", demo_run, "--port", port, "--print-url")
    assert (ended.code, ended.out) == (0, f"http://127.0.0.1:{port}/\n")
    ended = cotlens("dash", demo_run, "--port", port, "--json")
    assert ended.json["url"] == f"http://127.0.0.1:{port}/" and ended.json["run"] == str(demo_run.resolve())


def test_wrong_calls_have_their_exit_codes(cotlens: Any, demo_run: Path, tmp_path: Path) -> None:
    assert cotlens("dash", demo_run, "--port", 70000, "--print-url").code == 2
    assert cotlens("dash", tmp_path / "none", "--print-url").code == 5


def test_the_settings_that_keep_it_on_this_machine() -> None:
    wanted = {
        "server.address": "127.0.0.1",
        "server.port": "8700",
        "server.allowedHosts": ("127.0.0.1", "localhost"),
        "server.headless": "true",
        "server.enableCORS": "true",
        "server.enableXsrfProtection": "true",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "viewer",
    }
    assert wanted.items() <= options(8700).items()
    assert arguments(8700)[:2] == ["run", str(APP)] and APP.exists()
    assert [a for a in arguments(8700) if "allowedHosts" in a] == [
        "--server.allowedHosts=127.0.0.1",
        "--server.allowedHosts=localhost",
    ]


def test_streamlit_knows_every_setting() -> None:
    from streamlit import config

    for name in options(8700):
        assert config.is_manually_set(name) in (True, False)


def test_it_answers_on_this_machine_only(server: Server) -> None:
    with pytest.raises(OSError), socket.create_connection(("127.0.0.2", server.port), timeout=2):
        pass
    for address in {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}:
        if not str(address).startswith("127.0.0.1"):
            with pytest.raises(OSError), socket.create_connection((str(address), server.port), timeout=2):
                pass


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_names_of_this_machine_are_accepted(server: Server, name: str) -> None:
    with server.connect(f"{name}:{server.port}", f"http://{name}:{server.port}") as connection:
        assert "The thoughts of chain" in drawn(connection, "")


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("evil.example", None),
        ("evil.example", "http://evil.example"),
        (None, "http://evil.example"),
        ("127.0.0.1.evil.example", None),
    ],
)
def test_a_forged_host_or_origin_is_refused(server: Server, host: str | None, origin: str | None) -> None:
    with pytest.raises(InvalidStatus) as refused:
        server.connect(host, origin)
    assert refused.value.response.status_code == 403


def test_the_first_visit_may_be_a_deep_link(start_server: Callable[[], Server]) -> None:
    server = start_server()
    server.wait()
    with server.connect() as connection:
        result = drawn(connection, "latents", "method=sae")
    assert "Continuous latents" in result and "SAE" in result and "page_not_found" not in result


def test_ctrl_c_ends_it_cleanly_while_a_page_is_open(start_server: Callable[[], Server]) -> None:
    server = start_server()
    assert server.wait() < START_S
    with server.connect() as connection:
        drawn(connection, "probes")
        code, out, err = server.end()
    assert code == 0
    assert out.count(server.url) == 1 and out.startswith(server.url)
    assert "Traceback" not in out + err


def test_ctrl_c_while_it_starts_is_no_traceback(start_server: Callable[[], Server]) -> None:
    server = start_server()
    assert server.process.stdout is not None
    assert server.process.stdout.readline() == f"{server.url}\n"
    code, _, err = server.end()
    assert code in (0, 130)
    assert "Traceback" not in err


def test_the_app_gets_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    from streamlit.web import cli

    from dashboards import launch

    seen: dict[str, Any] = {}

    def run(**given: Any) -> None:
        seen.update(given, folder=os.environ[launch.RUN_VARIABLE])

    monkeypatch.setattr(cli, "main", run)
    monkeypatch.setenv(launch.RUN_VARIABLE, "set here so that it is restored afterwards")
    launch.serve(tmp_path, 8700, "http://127.0.0.1:8700/")
    assert seen["folder"] == str(tmp_path) and seen["args"] == arguments(8700)
    assert capsys.readouterr().out == "http://127.0.0.1:8700/\n"
