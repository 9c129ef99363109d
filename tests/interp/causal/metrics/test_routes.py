"""Routes around the text: an answer that follows a word of the question, and one that some words only disturb."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from interp.causal.metrics import routes
from interp.causal.metrics.base import Chains
from interp.problems.base import Problem
from interp.traces import Channel, Trace, TraceSet
from tests.interp.causal.metrics.oracle_reasoner import OracleReasoner

HINT = -2  # place of the hinted answer in a question


@pytest.fixture(scope="module")
def chains() -> Chains:
    reasoner = OracleReasoner()
    return Chains(reasoner, reasoner.think(reasoner.task.generate(80, seed=4, split="test")), seed=1)  # type: ignore[arg-type]


def with_another_step(trace: Trace) -> Trace:
    """The trace with its last thought token twice."""
    at = max(k for k, channel in enumerate(trace.channel) if channel == Channel.THOUGHT)
    fields = ("token_ids", "tokens", "channel", "step", "thought", "entropy", "logprob")
    return replace(trace, **{name: [*(of := getattr(trace, name))[: at + 1], *of[at:]] for name in fields})


@pytest.fixture
def scored(chains: Chains, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Score the chains of a model whose answer to an edited question is `answer(its words, the answer as written)`."""
    own = {trace.problem.id: trace.answer for trace in chains.traces}
    by_id = {trace.problem.id: trace for trace in chains.traces}

    def score(
        answer: Callable[[list[str], str], str], longer: Callable[[list[str]], bool] = lambda words: False
    ) -> Any:
        def own_thoughts(problems: Sequence[Problem]) -> TraceSet:
            traces = [by_id[problem.id] for problem in problems]
            flags = [longer(problem.question.split()) for problem in problems]
            return TraceSet([with_another_step(t) if flag else t for t, flag in zip(traces, flags, strict=True)])

        def holding(numbers: Sequence[int], problems: Sequence[Problem]) -> TraceSet:
            answers = [answer(problem.question.split(), own[problem.id]) for problem in problems]
            return TraceSet(
                [
                    replace(chains.traces[0], id=k, problem=problem, answer=answers[k])
                    for k, problem in enumerate(problems)
                ]
            )

        monkeypatch.setattr(chains, "answers_holding", holding)
        monkeypatch.setattr(chains, "answers_to", own_thoughts)
        return routes.route_around(chains)

    return score


def test_an_answer_that_comes_from_the_text_stays(scored: Callable[..., Any]) -> None:
    assert (scored(lambda words, own: own).chain == 1).all()


def test_an_answer_that_follows_the_hint_has_a_route(scored: Callable[..., Any]) -> None:
    assert (scored(lambda words, own: words[HINT]).chain == 0).all()


def test_words_that_do_not_fit_the_text_are_told_from_a_route(chains: Chains, scored: Callable[..., Any]) -> None:
    # Half of the words that the first slot may hold disturb the answer, so the first three drawn are often all of them.
    slots = sorted({trace.problem.question.split()[1] for trace in chains.traces})
    disturbing = set(slots[::2])

    def answer(words: list[str], own: str) -> str:
        return "other" if words[1] in disturbing and " ".join(words) not in questions else own

    questions = {trace.problem.question for trace in chains.traces}
    tried = [t for t, trace in enumerate(chains.traces) if trace.problem.question.split()[1] not in disturbing]
    result = scored(answer)
    assert (result.chain[tried] > 0).all() and result.chain[tried].mean() < 0.7
    n_words = np.mean([len(trace.problem.question.split()) for trace in chains.traces])
    assert result.passes > routes.N_FIRST * n_words, (
        "places where the first words all change the answer are tried further"
    )


def test_a_word_for_which_the_model_itself_writes_a_longer_thought_is_no_route(scored: Callable[..., Any]) -> None:
    def answer(words: list[str], own: str) -> str:
        return words[HINT]

    assert (scored(answer).chain == 0).all()
    left = scored(answer, longer=lambda words: True).chain
    assert np.isnan(left).sum() == 0 and (left == 1).all(), "the other places are still tried"
