"""A `run.json` of anybody: what no run of this version or an older one can be is refused in one line."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from dashboards.describe import run_command
from dashboards.run_info import read_info
from dashboards.runs import Run
from interp.errors import StoreError

GOOD: dict[str, Any] = {"schema_version": 1, "model": "a model", "task": "chain", "complete": False}


def written(folder: Path, content: str | dict[str, Any]) -> Path:
    (folder / "run.json").write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_info(written(tmp_path, GOOD | {"more": [1, {"deep": None}]})) == GOOD | {"more": [1, {"deep": None}]}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[" * 200_000, "nested too deeply"),
        ('{"a":' * 200_000, "nested too deeply"),
        ("not json", "cannot be read"),
        ("[]", "does not describe a run"),
        ("{}", "does not describe a run"),
        (GOOD | {"schema_version": 2}, "schema version 1 or older, got 2; update cotlens"),
        (GOOD | {"schema_version": "1"}, "schema_version"),
        (GOOD | {"model": 3}, "model"),
        (GOOD | {"model": "a\x1b[2J"}, "printable"),
        (GOOD | {"model": "a\nrm -rf ~"}, "printable"),
        (GOOD | {"model": "--allow-pickle"}, "dash"),
        (GOOD | {"task": "a\u202etxt"}, "printable"),
        (GOOD | {"n_problems": "5; rm"}, "n_problems"),
        (GOOD | {"options": {"-o x": 1}}, "options"),
        (GOOD | {"options": {"base": "\x07"}}, "options"),
        (GOOD | {"options": ["x"]}, "options"),
        (GOOD | {"skipped": [{"stage": 3, "why": "x"}]}, "skipped"),
        (GOOD | {"complete": "yes"}, "complete"),
    ],
)
def test_what_is_no_run_is_refused_in_one_line(tmp_path: Path, content: Any, why: str) -> None:
    with pytest.raises(StoreError, match=why) as refused:
        Run(written(tmp_path, content))
    assert "\n" not in str(refused.value) and "\x1b" not in str(refused.value)


def test_a_file_too_large_for_a_run_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "run.json").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(StoreError, match="of at most 64 MiB"):
        read_info(tmp_path)


def test_shell_text_in_a_suggested_command_is_one_argument(tmp_path: Path) -> None:
    evil = "x; touch $(pwd)/owned & `id` | 'q' \"q\" !! *"
    info = read_info(written(tmp_path, GOOD | {"model": evil, "options": {"base": evil}}))
    words = shlex.split(run_command(Path("a b"), info))
    assert words[:3] == ["cotlens", "study", evil] and words[-2:] == ["--base", evil]
    assert words[words.index("--out") + 1] == "a b"
