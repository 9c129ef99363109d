"""Tokens as a reader sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from interp.problems.base import Problem
from interp.text.token_text import TokenText
from interp.traces import Trace


def test_bytes_of_a_vocabulary_become_letters() -> None:
    words = TokenText(["ĠzÃ¤h", "ig", "ĠâĤ¬", "Ċ"])
    assert words.join(["ĠzÃ¤h", "ig", "ĠâĤ¬", "Ċ"]) == " zähig €\n"
    assert words.cell("Ċ") == "⏎" and words.cell("Ġ") == "·"
    assert TokenText(["▁The", "▁cat"]).join(["▁The", "▁cat"]) == " The cat"
    assert TokenText(["3", "+4"]).join(["3", "+4"]) == "3 +4"


@pytest.mark.parametrize("text", ["so12+5=17;", "so 1 2 + 5 = 1 7 ;"])
def test_tokens_without_blanks_are_joined_as_the_traces_text_is(
    written_trace: Callable[..., Trace], made_problem: Callable[..., Problem], text: str
) -> None:
    tokens = ["so", *"12+5=17;"]
    trace = replace(
        written_trace(made_problem("?", ["17"]), kind="thought"),
        tokens=["?", *tokens, "9"],
        channel=["prompt", *["thought"] * len(tokens), "answer"],
        text=text,
        answer="9",
    )
    words = TokenText.of(trace)
    assert words.join(tokens) == text and words.joins_closely == (" " not in text)
