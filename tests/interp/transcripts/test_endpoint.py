"""The client of OpenAI-compatible servers, against a small server in this process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from interp.errors import CotlensError, UsageError
from interp.transcripts.endpoint import KEY_VARIABLE, Endpoint

ASK = [{"role": "user", "content": "2 + 3?"}]


class _Server(ThreadingHTTPServer):
    """Gives its answers in turn, and keeps what it was asked."""

    answers: list[tuple[int, Any, float]]
    asked: list[tuple[str, dict[str, Any], str | None]]


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body, self.headers.get("Authorization")))
        status, content, delay = self.server.answers.pop(0)
        time.sleep(delay)
        sent = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)
        except OSError:
            pass  # the client has gone

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Handler) as running:
        running.answers, running.asked = [], []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def _endpoint(server: _Server, **options: Any) -> Endpoint:
    return Endpoint(f"http://127.0.0.1:{server.server_address[1]}/v1/", "tiny", wait=0.01, **options)


def _choice(finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {"model": "its-name", "choices": [{"message": {"role": "assistant", **message}, "finish_reason": finish}]}


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_a_completion_has_thought_text_and_the_servers_name(
    server: _Server, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    server.answers = [(200, _choice(content="5", **{field: "2 and 3"}), 0)]
    written = _endpoint(server).complete(ASK, seed=3, temperature=0.5, max_tokens=9, stop=["\n"])
    assert (written.reply.thought, written.reply.text) == ("2 and 3", "5")
    assert (written.model, written.truncated) == ("its-name", False)
    (path, body, key) = server.asked[0]
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    sampling = {"seed": 3, "temperature": 0.5, "max_tokens": 9, "stop": ["\n"], "n": 1, "stream": False}
    assert body == {"model": "tiny", "messages": ASK, **sampling}


def test_a_text_that_the_limit_ended_is_marked(server: _Server) -> None:
    server.answers = [(200, _choice("length", content=None, reasoning="2 and"), 0)]
    written = _endpoint(server).complete(ASK)
    assert written.truncated and (written.reply.thought, written.reply.text) == ("2 and", "")


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(server: _Server, status: int) -> None:
    server.answers = [(status, "busy", 0), (200, _choice(content="5"), 0)]
    assert _endpoint(server).complete(ASK).reply.text == "5"
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("status", "content", "message", "asked"),
    [
        (401, "no", f"refused the key .status 401.; set the environment variable {KEY_VARIABLE}", 1),
        (404, "no such model", "got status 404 at try 1: no such model", 1),
        (500, "broken", "got status 500 at try 3: broken", 3),
        (200, "<html>", "expected JSON from .*got '<html>'", 1),
        (200, {"choices": []}, "expected a completion with choices", 1),
        (200, {"choices": [{"text": "5"}]}, "expected a message in the choice", 1),
        (200, _choice(content=" "), "its reply is empty; allow more tokens", 1),
    ],
)
def test_failures_are_plain(server: _Server, status: int, content: Any, message: str, asked: int) -> None:
    server.answers = [(status, content, 0)] * 3
    with pytest.raises(CotlensError, match=message):
        _endpoint(server, tries=3).complete(ASK)
    assert len(server.asked) == asked


def test_a_slow_server_is_not_waited_for(server: _Server) -> None:
    server.answers = [(200, _choice(content="5"), 0.4)]
    with pytest.raises(CotlensError, match=r"did not answer within 0\.1 s"):
        _endpoint(server, timeout=0.1).complete(ASK)


def test_a_server_that_is_not_there_is_said(server: _Server) -> None:
    endpoint = _endpoint(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(CotlensError, match=r"cannot be reached \(.*refused\); check that the server runs"):
        endpoint.complete(ASK)


@pytest.mark.parametrize("url", ["localhost:8000", "file:///etc/hosts", "http://"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="expected an address such as"):
        Endpoint(url, "tiny")


def test_an_address_with_a_key_is_refused_without_showing_it() -> None:
    with pytest.raises(UsageError, match="without credentials") as refused:
        Endpoint("http://me:secret@host/v1", "tiny")
    assert "secret" not in str(refused.value)
