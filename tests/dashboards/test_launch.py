"""The server: it answers its own pages with their token only, and ends on Ctrl-C without a traceback."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from dashboards.launch import HOST, checked_roots, options, url_of
from dashboards.serving.guard import POLICY
from interp.errors import StoreError, UsageError

START_S = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Server:
    """`cotlens dash RUN --port N` in a process of its own."""

    token = ""

    def __init__(self, run: Path, folder: Path, *more: str) -> None:
        self.port = free_port()
        # What a user's own settings say must not open the dashboard to others.
        (folder / ".streamlit").mkdir()
        (folder / ".streamlit" / "config.toml").write_text(
            '[server]\naddress = "0.0.0.0"\nenableCORS = false\nbaseUrlPath = "x"\n', encoding="utf-8"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cotlens.cli", "dash", str(run), "--port", str(self.port), *more],
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
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()
        self.token = self.first_line.strip().partition("token=")[2]
        while time.monotonic() - started < START_S:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended: {self.process.communicate()}")
            try:
                status, body, _ = self.get("/_stcore/health")
                assert (status, body) == (200, "ok")
                return time.monotonic() - started
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"not healthy within {START_S:.0f} s")

    @property
    def cookie(self) -> str:
        return f"cotlens-{self.port}={self.token}"

    def get(self, path: str, method: str = "GET", **headers: str | None) -> tuple[int, str, dict[str, str]]:
        """Status, body and headers of the answer; underscores in header names are dashes, None leaves one out."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        sent = {"Host": f"{HOST}:{self.port}", "Cookie": self.cookie}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}  # type: ignore[misc]
        connection.putrequest(method, path, skip_host=True)
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        result = answer.status, answer.read().decode(), {name.lower(): value for name, value in answer.getheaders()}
        connection.close()
        return result

    def connect(
        self, host: str | None = None, origin: str | None = None, cookie: str | None = None
    ) -> ClientConnection:
        name = host or f"{HOST}:{self.port}"
        with socket.create_connection((HOST, self.port)) as raw:
            return connect(
                f"ws://{name}/_stcore/stream",
                sock=raw.dup(),
                origin=origin,  # type: ignore[arg-type]
                additional_headers={"Cookie": self.cookie if cookie is None else cookie},
                subprotocols=["streamlit"],  # type: ignore[list-item]
                max_size=None,
                open_timeout=10,
            )

    def connections(self) -> set[str]:
        """The remote addresses that the server has TCP connections to, also those that it is only opening."""
        own = {str(link.readlink()) for link in Path(f"/proc/{self.process.pid}/fd").iterdir() if link.is_symlink()}
        rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="utf-8").splitlines()[1:]]
        words = [row[2].partition(":")[0] for row in rows if f"socket:[{row[9]}]" in own and row[3] != "0A"]
        return {socket.inet_ntoa(bytes.fromhex(word)[::-1]) for word in words}

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
def test_a_wrong_port_is_refused(port: int) -> None:
    with pytest.raises(UsageError, match=f"between 1 and 65535, got {port}"):
        url_of(port)


def test_a_taken_port_names_the_option() -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} .* is taken. Choose another with --port"):
            url_of(port)


def test_the_url_has_the_token_where_there_is_one() -> None:
    port = free_port()
    assert url_of(port) == f"http://127.0.0.1:{port}/"
    assert url_of(port, "a-b") == f"http://127.0.0.1:{port}/?token=a-b"


def test_what_is_shown_without_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert checked_roots([]) == [tmp_path]
    (tmp_path / "runs").mkdir()
    assert checked_roots([]) == [tmp_path / "runs"]
    assert checked_roots([Path("runs"), tmp_path / "runs"]) == [tmp_path / "runs"]
    with pytest.raises(StoreError, match=r"nothing at none. Make a run there: `cotlens study MODEL --out none`"):
        checked_roots([Path("none")])


def test_print_url_starts_nothing(cotlens: Any, demo_run: Path) -> None:
    port = free_port()
    ended = cotlens("dash", demo_run, "--port", port, "--print-url")
    assert (ended.code, ended.out) == (0, f"http://127.0.0.1:{port}/\n")
    ended = cotlens("dash", demo_run, demo_run / "store", "--port", port, "--json")
    assert ended.json["url"] == f"http://127.0.0.1:{port}/"
    assert ended.json["paths"] == [str(demo_run.resolve()), str(demo_run.resolve() / "store")]


def test_wrong_calls_have_their_exit_codes(cotlens: Any, demo_run: Path, tmp_path: Path) -> None:
    assert cotlens("dash", demo_run, "--port", 70000, "--print-url").code == 2
    assert cotlens("dash", tmp_path / "none", "--print-url").code == 5


def test_the_settings_that_keep_it_on_this_machine() -> None:
    wanted = {
        "server.address": "127.0.0.1",
        "server.port": 8700,
        "server.allowedHosts": ["127.0.0.1", "localhost"],
        "server.headless": True,
        "server.enableCORS": True,
        "server.enableXsrfProtection": True,
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "viewer",
    }
    assert wanted.items() <= options(8700).items()
    assert "theme.base" not in options(8700)  # the reader's system decides


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
        assert "The thoughts of chain" in drawn(connection, "overview")


FORGED = [
    ("evil.example", None),
    ("evil.example", "http://evil.example"),
    ("127.0.0.1.evil.example", None),
    ("evil.example@127.0.0.1", None),
    ("127.0.0.1:port", None),
    ("", None),
    (None, "http://evil.example"),
    (None, "http://127.0.0.1:1"),  # a server of somebody else on this machine
    (None, "null"),
]


@pytest.mark.parametrize(("host", "origin"), FORGED[:3] + FORGED[6:])
def test_a_forged_host_or_origin_is_refused_on_the_websocket(
    server: Server, host: str | None, origin: str | None
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        server.connect(host, origin)
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("path", ["/", "/_stcore/health", "/_stcore/host-config", "/static/js/none.js", "/media/none"])
@pytest.mark.parametrize(("host", "origin"), FORGED)
def test_a_forged_host_or_origin_is_refused_over_http(
    server: Server, host: str | None, origin: str | None, path: str
) -> None:
    status, body, headers = server.get(path, Host=f"{HOST}:{server.port}" if host is None else host, Origin=origin)
    assert status in (400, 403) and "root" not in body and "access-control-allow-origin" not in headers


def test_without_a_host_nothing_is_answered(server: Server) -> None:
    assert server.get("/", Host=None)[0] in (400, 403)


@pytest.mark.parametrize("cookie", [None, "", "cotlens=1", "wrong"])
def test_without_the_token_nothing_is_answered(server: Server, cookie: str | None) -> None:
    given = f"cotlens-{server.port}={cookie}" if cookie == "wrong" else cookie
    for path in ("/", "/latents", "/_stcore/health", "/static/js/none.js", "/?token=wrong", "/?token=%C3%A9"):
        status, body, _ = server.get(path, Cookie=given)
        assert status == 403 and "Open the URL that `cotlens dash` printed" in body
    with pytest.raises(InvalidStatus) as refused:
        server.connect(cookie=given or "")
    assert refused.value.response.status_code == 403


def test_the_token_leads_to_the_same_view_without_it(server: Server) -> None:
    status, _, headers = server.get(f"/latents?problem=3&token={server.token}&search=a%26b", Cookie=None)
    assert (status, headers["location"]) == (303, "/latents?problem=3&search=a%26b")
    cookie = headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie and headers["cache-control"] == "no-store"
    # Two slashes would lead to another host.
    assert server.get(f"//evil.example/?token={server.token}", Cookie=None)[2]["location"] == "/evil.example/"


def test_other_pages_of_this_machine_may_lead_here_but_load_nothing(server: Server) -> None:
    there = {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"}
    assert server.get("/favicon.png", **there)[0] == 403
    frame = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"}
    assert server.get("/", **frame)[0] == 403
    assert server.get("/", **frame | {"Sec_Fetch_Dest": "document"})[0] == 200


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/latents/x?problem=3", "/latents?problem=3&not_found=%2Flatents%2Fx"),
        ("/probes/a/b", "/probes?not_found=%2Fprobes%2Fa%2Fb"),
        ("/nowhere", "/?not_found=%2Fnowhere"),
        ("//evil.example/x", "/?not_found=%2F%2Fevil.example%2Fx"),
    ],
)
def test_a_path_without_a_page_leads_to_the_nearest(server: Server, path: str, shown: str) -> None:
    status, _, headers = server.get(path, Accept="text/html")
    assert (status, headers["location"]) == (303, shown)


@pytest.mark.parametrize("path", ["/", "/latents", "/latents/", "/traces?open=a"])
def test_a_page_is_where_it_is(server: Server, path: str) -> None:
    assert server.get(path, Accept="text/html")[0] in (200, 301, 307)


def test_browsers_are_kept_from_other_hosts(server: Server) -> None:
    headers = server.get("/")[2]
    assert headers["content-security-policy"] == POLICY and "unsafe-eval'" not in POLICY.replace(
        "wasm-unsafe-eval'", ""
    )
    assert "http" not in POLICY and headers["x-content-type-options"] == "nosniff"


def test_a_dashboard_without_a_token_still_checks_host_and_origin(demo_run: Path, tmp_path: Path) -> None:
    server = Server(demo_run, tmp_path, "--no-token")
    try:
        server.wait()
        assert server.first_line == server.url + "\n"
        assert server.get("/", Cookie=None)[0] == 200
        assert server.get("/", Cookie=None, Host="evil.example")[0] == 403
    finally:
        server.process.kill()
        server.process.communicate()


def test_a_foreign_origin_makes_the_server_ask_nobody(server: Server) -> None:
    for origin in ("http://evil.example", "null", "http://10.1.2.3"):
        server.get("/_stcore/host-config", Origin=origin)
        with pytest.raises(InvalidStatus):
            server.connect(origin=origin)
    assert server.connections() <= {HOST}


def test_the_first_visit_may_be_a_deep_link(start_server: Callable[[], Server]) -> None:
    server = start_server()
    server.wait()
    with server.connect() as connection:
        result = drawn(connection, "latents", "method=sae")
    assert "Thoughts" in result and "SAE" in result and "page_not_found" not in result


def test_ctrl_c_ends_it_cleanly_while_a_page_is_open(start_server: Callable[[], Server]) -> None:
    server = start_server()
    assert server.wait() < START_S
    with server.connect() as connection:
        drawn(connection, "probes")
        code, out, err = server.end()
    assert code == 0
    assert server.first_line == f"{server.url}?token={server.token}\n" and out == ""
    assert "Traceback" not in out + err


def test_ctrl_c_while_it_starts_is_no_traceback(start_server: Callable[[], Server]) -> None:
    server = start_server()
    assert server.process.stdout is not None
    assert server.process.stdout.readline().startswith(f"{server.url}?token=")
    code, _, err = server.end()
    assert code in (0, 130)
    assert "Traceback" not in err


def test_the_app_gets_the_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    import streamlit

    from dashboards import launch

    seen: dict[str, Any] = {}

    def run(self: Any, *, config: dict[str, Any]) -> None:
        seen.update(config, roots=os.environ[launch.ROOTS_VARIABLE])

    monkeypatch.setattr(streamlit.App, "run", run)
    monkeypatch.setenv(launch.ROOTS_VARIABLE, "set here so that it is restored afterwards")
    port = free_port()
    launch.serve([tmp_path], port, "abc")
    assert json.loads(seen["roots"]) == [str(tmp_path)] and seen["server.port"] == port
    assert capsys.readouterr().out == f"http://127.0.0.1:{port}/?token=abc\n"
