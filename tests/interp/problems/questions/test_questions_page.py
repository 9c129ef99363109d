"""docs/questions.md is true: its examples run, and it names every field."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from random import Random

import pytest

from interp.problems import task
from interp.problems.questions.file import read_question_file
from interp.problems.questions.labels import KNOWN_FIELDS
from interp.reasoners.config import KINDS, ReasonerConfig

PAGE = (Path(__file__).parents[4] / "docs" / "questions.md").read_text(encoding="utf-8")


def test_the_example_file_is_read_whole(tmp_path: Path) -> None:
    example = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0]
    path = tmp_path / "mine.jsonl"
    path.write_text(example, encoding="utf-8")
    file = read_question_file(path)
    assert len(file.problems) == 3 and not file.broken and not file.notes
    assert file.fields["topic"] == "label of each trace" and file.fields["carry"] == "label of each step"
    assert file.fields["source"].startswith("kept, not a label")
    made = task(f"questions:path={path}")
    first, second, third = file.problems
    assert made.counterfactual(first, 1, "6") == "10" and made.counterfactual(second, 1, "6") == "10"
    assert [donor.question for donor in made.donors(second)] == [first.question]
    assert made.rewrite(second, Random(0)).answer == "13"
    assert (first.split, second.split) == ("train", "test") and third.steps[-1].value == "72"


def test_the_example_task_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "own_sums.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        made = task("own_sums:sums:largest=20")
        (problem,) = made.generate(1, seed=0)
        last = int(problem.answer) - int(problem.steps[0].value)
        assert made.counterfactual(problem, 1, "3") == str(3 + last)
    finally:
        sys.modules.pop("own_sums", None)


def test_the_page_names_every_field_and_kind() -> None:
    example = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[1]
    assert ReasonerConfig.parse(json.loads(example), "the page").prompt == "chat"
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", PAGE, re.MULTILINE))
    assert set(ReasonerConfig.model_fields) <= set(rows) and set(KNOWN_FIELDS) <= set(rows)
    for name, field in ReasonerConfig.model_fields.items():
        assert rows[name] == ("needed" if field.is_required() else f"`{json.dumps(field.default)}`")
    assert all(f"`{kind}`" in PAGE for kind in KINDS)


def test_the_line_of_the_quick_start_is_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[4] / "docs" / "quickstart.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    path = tmp_path / "questions.jsonl"
    path.write_text(example, encoding="utf-8")
    file = read_question_file(path)
    assert not file.broken and [step.value for step in file.problems[0].steps] == ["7"]
