"""`cotlens think --endpoint` against a real `transformers serve`, which serves a small Llama that has learned a few sums."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import interp
from interp.traces import TraceSet
from tests.interp.conftest import SUMS

pytestmark = pytest.mark.slow

NEEDED = ("fastapi", "uvicorn", "openai", "multipart")
N = len(SUMS)
_SECONDS = 240


@pytest.fixture(scope="module")
def served(taught_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a `transformers serve` process that serves the folder."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"transformers serve needs {', '.join(missing)}; pip install -e '.[dev]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    program = "from transformers.cli.transformers import main; main()"
    arguments = ["serve", str(taught_llama), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments], stdout=file, stderr=subprocess.STDOUT, env=environment
        )
    try:
        _wait(process, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen, url: str, log: Path) -> None:
    """Wait until the server answers."""
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            pytest.fail(
                f"transformers serve ended with {process.returncode}: {log.read_text(encoding='utf-8')[-2000:]}"
            )
        try:
            urllib.request.urlopen(url, timeout=5).read()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"transformers serve did not answer within {_SECONDS} s: {log.read_text(encoding='utf-8')[-2000:]}")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    lines = [json.dumps({"question": f"What is {a} plus {b}?", "answer": str(a + b)}) for a, b in SUMS]
    (tmp_path / "questions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "questions.jsonl"


def think(cotlens: Callable[..., Any], folder: Path, questions: Path, served: str, out: Path, *options: str) -> Any:
    budget = ["--max-thought-tokens", "60", "--max-answer-tokens", "30", "--json"]
    return cotlens("think", folder, "--questions", questions, "--out", out, "--endpoint", served, *budget, *options)


def test_the_server_writes_what_the_model_would_have_written(
    taught_llama: Path, questions: Path, served: str, tmp_path: Path, cotlens: Callable[..., Any]
) -> None:
    ended = think(cotlens, taught_llama, questions, served, tmp_path / "served.parquet")
    assert ended.code == 0, ended.err
    assert ended.json["endpoint"]["agreement"]["greedy"]["value"] == 1.0
    local = interp.load(taught_llama, reasoner={"max_thought_tokens": 60, "max_answer_tokens": 30})
    traces = TraceSet.from_parquet(tmp_path / "served.parquet")
    own = local.think([trace.problem for trace in traces])
    assert [trace.answer for trace in own] == [f"The answer is {a + b}." for a, b in SUMS]
    assert [(t.answer, t.token_ids) for t in traces] == [(t.answer, t.token_ids) for t in own]
    assert all("thought" in trace.channel and "127.0.0.1" in (trace.written_by or "") for trace in traces)


def test_a_server_of_another_model_is_noticed(
    chat_folder: Path, questions: Path, served: str, tmp_path: Path, cotlens: Callable[..., Any]
) -> None:
    ended = think(cotlens, chat_folder, questions, served, tmp_path / "other.parquet")
    assert ended.code == 5 and "got text that another model wrote" in ended.error
    assert f"0 of {N} texts" in ended.error
    ended = think(cotlens, chat_folder, questions, served, tmp_path / "other.parquet", "--other-model")
    assert ended.code == 0 and len(TraceSet.from_parquet(tmp_path / "other.parquet")) == N
