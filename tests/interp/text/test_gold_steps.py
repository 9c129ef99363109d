"""Where gold steps stand in a written thought, and where their values are complete."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.problems.base import Step
from interp.text.gold_steps import place_steps

LEFT, NOWHERE = "left out", "nowhere"


def steps(*texts_and_values: tuple[str, str]) -> list[Step]:
    return [Step(text, value) for text, value in texts_and_values]


def until(text: str, gold: list[Step], parts: list[tuple[int, int]] | None = None) -> list[str]:
    """Return for each step what is written when its value is complete, or why it has no place."""
    return [
        text[: place.value_end] if place.value_end is not None else LEFT if place.left_out else NOWHERE
        for place in place_steps(text, gold, parts)
    ]


CODE = steps(("c +8 >b 8 ;", "8"), ("b -3 >d 5 ;", "5"), ("d *2 >e 10 ;", "10"))
VALUES = steps(("3", "3"), ("7", "7"), ("2", "2"))


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [
        # As they are, with other white space, and amid other words: neither the operand +8 nor the separator.
        ("c +8 >b 8 ; b -3 >d 5 ; d *2 >e 10 ;", CODE, ["c +8 >b 8", "c +8 >b 8 ; b -3 >d 5", "…10"]),
        ("c +8>b 8;\nb -3>d 5;\nd *2>e 10;", CODE, ["c +8>b 8", "c +8>b 8;\nb -3>d 5", "…10"]),
        ("So: c +8 >b 8 , and b -3 >d 5 , and d *2 >e 10 !", CODE, ["So: c +8 >b 8", "…b -3 >d 5", "…10"]),
        # Another value in a step's slot is where that step's value is complete.
        ("c +8 >b 9 ; b -3 >d 6 ; d *2 >e 12 ;", CODE, ["c +8 >b 9", "…>d 6", "…12"]),
        ("3 5 2", VALUES, ["3", "3 5", "3 5 2"]),
        ("4 5 6", VALUES, ["4", "4 5", "4 5 6"]),
        # Left out, at the end, in the middle and whole; and out of order.
        ("3 7", VALUES, ["3", "3 7", LEFT]),
        ("c +8 >b 8 ; d *2 >e 10 ;", CODE, ["c +8 >b 8", LEFT, "…10"]),
        ("", VALUES, [LEFT] * 3),
        ("b -3 >d 5 ; c +8 >b 8 ; d *2 >e 10 ;", CODE, ["…c +8 >b 8", "b -3 >d 5", "…10"]),
        # Written in another way: known by the value, or not at all.
        ("First, 3 + 5 = 8. Then 8 - 2 = 6.", steps(("", "8"), ("", "6")), ["First, 3 + 5 = 8", "….Then 8 - 2 = 6"]),
        ("+8 > 8 ; +5 > 5 ;", steps(("8", "8"), ("5", "5")), ["+8 > 8", "+8 > 8 ; +5 > 5"]),
        ("I get eight, then five.", steps(("3 + 5 = 8", "8"), ("8 - 3 = 5", "5")), [NOWHERE, NOWHERE]),
        ("It has 9 parts: 3+5=8. So Paris is it.", steps(("", "8"), ("", "77"), ("", "paris")), ["…=8", NOWHERE, "…Paris"]),
        # Steps that repeat, values of several tokens, in any script, first in their step, and not in their step.
        ("b 1 ; b 1 ; b 1 ;", steps(*[("b 1 ;", "1")] * 3), ["b 1", "b 1 ; b 1", "b 1 ; b 1 ; b 1"]),
        ("37", VALUES[:2], ["3", "37"]),
        ("x=-3,y=1.25;", steps(("x=-3", "-3"), ("y=1.25", "1.25")), ["x=-3", "x=-3,y=1.25"]),
        ("it is 1,250 .", steps(("it is 1250 .", "1250")), ["it is 1,250"]),
        ("So 3−5 gives −2.", steps(("3-5 gives -2", "-2")), ["So 3−5 gives −2"]),
        ("答案是四。然后是五。", steps(("答案是四", "四"), ("然后是五", "五")), ["答案是四", "答案是四。然后是五"]),
        ("答案四。结果五。", steps(("", "四"), ("", "五")), ["答案四", "答案四。结果五"]),
        ("8 = 8 + 0 ; 5 = 2 + 3 ;", steps(("8 = 8 + 0 ;", "8"), ("5 = 2 + 3 ;", "5")), ["8", "8 = 8 + 0 ; 5"]),
        ("odd . even .", steps(("odd .", "1"), ("even .", "2")), ["odd", "odd . even"]),
        ("the blue cat; the red dog", steps(("the blue cat", "blue cat"), ("the red dog", "red dog")), ["…cat", "…dog"]),
    ],
)  # fmt: skip
def test_a_value_is_complete_at_its_last_character(text: str, gold: list[Step], expected: list[str]) -> None:
    for found, wanted in zip(until(text, gold), expected, strict=True):
        if wanted.startswith("…"):
            assert found.replace(" ", "").endswith(wanted[1:].replace(" ", "")), (found, wanted)
        else:
            assert found == wanted


def test_a_part_that_is_known_holds_its_step_whatever_is_written_in_it() -> None:
    text, gold = "drei ; sieben ;", steps(("trois ;", "3"), ("sept ;", "7"))
    assert until(text, gold, [(0, 6), (6, 15)]) == ["drei", "drei ; sieben"]
    swapped = "b -3 >d 5 ; c +8 >b 9 ; d *2 >e 10 ;"
    places = until(swapped, CODE, [(0, 11), (11, 22), (22, 35)])
    assert places == [swapped[:21], swapped[:9], swapped[:34]], "a step that is written whole is found in another part"


words = st.sampled_from("abcdexyz")
values = st.one_of(
    st.integers(-999, 9999).map(str),
    st.decimals(0, 99, places=2).map(str),
    st.sampled_from(["red", "blue cat", "四", "дом", "naïve", "3/4"]),
)


@st.composite
def written_thoughts(draw: st.DrawFn) -> tuple[list[Step], str, list[int]]:
    """Draw gold steps of one random format, a text that holds them, and where each value is complete in it."""
    before, after = (
        draw(st.sampled_from(["=", ">", "gives ", ": "])),
        draw(st.sampled_from([";", " .", "", ") ", " !"])),
    )
    gold, text, ends = [], draw(st.sampled_from(["", "Well: ", "\n"])), []
    for _ in range(draw(st.integers(1, 5))):
        value = draw(values)
        operand = draw(st.sampled_from([value, "7", "x2"]))  # an operand may have the value's own digits
        body = f"{draw(words)} {draw(st.sampled_from(['+', '* ', '- ']))}{operand} {before}"
        gold.append(Step(f"{body}{value}{after}", value))
        text += f"{body}{value}"
        ends.append(len(text))
        text += after + draw(st.sampled_from([" ", "\n", "  "]))
    return gold, text, ends


@given(written_thoughts())
@settings(max_examples=300, deadline=None)
def test_in_any_format_a_value_is_complete_where_its_last_character_is(
    thought: tuple[list[Step], str, list[int]],
) -> None:
    gold, text, ends = thought
    assert [place.value_end for place in place_steps(text, gold)] == ends


@given(written_thoughts(), st.data())
@settings(max_examples=200, deadline=None)
def test_steps_around_one_that_is_left_out_keep_their_places(
    thought: tuple[list[Step], str, list[int]], data: st.DataObject
) -> None:
    gold, text, ends = thought
    missing = data.draw(st.integers(0, len(gold) - 1))
    extra = Step("q +5 =>>> 31337 #", "31337")
    places = place_steps(text, [*gold[:missing], extra, *gold[missing:]])
    assert places[missing].value_end is None
    assert places[missing].left_out == (missing > 0 or not text.startswith("Well")), "only a word can be a step"
    assert [place.value_end for k, place in enumerate(places) if k != missing] == ends
