"""Numbers with their nouns."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from interp.errors import counted

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "line", "0 lines"),
        (1, "line", "1 line"),
        (2, "line", "2 lines"),
        (3, "address", "3 addresses"),
        (9999, "row", "9999 rows"),
        (12345, "row", "12,345 rows"),
    ],
)
def test_a_noun_agrees_with_its_number(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text


def test_messages_about_lines_of_a_file_agree_with_their_number() -> None:
    """`1 lines of questions.jsonl` was written in four places."""
    wrong = []
    for folder in ("cotlens", "interp", "probes", "dashboards"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    pairs = zip(node.values, node.values[1:], strict=False)
                    wrong += [
                        f"{file.relative_to(ROOT)}:{node.lineno}"
                        for value, text in pairs
                        if isinstance(value, ast.FormattedValue)
                        and ast.unparse(value.value).startswith("len(")
                        and isinstance(text, ast.Constant)
                        and str(text.value).startswith((" lines of", " traces,", " files,", " transcripts "))
                    ]
    assert wrong == []
