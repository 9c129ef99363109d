"""Splitting a thought into sentences and steps."""

from __future__ import annotations

import pytest

from interp.text.segments import numbers, sentence_ends, step_ends


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


def test_tokens_belong_to_the_part_that_ends_next() -> None:
    assert numbers([1, 4, 5, 9], [4, None, 8]) == [1, 1, 3, 3], "what follows the last part belongs to it"
    assert numbers([1, 2], [None]) == [0, 0]
