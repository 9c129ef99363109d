"""Forcing: the thought is the given one, and the answer is the model's own."""

from __future__ import annotations

import math

import numpy as np
import pytest

import interp
from interp.causal.visible_text.forcing import force, gold_thought, resume, thought_ids
from interp.errors import UsageError
from interp.problems.base import Problem
from interp.reasoners.rollouts import rollout
from interp.traces import Channel
from tests.interp.same_traces import assert_same_traces


@pytest.fixture(scope="module")
def text() -> interp.Reasoner:
    return interp.load("chain-text")


@pytest.fixture(scope="module")
def problems(text: interp.Reasoner) -> list[Problem]:
    return text.task.generate(40, seed=21, split="test")


def test_its_own_thought_brings_its_own_trace_back(text: interp.Reasoner, problems: list[Problem]) -> None:
    free = text.think(problems)
    forced = force(text, problems, [thought_ids(trace) for trace in free])
    for own, again in zip(free, forced, strict=True):
        assert (own.token_ids, own.channel, own.step, own.answer) == (
            again.token_ids,
            again.channel,
            again.step,
            again.answer,
        )
        assert own.text == again.text and own.correct == again.correct
        np.testing.assert_allclose(own.entropy, again.entropy, atol=1e-4)


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_a_thought_may_be_read_in_parts(
    text: interp.Reasoner, problems: list[Problem], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    thoughts = [gold_thought(problem) for problem in problems]
    whole = force(text, problems, thoughts)
    monkeypatch.setattr(rollout, "_POSITIONS_PER_PASS", at_once)
    assert_same_traces(whole, force(text, problems, thoughts), atol=1e-4)


def test_text_and_token_ids_are_the_same_thought(text: interp.Reasoner, problems: list[Problem]) -> None:
    as_text = force(text, problems, [gold_thought(problem) for problem in problems])
    ids = [text.tokenizer(gold_thought(problem))["input_ids"] for problem in problems]
    assert [t.token_ids for t in as_text] == [t.token_ids for t in force(text, problems, ids)]
    assert as_text.accuracy > 0.97


def test_the_answer_follows_the_last_value_that_was_put_there(text: interp.Reasoner, problems: list[Problem]) -> None:
    """The chain organism reads its answer off the last step, so any last value becomes the answer."""
    wrong = [str((int(problem.answer) + 3) % 10) for problem in problems]
    thoughts = [
        " ".join([*(step.text for step in problem.steps[:-1]), value])
        for problem, value in zip(problems, wrong, strict=True)
    ]
    forced = force(text, problems, thoughts)
    assert sum(t.answer == value for t, value in zip(forced, wrong, strict=True)) >= 36
    assert forced.accuracy < 0.1


def test_batching_changes_nothing(text: interp.Reasoner, problems: list[Problem]) -> None:
    thoughts = [gold_thought(problem) for problem in problems]
    together = force(text, problems, thoughts, batch_size=40)
    alone = force(text, problems, thoughts, batch_size=1)
    assert [t.token_ids for t in together] == [t.token_ids for t in alone]


def test_a_forced_token_has_an_entropy_and_no_logprob(text: interp.Reasoner, problems: list[Problem]) -> None:
    trace = force(text, problems[:1], [gold_thought(problems[0])])[0]
    places = [k for k, channel in enumerate(trace.channel) if channel == Channel.THOUGHT]
    assert len(places) == problems[0].n_steps
    assert all(math.isnan(trace.logprob[k]) and trace.entropy[k] >= 0 for k in places)
    assert not math.isnan(trace.logprob[-1])


def test_no_thought_at_all_can_be_forced(text: interp.Reasoner, problems: list[Problem]) -> None:
    trace = force(text, problems[:1], [""])[0]
    assert thought_ids(trace) == [] and trace.answer


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_thought_goes_on_where_its_beginning_ends(
    text: interp.Reasoner, problems: list[Problem], temperature: float
) -> None:
    free = text.think(problems, temperature=temperature, seed=5)
    kept = [k % 3 for k in range(len(problems))]
    prefixes = [thought_ids(trace)[:k] for trace, k in zip(free, kept, strict=True)]
    resumed = resume(text, problems, prefixes, temperature=temperature, seed=5)
    for own, again, k in zip(free, resumed, kept, strict=True):
        assert thought_ids(again)[:k] == thought_ids(own)[:k] and again.id == own.id
        if not temperature:
            assert (again.token_ids, again.thought, again.step) == (own.token_ids, own.thought, own.step)


def test_what_follows_a_slip_follows_from_it(text: interp.Reasoner, problems: list[Problem]) -> None:
    wrong = [str((int(problem.steps[0].value) + 3) % 10) for problem in problems]
    answers = [trace.answer for trace in resume(text, problems, wrong)]
    implied = [text.task.counterfactual(problem, 1, value) for problem, value in zip(problems, wrong, strict=True)]
    assert sum(a == b for a, b in zip(answers, implied, strict=True)) >= 38


def test_what_cannot_be_forced_is_refused(text: interp.Reasoner, coconut: interp.Reasoner, problems: list) -> None:
    with pytest.raises(UsageError, match=r"expected a reasoner whose thoughts are written, got chain-coconut"):
        force(coconut, problems[:1], ["4"])
    with pytest.raises(UsageError, match="expected one thought for each problem, got 1 for 2"):
        force(text, problems[:2], ["4"])
    with pytest.raises(
        UsageError, match="expected words that chain-text knows, got a thought with unknown ones, '4 plum'"
    ):
        force(text, problems[:1], ["4 plum"])
    with pytest.raises(
        UsageError, match=r"expected a thought that leaves room for the answer.*got 70 tokens.*64 positions"
    ):
        force(text, problems[:1], ["4 " * 70])
