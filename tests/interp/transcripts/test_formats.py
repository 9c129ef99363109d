"""Every format holds the same conversations, and what is none of them is refused with what was expected."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from interp.errors import CotlensError, StoreError, UsageError
from interp.transcripts.formats import read_transcripts
from interp.transcripts.layout import tagged_text
from interp.transcripts.records import Refusal, Transcript
from tests.interp.transcripts.conversations import (
    FORMATS,
    GOLD,
    QUESTIONS,
    REPLIES,
    THOUGHTS,
    conversation,
    inspect_samples,
)


def read(*paths: Path, **options: Any) -> list[Transcript | Refusal]:
    return [item for file in read_transcripts(paths, **options) for item in file.items]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_holds_the_same_conversations(name: str, tmp_path: Path) -> None:
    items = read(FORMATS[name](tmp_path))
    assert len(items) == 2
    for k, item in enumerate(items):
        assert isinstance(item, Transcript)
        tagged = tagged_text(item.text, "<think>", "</think>") if item.thought is None else None
        thought, answer = (item.thought, item.text) if tagged is None else (tagged.thought, tagged.answer)
        assert (item.question, thought.strip(), answer.strip()) == (QUESTIONS[k], THOUGHTS[k], REPLIES[k])
        assert any(item.columns.get(column) == GOLD[k] for column in ("answer", "target", "gt_answer"))


def test_who_wrote_and_how_is_kept(tmp_path: Path) -> None:
    written = {name: FORMATS[name](tmp_path) for name in ("choices", "inspect", "thought anchors")}
    expected = {"choices": ("far-away", 0.5), "inspect": ("far/away", 0.7), "thought anchors": ("far-away", 0.6)}
    for name, path in written.items():
        item = read(path)[0]
        assert isinstance(item, Transcript) and (item.writer, item.temperature) == expected[name]
    (inspected,) = (item for item in read(written["inspect"])[1:] if isinstance(item, Transcript))
    assert inspected.seed == 3 and inspected.columns["score.match"] == "C" and inspected.columns["level"] == 1
    anchors = read(written["thought anchors"])[0]
    assert isinstance(anchors, Transcript)
    assert anchors.prompt == "Solve this. Problem: {question} Solution: \n<think>\n"
    (file,) = read_transcripts([written["thought anchors"]])
    assert file.notes == ("2 files of rollouts are not read; --rollouts N reads N of each",)
    assert len(read(written["thought anchors"], rollouts=2)) == 2 + 2 * 2


def test_a_batch_is_read_from_its_two_files(tmp_path: Path) -> None:
    asked = [{"custom_id": f"q{k}", "body": {"messages": conversation(k)[:1]}} for k in range(2)]
    answered = [
        {"custom_id": f"q{k}", "response": {"body": {"choices": [{"message": {"content": REPLIES[k]}}]}}}
        for k in (1, 0)
    ]
    for name, records in (("in.jsonl", asked), ("out.jsonl", answered)):
        (tmp_path / name).write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    items = read(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert [(item.question, item.text) for item in items if isinstance(item, Transcript)] == [
        (QUESTIONS[1], REPLIES[1]),
        (QUESTIONS[0], REPLIES[0]),
    ]
    alone = read(tmp_path / "out.jsonl")
    assert [str(item) for item in alone] == [
        f"out.jsonl line {n}: it has replies and no messages that they reply to" for n in (1, 2)
    ]


REFUSED: list[tuple[list[dict[str, Any]], str]] = [
    (conversation(0)[:1], "its last message is the user's, so that there is no reply"),
    (conversation(0, content=""), "its reply is empty"),
    (conversation(0, content=None, tool_calls=[{"id": "1"}]), "its reply calls tools, which is not text alone"),
    (conversation(0, content=[{"type": "image_url"}]), "a message holds a part of type 'image_url', which is not text"),
    (
        conversation(0, content=[{"type": "reasoning", "reasoning": "x", "redacted": True}]),
        "its thought is redacted by the service that wrote it",
    ),
    (conversation(0, content="x")[1:], "the message before its reply is missing, not the user's question"),
    (
        [{"role": "tool", "content": "x"}, *conversation(0, content="x")],
        "its message 1 is of role 'tool' or calls tools; only texts of people and models fit",
    ),
]


@pytest.mark.parametrize(("messages", "why"), REFUSED, ids=[why[:40] for _, why in REFUSED])
def test_a_conversation_that_is_no_text_is_refused_with_the_reason(
    messages: list[dict[str, Any]], why: str, tmp_path: Path
) -> None:
    lines = [{"messages": conversation(1, content="So 8.")}, {"messages": messages}]
    (tmp_path / "c.jsonl").write_text("\n".join([*map(json.dumps, lines), "{no"]), encoding="utf-8")
    good, refused, broken = read(tmp_path / "c.jsonl")
    assert isinstance(good, Transcript) and str(refused) == f"c.jsonl line 2: {why}"
    assert str(broken).startswith("c.jsonl line 3: it is not JSON")


def test_samples_of_inspect_that_failed_are_refused(tmp_path: Path) -> None:
    first, second = inspect_samples()
    content = {"eval": {}, "samples": [{**first, "error": {"message": "boom"}}, {**second, "target": ["8", "eight"]}]}
    (tmp_path / "log.json").write_text(json.dumps(content), encoding="utf-8")
    failed, item = read(tmp_path / "log.json")
    assert str(failed) == "log.json sample 0 epoch 1: the sample ended with an error"
    assert isinstance(item, Transcript) and item.columns["target"] == "8"
    assert item.notes == ("of several accepted targets, the first is the right answer",)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("samples/1_epoch_1.json", "{")


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        (
            "a.jsonl",
            '{"text": "hello"}\n{"text": "you"}',
            UsageError,
            "expected chat messages .* got records with text",
        ),
        ("a.json", "[1, 2]", UsageError, "got records of type int"),
        ("a.jsonl", "", UsageError, "got an empty file|text that is not JSON"),
        ("a.txt", "plain words", UsageError, "got text that is not JSON"),
        ("a.bin", b"\xff\xfe\x00", UsageError, "got bytes that are no UTF-8 text"),
        ("a.parquet", b"PAR1 and no more", StoreError, "is a damaged Parquet file"),
        ("a.arrow", b"ARROW1 and no more", StoreError, "is a damaged Arrow file"),
    ],
)
def test_what_is_no_transcript_is_refused(
    name: str, content: str | bytes, error: type[CotlensError], message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(error, match=message):
        read(tmp_path / name)


def test_damaged_archives_missing_files_and_empty_folders_are_refused(tmp_path: Path) -> None:
    _zip(tmp_path / "log.eval")
    with pytest.raises(StoreError, match="is a damaged log of Inspect"):
        read(tmp_path / "log.eval")
    with pytest.raises(StoreError, match=r"expected transcripts at .*nowhere, got nothing there"):
        read(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"got the folder .*empty, which holds none of them"):
        read(tmp_path / "empty")


def test_tags_are_found_as_they_are_written() -> None:
    found = tagged_text("so\n</think>\n\n4", "<think>", "</think>")
    assert found is not None and (found.begin, found.thought, found.answer) == (None, "so\n", "\n\n4")
    open_one = tagged_text("<think>so", "<think>", "</think>")
    assert open_one is not None and open_one.answer is None and open_one.inside == "so"
    assert tagged_text("plain", "<think>", "</think>") is None
    with pytest.raises(ValueError, match="text stands before its thought: 'Well'"):
        tagged_text("Well <think>so</think>4", "<think>", "</think>")
