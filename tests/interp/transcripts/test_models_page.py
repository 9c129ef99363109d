"""docs/models.md is true: the commands of its sections on text from elsewhere run on its own examples."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "models.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def commands(text: str) -> list[list[str]]:
    """The commands of the first block without a language."""
    (block, *_) = re.findall(r"```\n(.*?)```", text, re.DOTALL)
    return [shlex.split(line, comments=True)[1:] for line in block.splitlines() if line.startswith("cotlens ")]


def test_transcripts_are_imported_captured_and_tested(
    chat_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cotlens: Callable[..., Any]
) -> None:
    text = section("Transcripts from elsewhere")
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    Path("chats.jsonl").write_text(example, encoding="utf-8")
    short = ["--reasoner", '{"max_answer_tokens": 4, "max_thought_tokens": 20}']
    for command in commands(text):
        ended = cotlens(*(str(chat_folder) if part == "MODEL" else part for part in command), *short)
        assert ended.code == 0, ended.err
    (reason,) = set(re.findall(r"`--reasoner '(\{.*?\})'`", text))
    assert '"begin": "<think>"' in reason
