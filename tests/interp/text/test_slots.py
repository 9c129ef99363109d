"""Values without step texts are found in the slot that all steps share, in formats where operands are often equal to them."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from interp.problems.base import Step
from interp.text.gold_steps import place_steps

FORMATS = [
    "{a} {o} {b} = {v}",
    "{o}{b} > {v}",
    "Step {k}: {a} {o} {b} gives {v}",
    "{k}. {a}{o}{b}={v}",
    "take {a}, then {o} {b}: now {v}!",
    "{a}→{v}",
    "({a},{b})↦{v}",
    "let x{k} = {a} {o} {b} = {v}",
    "the result of {a} and {b} is {v} (mod 12)",
    "after {b} : {v}",
    "{a} {v}",
    "第{k}步：{a}加{b}得{v}",
    "{a} {o} {b} is {v}, not {a}",
]
NUMBERS = [str(k) for k in range(12)]
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def written(template: str, separator: str, values: Sequence[str], draw: random.Random) -> tuple[str, list, list, list]:
    """Return a text of two to four steps, their values, where each is complete, and the part of each step."""
    text, steps, ends, parts = "", [], [], []
    before = draw.choice(values)
    for k in range(1, draw.choice([3, 4, 5])):
        value = draw.choice(values)
        pieces = template.format(a=before, b=draw.choice(values), o=draw.choice("+*"), k=k, v="\0").split("\0")
        ends.append(len(text) + len(pieces[0] + value))
        parts.append((len(text), len(text) + len(value.join(pieces))))
        text += value.join(pieces) + separator
        steps.append(Step("", value))
        before = value
    return text, steps, ends, parts


@pytest.mark.parametrize("with_parts", [False, True])
@pytest.mark.parametrize("values", [NUMBERS, NAMES])
@pytest.mark.parametrize("template", FORMATS)
def test_a_value_is_placed_where_the_format_writes_it(template: str, values: list[str], with_parts: bool) -> None:
    """Placed by the value alone, up to six in ten were at an operand or at the next step's."""
    draw, wrong, n = random.Random(template), 0, 0
    for k in range(60):
        text, steps, ends, parts = written(template, [";", "\n", " | ", ". "][k % 4], values, draw)
        places = place_steps(text, steps, parts if with_parts else None)
        wrong += sum(place.value_end != end for place, end in zip(places, ends, strict=True))
        n += len(ends)
    assert wrong <= 0.06 * n


def test_a_step_with_another_value_is_placed_in_the_slot_of_the_others() -> None:
    text = "+3 > 3;+4 > 8;+1 > 9;"
    steps = [Step("", value) for value in ("3", "7", "9")]
    assert [place.value_end for place in place_steps(text, steps)] == [6, 13, 20]


def test_values_of_which_the_text_says_nothing_get_no_place() -> None:
    places = place_steps("nothing is said here; nothing there;", [Step("", "5"), Step("", "7")])
    assert [place.value_end for place in places] == [None, None]


def test_one_step_alone_has_no_format() -> None:
    assert [place.value_end for place in place_steps("3 + 4 = 7;", [Step("", "7")])] == [9]
