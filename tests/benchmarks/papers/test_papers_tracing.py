"""The positions that a graph's circuit should attend to, and the knock-out of attention heads."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import interp
from benchmarks.papers import tracing
from interp.traces import Trace


@pytest.fixture(scope="module")
def text() -> interp.Reasoner:
    return interp.load("chain-text")


def walk(question: str, written: list[str], written_trace, made_problem) -> Trace:
    words = question.split()
    trace = written_trace(made_problem("q", ["1", "2"]), kind="thought")
    channel = [*["prompt"] * len(words), "special", *["thought"] * len(written)]
    ids = list(range(len(channel)))
    return dataclasses.replace(trace, token_ids=ids, tokens=[*words, "<bot>", *written], channel=channel)


def test_an_edges_end_is_where_the_next_node_stands_in_the_question(written_trace, made_problem) -> None:
    trace = walk("c d ; a b ; b c ; x c ? a", ["b", "c", "d"], written_trace, made_problem)
    # The thoughts stand at 14, 15 and 16; b c ends at 7 and c d at 1.
    assert [trace.tokens[k] for k in (14, 15, 16)] == ["b", "c", "d"]
    assert tracing.edge_ends(trace) == [(14, 7), (15, 1)]


def test_a_walk_off_the_listed_edges_gives_no_pair(written_trace, made_problem) -> None:
    trace = walk("a b ; b c ; x c ? a", ["b", "x", "c"], written_trace, made_problem)
    assert tracing.edge_ends(trace) == []


def test_attention_scores_are_of_every_head_and_knock_outs_go_away(text: interp.Reasoner, problems: list) -> None:
    traces = text.think(problems[:20])
    looks = tracing.attention_scores(text, traces)
    assert set(looks) == {(block, head) for block in range(3) for head in range(4)}
    assert all(0 <= previous <= 1 for previous, _ in looks.values())
    means = tracing.mean_outputs(text, traces)
    everything = tracing.knock_out(text, problems[:20], set(looks), means)
    assert everything.accuracy < 0.5 < text.think(problems[:20]).accuracy
    nothing = tracing.knock_out(text, problems[:20], set(), means)
    assert [t.token_ids for t in nothing] == [t.token_ids for t in traces]


def test_heads_side_by_side_are_told_apart() -> None:
    z = torch.arange(24.0).reshape(1, 2, 12)
    assert torch.equal(tracing.by_head(z, 3)[0, 1, 2], torch.tensor([20.0, 21, 22, 23]))
    assert tracing.by_head(z.reshape(1, 2, 3, 4), 3).shape == (1, 2, 3, 4)
