"""Splitting a thought into sentences and steps, and finding where each gold step's value is mentioned."""

from __future__ import annotations

import pytest

from interp.problems.base import Step
from interp.text.segments import gold_step_ends, numbers, sentence_ends, step_ends


def pieces(text: str, ends: list[int]) -> list[str]:
    return [text[start:end].strip() for start, end in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("It is 3.5 in all. Then 4.", ["It is 3.5 in all.", "Then 4."]),
        ("As e.g. this one, i.e. that. Next", ["As e.g. this one, i.e. that.", "Next"]),
        ("1. Add them.\n2. Take away.", ["1. Add them.", "2. Take away."]),
        ('He said "stop." Then on', ['He said "stop."', "Then on"]),
        ("first line\nsecond line\n", ["first line", "second line"]),
        ("... \n\n !", []),
        ("", []),
        ("答案是四。然后", ["答案是四。", "然后"]),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert pieces(text, sentence_ends(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Add. Then more.\n\nNow halve it.", ["Add. Then more.", "Now halve it."]),
        ("Step 1: add\nStep 2: halve it. Done.", ["Step 1: add", "Step 2: halve it. Done."]),
        ("- one\n- two\n- three", ["- one", "- two", "- three"]),
        ("Only one. Paragraph here.", ["Only one.", "Paragraph here."]),
    ],
)
def test_steps(text: str, expected: list[str]) -> None:
    assert pieces(text, step_ends(text)) == expected


def test_gold_steps_end_where_their_values_are_mentioned_in_order() -> None:
    text = "It has 9 parts: 3+5=8, not 6 yet. Then 8-2 is 6, so Paris is it."
    steps = [Step("", "8"), Step("", "6"), Step("", "77"), Step("", "paris")]
    ends = gold_step_ends(text, steps)
    assert ends[2] is None
    assert (
        text[: ends[0]].endswith("3+5=8,") and text[: ends[1]].endswith("not 6") and text[: ends[3]].endswith("Paris")
    )
    assert numbers([1, ends[0], ends[0] + 1, len(text)], ends) == [1, 1, 2, 4]
    assert numbers([1, 2], [None]) == [0, 0]
