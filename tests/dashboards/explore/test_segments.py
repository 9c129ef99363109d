"""Transcripts: each position lies in one part, and tokens read as text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dashboards.explore.controls import same_places
from dashboards.explore.segments import segments_of
from dashboards.explore.token_text import TokenText
from interp.problems.base import Problem
from interp.traces import Trace, TraceSet


@pytest.mark.parametrize("unit", ["sentences", "steps"])
def test_parts_hold_every_position_once(traces: TraceSet, unit: str) -> None:
    for trace in traces[:20]:
        parts = segments_of(trace, unit)
        assert [k for part in parts for k in range(part.start, part.stop)] == list(range(len(trace)))
        assert parts[0].name == "prompt" and parts[-1].name == "answer"
        assert sum(part.name.startswith("thought") for part in parts) == trace.problem.n_steps


def test_visible_thoughts_are_cut_where_sentences_end(
    written_trace: Callable[..., Trace], problems: list[Problem]
) -> None:
    problem = next(problem for problem in problems if problem.n_steps >= 4)
    trace = written_trace(problem, kind="thought")
    first = trace.channel.index("thought")
    tokens = list(trace.tokens)
    tokens[first : first + 4] = ["It", "Ġis.", "ĠNow", "Ġthis."]
    trace = replace(trace, tokens=tokens, step=[0] * len(trace))
    names = {part.name: part.text for part in segments_of(trace, "sentences")}
    assert names["sentence 1"] == "It is." and names["sentence 2"].startswith(" Now this.")


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


def test_places_of_another_trace_are_matched_in_order() -> None:
    ours = ["question", "question", "question end", "thought 1", "thought 2", "answer"]
    theirs = ["question", "question end", "thought 1", "answer"]
    assert same_places(ours, theirs).tolist() == [0, -1, 1, 2, -1, 3]
