"""Transcripts: each position lies in one part, and tokens read as text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dashboards.explore.controls import same_places
from dashboards.explore.segments import segments_of
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


def test_places_of_another_trace_are_matched_in_order() -> None:
    ours = ["question", "question", "question end", "thought 1", "thought 2", "answer"]
    theirs = ["question", "question end", "thought 1", "answer"]
    assert same_places(ours, theirs).tolist() == [0, -1, 1, 2, -1, 3]
