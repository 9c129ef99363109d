"""Thinking tokens and pauses: their training sequences, and the number of pauses in a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from interp.errors import UsageError
from interp.organisms.catalog import Recipe, recipe, recipes
from interp.organisms.training.model import tokenizer_of
from interp.organisms.training.pauses import random_pauses, with_thoughts
from interp.problems import task
from interp.problems.base import Problem
from interp.reasoners import ReasonerConfig, curriculum_of
from interp.reasoners.curriculum import LessonBatch, collate
from interp.reasoners.silent import ThinkingTokenCurriculum

CHAIN = "chain:steps=2-3,restated=yes"
CONFIG = ReasonerConfig(kind="thinking-tokens", task=CHAIN)


@pytest.fixture
def problem() -> Problem:
    return next(p for p in task(CHAIN).generate(20, seed=0, split="train") if p.n_steps == 3)


def test_there_is_one_token_for_each_step_of_the_longest_problem() -> None:
    assert ThinkingTokenCurriculum(CONFIG).words() == ["<CoT>(1)", "<CoT>(2)", "<CoT>(3)"]
    two = ReasonerConfig(kind="thinking-tokens", task=CHAIN, thoughts_per_step=2)
    assert len(ThinkingTokenCurriculum(two).words()) == 6
    named = ReasonerConfig(kind="thinking-tokens", task=CHAIN, thinking="<T{}>")
    assert ThinkingTokenCurriculum(named).placeholder(2) == "<T2>"


def test_without_a_task_the_number_of_tokens_is_unknown() -> None:
    with pytest.raises(UsageError, match=r"expected a task .*, got none; set task"):
        ThinkingTokenCurriculum(ReasonerConfig(kind="thinking-tokens")).words()


@pytest.mark.parametrize("hidden", [0, 1, 2, 3, 7])
def test_the_first_steps_become_tokens_in_order_and_the_loss_covers_what_is_still_text(
    problem: Problem, hidden: int
) -> None:
    lesson = ThinkingTokenCurriculum(CONFIG).lesson(problem, hidden)
    replaced = min(hidden, 3)
    silent = [f"<CoT>({k})" for k in range(1, replaced + 1)]
    written = " ".join(step.text for step in problem.steps[replaced:]).split()
    question = [*problem.question.split(), "<bot>"]
    assert lesson.words == [*question, *silent, *written, "<eot>", problem.answer, "<eos>"]
    assert (lesson.first_thought, lesson.n_thoughts) == (len(question), replaced)
    unscored = len(question) + replaced + (0 if written else 1)  # an end marker after tokens alone is forced
    assert lesson.scored == [k >= unscored for k in range(len(lesson.words))]


@pytest.mark.parametrize("name", [n for n in recipes() if n.startswith("chain3-")])
def test_every_word_of_every_stage_is_known_to_its_organism(name: str) -> None:
    made = recipe(name)
    known, curriculum = tokenizer_of(made).get_vocab(), curriculum_of(made.reasoner())
    for problem in task(made.task).generate(20, seed=0, split="train"):
        for stage in made.stages:
            assert set(curriculum.lesson(problem, stage.hidden_steps).words) <= set(known)


def test_controls_differ_from_the_thinking_tokens_in_one_thing_each() -> None:
    tokens, pauses, at_once = (
        recipe(f"chain3-{n}") for n in ("thinking-tokens", "staged-pauses", "thinking-tokens-at-once")
    )
    assert pauses.stages == tokens.stages and pauses.kind == "pause"
    assert at_once.kind == tokens.kind and len(at_once.stages) == 1
    always = [stage for stage in tokens.stages if not stage.if_stuck]
    assert sum(s.updates for s in at_once.stages) == sum(s.updates for s in always)
    assert at_once.stages[-1].until == always[-1].until
    with_, without = recipe("chain3-random-pauses"), recipe("chain3-without-pauses")
    assert with_.stages == without.stages and with_.initial == without.initial
    assert (with_.reasoner().thoughts, without.reasoner().thoughts) == (8, 0)


# --- a random number of pauses ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batch() -> LessonBatch:
    made = recipe("chain3-random-pauses")
    problems = [p for p in task(CHAIN).generate(40, seed=0, split="train") if p.n_steps == 3][:8]
    curriculum = curriculum_of(made.reasoner())
    return collate([curriculum.lesson(p, 3) for p in problems], tokenizer_of(made))


@pytest.mark.parametrize("kept", range(9))
def test_a_batch_with_fewer_pauses_is_the_lesson_with_fewer_pauses(batch: LessonBatch, kept: int) -> None:
    made = recipe("chain3-random-pauses")
    problems = [p for p in task(CHAIN).generate(40, seed=0, split="train") if p.n_steps == 3][:8]
    config = made.reasoner().model_copy(update={"thoughts": kept})
    expected = collate([curriculum_of(config).lesson(p, 3) for p in problems], tokenizer_of(made))
    result = with_thoughts(batch, kept)
    torch.testing.assert_close(result.ids, expected.ids)
    torch.testing.assert_close(result.scored, expected.scored)
    assert (result.first_thought, result.n_thoughts) == (expected.first_thought, kept)


class Listening:
    """A model that records how many pauses it reads, and predicts a uniform distribution."""

    def __init__(self, made: Recipe) -> None:
        self.pause = tokenizer_of(made).convert_tokens_to_ids("<pause>")
        self.size = len(tokenizer_of(made))
        self.heard: list[int] = []

    def __call__(self, input_ids: torch.Tensor) -> Any:
        self.heard.append(int((input_ids[0] == self.pause).sum()))
        return type("Out", (), {"logits": torch.zeros(*input_ids.shape, self.size)})


def test_numbers_of_pauses_are_uniform_and_reproducible(batch: LessonBatch) -> None:
    made = recipe("chain3-random-pauses")
    first, second = Listening(made), Listening(made)
    for model in (first, second):
        loss = random_pauses(made)
        for update in range(900):
            loss(model, batch, update / 900)
    assert first.heard == second.heard, "a training that goes on from a checkpoint draws the same numbers"
    counts = [first.heard.count(k) for k in range(9)]
    assert sum(counts) == 900 and all(60 < count < 145 for count in counts)
