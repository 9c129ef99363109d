"""Thinking elsewhere: a server writes, and its replies become traces of the local model."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from interp.errors import StoreError, UsageError
from interp.problems.base import Problem
from interp.reasoners import Reasoner
from interp.reasoners.config import CHAT
from interp.reasoners.resumable import parts_folder
from interp.reasoners.vocabulary import chat_messages, prompt_text
from interp.runtime.files import commit, refuse_existing
from interp.runtime.locks import locked
from interp.runtime.progress import Progress
from interp.traces import THINKING
from interp.transcripts.aligning import Aligner
from interp.transcripts.chat_records import read_records
from interp.transcripts.endpoint import Endpoint
from interp.transcripts.importing import Alignment, align_transcripts
from interp.transcripts.records import Refusal, Transcript

_META, _REPLIES = "asking.json", "replies.jsonl"


@dataclass(frozen=True)
class ServerSampling:
    """How the server writes.

    Attributes:
        temperature: Sampling temperature; 0 takes the likeliest token.
        top_p: Sample from the smallest set of tokens with at least this probability.
        seed: Seed of the first request; each further one has the next.
        max_tokens: Most tokens of a reply, thought and answer together.
        stop: Texts at which a reply ends.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    max_tokens: int = 1024
    stop: tuple[str, ...] = ()


def think_at_endpoint(
    reasoner: Reasoner,
    problems: Sequence[Problem],
    out: Path | str,
    endpoint: Endpoint,
    *,
    sampling: ServerSampling | None = None,
    concurrency: int = 8,
    other_model: bool = False,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> Alignment:
    """Let a server write about problems, align its replies to a local model's tokens, and write the traces.

    Each reply is kept beside the file as soon as it comes. After a crash, the same call asks for the others alone.

    Args:
        reasoner: The local model: what the server should be serving. It reads every text once.
        problems: The problems.
        out: The parquet file to write.
        endpoint: The server.
        sampling: How it writes.
        concurrency: Requests at a time.
        other_model: Keep texts that another model than the local one evidently wrote.
        batch_size: Traces that the local model reads at once.
        progress: Called with (replies, problems in all).

    Returns:
        The traces with what was refused, what was assumed, and the local model's agreement with the texts.

    Raises:
        UsageError: `out` exists, or the local model does not write text.
        EndpointError: The server cannot be reached, or does not answer as expected. Replies so far are kept.
        StoreError: The replies beside `out` are to other requests, or another model wrote the texts.
    """
    out, sampling = Path(out), sampling or ServerSampling()
    refuse_existing(out)
    Aligner(reasoner)  # says at once if the model does not write text
    model = endpoint.served_model()
    path, requests = _requests(reasoner, problems, model, sampling)
    sent = json.dumps([path, requests], sort_keys=True).encode()
    meta = {"model": model, "host": endpoint.host, "requests": hashlib.sha256(sent).hexdigest()}
    folder = parts_folder(out)
    with locked(folder, "thinking into"):
        try:
            replies = _kept(folder, meta)
            if progress:
                progress(len(replies), len(problems))
            for index, answer in _ask(endpoint, path, requests, skip=set(replies), concurrency=concurrency):
                _keep(folder, meta, index, answer)
                replies[index] = answer
                if progress:
                    progress(len(replies), len(problems))
        except BaseException:
            if not (folder / _REPLIES).exists():
                shutil.rmtree(folder, ignore_errors=True)
            raise
        writer = f"{model} at {endpoint.host}"
        alignment = _aligned(
            reasoner, problems, requests, [replies[k] for k in range(len(problems))], writer, batch_size
        )
        notes = {"endpoint": _note(path, writer, sampling)}
        alignment = replace(alignment, assumptions={**notes, **alignment.assumptions})
        if alignment.agreement is not None and alignment.agreement.is_another_model() and not other_model:
            about = f"{alignment.agreement}; {alignment.assumptions['text']}{_markers_hint(reasoner, alignment)}"
            raise StoreError(
                f"expected text of {reasoner.name}, got text that another model wrote, or another prompt: {about}. "
                f"Load the model that {endpoint.host} serves, or allow it (--other-model). The replies are kept beside "
                f"{out}."
            )
        alignment.traces.to_parquet(out)
        shutil.rmtree(folder, ignore_errors=True)
    return alignment


def _requests(
    reasoner: Reasoner, problems: Sequence[Problem], model: str, sampling: ServerSampling
) -> tuple[str, list[dict[str, Any]]]:
    """Return the path and the body of each request: messages for chat models, else the local prompt as text."""
    config = reasoner.config
    chat = config.prompt == CHAT and all(problem.prompt is None for problem in problems)
    common: dict[str, Any] = {"model": model, "n": 1, "max_tokens": sampling.max_tokens}
    common |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
    if sampling.stop:
        common["stop"] = list(sampling.stop)
    bodies = []
    for number, problem in enumerate(problems):
        if chat:
            prompt: dict[str, Any] = {"messages": chat_messages(config, problem)}
            if config.chat_options:
                prompt["chat_template_kwargs"] = dict(config.chat_options)
        else:
            begin = config.begin if reasoner.kind == "text" and config.begin else ""
            prompt = {"prompt": prompt_text(reasoner.tokenizer, config, problem) + begin}
        bodies.append({**common, **prompt, "seed": sampling.seed + number})
    return ("chat/completions" if chat else "completions"), bodies


def _ask(
    endpoint: Endpoint, path: str, requests: Sequence[dict[str, Any]], *, skip: set[int], concurrency: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the index of each request that is not skipped and its answer, as they come."""
    todo = iter([k for k in range(len(requests)) if k not in skip])
    pool = ThreadPoolExecutor(concurrency)
    running: dict[Future[dict[str, Any]], int] = {}
    try:
        while True:
            while len(running) < concurrency and (k := next(todo, None)) is not None:
                running[pool.submit(endpoint.ask, path, requests[k])] = k
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            failures = []
            for future in sorted(done, key=running.__getitem__):
                k, error = running.pop(future), future.exception()
                if error is None:
                    yield k, future.result()
                else:
                    failures.append(error)
            if failures:
                raise failures[0]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _keep(folder: Path, meta: dict[str, Any], index: int, answer: dict[str, Any]) -> None:
    """Append a reply to those beside the file, so that it survives a crash."""
    if not (folder / _META).exists():
        commit(folder / _META, (json.dumps(meta, indent=2, sort_keys=True) + "\n").encode())
    with (folder / _REPLIES).open("ab") as file:
        # A line break first: what a killed process left half written then spoils no further line.
        file.write(b"\n" + json.dumps({"index": index, "answer": answer}).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _kept(folder: Path, meta: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Return the replies beside the file, by the index of their request."""
    if not (folder / _META).exists():
        return {}
    try:
        written = json.loads((folder / _META).read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreError(f"{folder / _META} cannot be read ({error}). Remove {folder} to begin anew.") from None
    differing = [name for name, value in meta.items() if written.get(name) != value]
    if differing:
        raise StoreError(
            f"{folder} holds replies with another {', '.join(differing)}. Choose another --out, or remove it."
        )
    replies = {}
    for line in (folder / _REPLIES).read_bytes().splitlines() if (folder / _REPLIES).exists() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # empty, or half written when the process was killed: it is asked for again
        replies[int(record["index"])] = record["answer"]
    return replies


def _aligned(
    reasoner: Reasoner,
    problems: Sequence[Problem],
    requests: Sequence[dict[str, Any]],
    replies: Sequence[dict[str, Any]],
    writer: str,
    batch_size: int,
) -> Alignment:
    kept: list[tuple[Problem, Transcript]] = []
    refused: list[Refusal] = []
    for number, (problem, request, reply) in enumerate(zip(problems, requests, replies, strict=True), 1):
        messages = request.get("messages") or [{"role": "user", "content": problem.question}]
        sampling = {"temperature": request["temperature"], "seed": request["seed"]}
        record = {**sampling, "choices": reply["choices"][:1], "messages": messages}
        for item in read_records([(f"reply {number}", record)]):
            if isinstance(item, Refusal):
                refused.append(item)
            else:
                kept.append((problem, replace(item, writer=writer)))
    if not kept:
        raise UsageError(f"expected replies of text from {writer}, got none: {refused[0]}.")
    alignment = align_transcripts(reasoner, *zip(*kept, strict=True), batch_size=batch_size)
    return replace(alignment, refused=[*refused, *alignment.refused])


def _markers_hint(reasoner: Reasoner, alignment: Alignment) -> str:
    """Return what may have become of the thoughts, where the model thinks and no reply has a thought."""
    thinks = reasoner.kind == "text" and reasoner.config.end is not None
    if not thinks or any(channel in THINKING for trace in alignment.traces for channel in trace.channel):
        return ""
    return f"; no reply has a thought: a server that leaves out special tokens leaves out {reasoner.config.end!r} too"


def _note(path: str, writer: str, sampling: ServerSampling) -> str:
    prompt = "its own chat template" if path == "chat/completions" else "the local model's prompt as text"
    drawn = f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, seeds from {sampling.seed}"
    return (
        f"{writer} wrote with {prompt}, {drawn}, at most {sampling.max_tokens} tokens for thought and answer together"
    )
