"""`cotlens think --endpoint`: a server writes, the local model's tokens align the text, and another model is noticed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import interp
from interp.errors import StoreError, UsageError
from interp.reasoners.resumable import parts_folder
from interp.traces import TraceSet
from interp.transcripts.endpoint import KEY_VARIABLE, Endpoint, EndpointError
from interp.transcripts.writing_elsewhere import ServerSampling, think_at_endpoint
from tests.interp.transcripts.test_models_page import commands, section

N = 12
Answer = tuple[int, Any]


class Server:
    """An OpenAI-compatible server that answers by a function of the path and the request."""

    def __init__(self, answer: Callable[[str, dict[str, Any]], Answer]) -> None:
        self.answer, self.requests, self.headers = answer, [], []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply(200, {"data": [{"id": "far-away"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append((self.path, body))
                server.headers.append(dict(self.headers))
                self.reply(*server.answer(self.path, body))

            def reply(self, code: int, content: Any) -> None:
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: Any) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def endpoint(self, **options: Any) -> Endpoint:
        return Endpoint(self.url, **{"first_wait": 0.01, "timeout": 5, **options})


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(answer: Callable[[str, dict[str, Any]], Answer]) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


def key_of(prompt: str) -> str:
    """A prompt without white space, which words of this vocabulary do not need between them."""
    return "".join(prompt.split())


def text_reply(text: str, reason: str = "stop") -> Answer:
    return 200, {"model": "far-away", "choices": [{"text": text, "finish_reason": reason}]}


@pytest.fixture(scope="module")
def written(chain_text: interp.Reasoner) -> TraceSet:
    """What chain-text writes itself."""
    return chain_text.think(chain_text.task.generate(N, seed=6))


@pytest.fixture(scope="module")
def by_prompt(chain_text: interp.Reasoner, written: TraceSet) -> dict[str, str]:
    """The text of each trace after its prompt and begin marker, by that."""
    texts = {}
    for trace in written:
        n = max(k for k, channel in enumerate(trace.channel) if channel == "prompt") + 1
        n += len(chain_text.vocabulary.begin.ids)
        texts[key_of("".join(trace.tokens[:n]))] = chain_text.tokenizer.decode(trace.token_ids[n:])
    return texts


@pytest.fixture
def twin(serve: Callable, by_prompt: dict[str, str]) -> Server:
    """A server of the same model."""
    return serve(lambda path, body: text_reply(by_prompt[key_of(body["prompt"])]))


def test_text_of_the_same_model_gives_its_own_traces(
    chain_text: interp.Reasoner, written: TraceSet, twin: Server, tmp_path: Path
) -> None:
    problems = [trace.problem for trace in written]
    result = think_at_endpoint(chain_text, problems, tmp_path / "t.parquet", twin.endpoint())
    traces = TraceSet.from_parquet(tmp_path / "t.parquet")
    assert not parts_folder(tmp_path / "t.parquet").exists() and not result.refused
    assert result.agreement is not None and result.agreement.greedy.value == 1.0
    assert result.agreement.to_dict()["n_reproduced"] == result.agreement.n_texts == N
    for ours, theirs in zip(traces, written, strict=True):
        assert (ours.token_ids, ours.channel, ours.step, ours.answer) == (
            theirs.token_ids,
            theirs.channel,
            theirs.step,
            theirs.answer,
        )
        said = [k for k, channel in enumerate(ours.channel) if channel in ("thought", "answer")]
        np.testing.assert_allclose(np.array(ours.logprob)[said], np.array(theirs.logprob)[said], atol=1e-4)
        assert ours.written_by == f"far-away at {twin.endpoint().host}" and ours.weights == theirs.weights
    assert {path for path, _ in twin.requests} == {"/v1/completions"}
    assert sorted(body["seed"] for _, body in twin.requests) == list(range(N))
    assert "the local model's prompt as text" in result.assumptions["endpoint"]


def test_text_of_another_model_is_noticed(
    chain_text: interp.Reasoner, written: TraceSet, serve: Callable, by_prompt: dict[str, str], tmp_path: Path
) -> None:
    """Values that follow from nothing: the same vocabulary, and a model that the local one is not."""
    rng = np.random.default_rng(0)

    def other(path: str, body: dict[str, Any]) -> Answer:
        words = by_prompt[key_of(body["prompt"])].split(" ")
        return text_reply(" ".join(str(rng.integers(10)) if word.isdigit() else word for word in words))

    server, out = serve(other), tmp_path / "t.parquet"
    problems = [trace.problem for trace in written]
    with pytest.raises(StoreError, match=r"expected text of chain-text, got text that another model wrote") as refusal:
        think_at_endpoint(chain_text, problems, out, server.endpoint())
    message = str(refusal.value)
    assert f"and 0 of {N} texts throughout; {N} of {N} are reproduced exactly by the model's tokenizer" in message
    assert "kept beside" in message and "no reply has a thought" not in message
    asked = len(server.requests)
    allowed = think_at_endpoint(chain_text, problems, out, server.endpoint(), other_model=True)
    assert len(server.requests) == asked, "the replies are kept"
    assert len(allowed.traces) == N and allowed.agreement.greedy.high < 0.95


def test_a_server_that_leaves_the_markers_out_is_noticed(
    reader: interp.Reasoner, asked: Callable, serve: Callable, tmp_path: Path
) -> None:
    reply = {"role": "assistant", "content": "Two and two. So the answer is 4."}
    server = serve(lambda path, body: (200, {"choices": [{"message": reply, "finish_reason": "stop"}]}))
    with pytest.raises(StoreError, match="no reply has a thought: a server that leaves out special tokens leaves out"):
        think_at_endpoint(reader, asked(5), tmp_path / "t.parquet", server.endpoint())


def test_a_run_that_was_cut_off_asks_for_the_rest(
    chain_text: interp.Reasoner, written: TraceSet, serve: Callable, by_prompt: dict[str, str], tmp_path: Path
) -> None:
    state = {"answers": 0}

    def failing(path: str, body: dict[str, Any]) -> Answer:
        state["answers"] += 1
        return (400, b"no more") if state["answers"] == 6 else text_reply(by_prompt[key_of(body["prompt"])])

    server, out = serve(failing), tmp_path / "t.parquet"
    problems = [trace.problem for trace in written]
    with pytest.raises(EndpointError, match="refused the request with 400: no more"):
        think_at_endpoint(chain_text, problems, out, server.endpoint(), concurrency=1)
    replies = parts_folder(out) / "replies.jsonl"
    with replies.open("ab") as file:
        file.write(b'{"index": 7, "answ')  # as a process that was killed leaves it
    with pytest.raises(StoreError, match="replies with another requests"):
        think_at_endpoint(chain_text, problems, out, server.endpoint(), sampling=ServerSampling(seed=3))
    result = think_at_endpoint(chain_text, problems, out, server.endpoint(), concurrency=3)
    assert len(server.requests) == N + 1 and [t.answer for t in result.traces] == [t.answer for t in written]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((401, b"who are you"), rf"answered 401; put its key into {KEY_VARIABLE}"),
        ((500, b"out of memory"), r"answered 500: out of memory; asked 3 times"),
        ((200, b"<html>"), r"expected a JSON object from .* got '<html>'"),
        ((200, {"error": "x"}), r"expected `choices` in the answer of .* got {\"error\": \"x\"}"),
        ((200, {"choices": []}), r"expected `choices`"),
        ((302, b""), r"refused the request with 302"),
    ],
)
def test_answers_that_cannot_be_used(answer: Answer, message: str, serve: Callable) -> None:
    server = serve(lambda path, body: answer)
    with pytest.raises(EndpointError, match=message):
        server.endpoint(retries=2).ask("completions", {})


def test_a_busy_server_is_asked_again(serve: Callable) -> None:
    answers = iter([(429, b"slow down"), (503, b""), text_reply("hello")])
    server = serve(lambda path, body: next(answers))
    assert server.endpoint().ask("completions", {})["choices"][0]["text"] == "hello"


def test_a_server_that_is_not_there_or_too_slow(serve: Callable) -> None:
    with pytest.raises(EndpointError, match=r"expected a server at 127\.0\.0\.1:9, got .*refused.*; asked 2 times"):
        Endpoint("http://127.0.0.1:9", "m", retries=1, first_wait=0.01).ask("completions", {})

    def slow(path: str, body: dict[str, Any]) -> Answer:
        time.sleep(0.5)
        return text_reply("late")

    with pytest.raises(EndpointError, match=r"a reply of .* within 0\.1 s, got none; allow more"):
        serve(slow).endpoint(timeout=0.1).ask("completions", {})


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x/v1", "http://"])
def test_addresses_are_checked(url: str) -> None:
    with pytest.raises(UsageError, match="expected an endpoint such as"):
        Endpoint(url)
    with pytest.raises(UsageError, match="without a user or password"):
        Endpoint("http://me:secret@x/v1")


def test_the_key_comes_from_the_environment_alone(serve: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(lambda path, body: text_reply("x"))
    server.endpoint().ask("completions", {})
    monkeypatch.setenv(KEY_VARIABLE, "abc")
    server.endpoint().ask("completions", {})
    assert [headers.get("Authorization") for headers in server.headers] == [None, "Bearer abc"]


def test_a_chat_model_gets_messages_and_its_thought_may_be_a_field(
    reader: interp.Reasoner, asked: Callable, serve: Callable, tmp_path: Path
) -> None:
    def chat(path: str, body: dict[str, Any]) -> Answer:
        message = {"role": "assistant", "reasoning_content": "Two and two.", "content": "So 4."}
        empty = {"role": "assistant", "content": ""}
        return 200, {"choices": [{"message": empty if "3 plus 3" in str(body["messages"]) else message}]}

    server = serve(chat)
    result = think_at_endpoint(
        reader.with_config(system="Be brief."), asked(5), tmp_path / "t.parquet", server.endpoint(), other_model=True
    )
    assert [str(refusal) for refusal in result.refused] == ["reply 4: its reply is empty"]
    assert len(result.traces) == 4 and {trace.answer.strip() for trace in result.traces} == {"So 4."}
    assert {path for path, _ in server.requests} == {"/v1/chat/completions"}
    assert server.requests[0][1]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert "its own chat template" in result.assumptions["endpoint"]


def test_silent_thoughts_cannot_be_written_elsewhere(coconut: interp.Reasoner, twin: Server, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a model that writes its thoughts as text"):
        think_at_endpoint(coconut, coconut.task.generate(2, seed=0), tmp_path / "t.parquet", twin.endpoint())
    assert not twin.requests


def test_the_command(twin: Server, tmp_path: Path, cotlens: Callable[..., Any]) -> None:
    out = tmp_path / "t.parquet"
    # Questions whose replies the server knows: those of the same task and seed.
    ended = cotlens(
        "think", "chain-text", "--task", f"chain:n={N},seed=6", "--out", out, "--endpoint", twin.url, "--json"
    )
    assert ended.code == 0, ended.err
    assert ended.json["accuracy"] > 0.9 and ended.json["endpoint"]["agreement"]["greedy"]["value"] == 1.0
    assert "note: agreement:" in ended.err and len(TraceSet.from_parquet(out)) == N
    ended = cotlens("think", "chain-text", "--out", tmp_path / "u.parquet", "--other-model")
    assert ended.code == 2 and "expected --endpoint with --endpoint-model or --other-model" in ended.error


def test_the_command_of_the_page(
    written: TraceSet, twin: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cotlens: Callable[..., Any]
) -> None:
    (command,) = commands(section("Text written by a server"))
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"question": t.problem.question, "answer": t.problem.answer}) for t in written]
    Path("questions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    own = {"MODEL": "chain-text", "http://127.0.0.1:8000/v1": f"{twin.url}/v1"}
    ended = cotlens(*(own.get(part, part) for part in command))
    assert ended.code == 0, ended.err
    assert f"far-away at {twin.endpoint().host} wrote" in ended.err
