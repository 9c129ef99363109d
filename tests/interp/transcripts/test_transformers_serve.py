"""`cotlens think --endpoint` against a real `transformers serve`, which serves a small Llama that learned six replies."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
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
import torch

import interp
from interp.traces import TraceSet

pytestmark = pytest.mark.slow

NEEDED = ("fastapi", "uvicorn", "openai", "multipart")
QUESTIONS = [f"What is {k} plus {k}?" for k in range(6)]
REPLIES = [f"<think>\n{k} and {k}, so it is {2 * k}.\n</think>\n\nThe answer is {2 * k}." for k in range(6)]
_SECONDS = 240


@pytest.fixture(scope="module")
def taught(chat_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small Llama that has learned to think, and to answer, about six questions."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("taught") / "model"
    shutil.copytree(chat_folder, folder)
    # As Qwen3's: the server leaves special tokens out of its text, and the markers are none.
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    for token in vocabulary["added_tokens"]:
        token["special"] = token["special"] and "think" not in token["content"]
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(chat_folder, trust_remote_code=False)
    rows = []
    for question, reply in zip(QUESTIONS, REPLIES, strict=True):
        chat = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(prompt + reply + "<eos>", add_special_tokens=False)["input_ids"]
        n = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        rows.append((torch.tensor([ids]), torch.tensor([[-100] * n + ids[n:]])))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(200):
        losses = [model(input_ids=ids, labels=labels).loss for ids, labels in rows]
        torch.stack(losses).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if max(loss.item() for loss in losses) < 0.01:
            break
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def served(taught: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a `transformers serve` process that serves the folder."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"transformers serve needs {', '.join(missing)}; pip install -e '.[dev]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    program = "from transformers.cli.transformers import main; main()"
    arguments = ["serve", str(taught), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("w") as file:
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
            pytest.fail(f"transformers serve ended with {process.returncode}: {log.read_text()[-2000:]}")
        try:
            urllib.request.urlopen(url, timeout=5).read()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"transformers serve did not answer within {_SECONDS} s: {log.read_text()[-2000:]}")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    lines = [json.dumps({"question": question, "answer": str(2 * k)}) for k, question in enumerate(QUESTIONS)]
    (tmp_path / "questions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "questions.jsonl"


def think(cotlens: Callable[..., Any], folder: Path, questions: Path, served: str, out: Path, *options: str) -> Any:
    budget = ["--max-thought-tokens", "60", "--max-answer-tokens", "30", "--json"]
    return cotlens("think", folder, "--questions", questions, "--out", out, "--endpoint", served, *budget, *options)


def test_the_server_writes_what_the_model_would_have_written(
    taught: Path, questions: Path, served: str, tmp_path: Path, cotlens: Callable[..., Any]
) -> None:
    ended = think(cotlens, taught, questions, served, tmp_path / "served.parquet")
    assert ended.code == 0, ended.err
    assert ended.json["endpoint"]["agreement"]["greedy"]["value"] == 1.0
    local = interp.load(taught, reasoner={"max_thought_tokens": 60, "max_answer_tokens": 30})
    traces = TraceSet.from_parquet(tmp_path / "served.parquet")
    own = local.think([trace.problem for trace in traces])
    assert [trace.answer for trace in own] == [f"The answer is {2 * k}." for k in range(6)], "the model was not taught"
    assert [(t.answer, t.token_ids) for t in traces] == [(t.answer, t.token_ids) for t in own]
    assert all("thought" in trace.channel and "127.0.0.1" in (trace.written_by or "") for trace in traces)


def test_a_server_of_another_model_is_noticed(
    chat_folder: Path, questions: Path, served: str, tmp_path: Path, cotlens: Callable[..., Any]
) -> None:
    ended = think(cotlens, chat_folder, questions, served, tmp_path / "other.parquet")
    assert ended.code == 5 and "got text that another model wrote" in ended.error
    assert "0 of 6 texts" in ended.error
    ended = think(cotlens, chat_folder, questions, served, tmp_path / "other.parquet", "--other-model")
    assert ended.code == 0 and len(TraceSet.from_parquet(tmp_path / "other.parquet")) == 6
