"""An activation oracle asked questions, beside another problem's latents and the words of the question alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import interp
from interp.decoders.evaluation.asking import ask_oracle
from interp.decoders.oracle import ABOUT_VALUES, QUESTIONS, Oracle
from interp.errors import UsageError
from interp.models.address import Address
from interp.problems import task as make_task


@pytest.fixture(scope="module")
def triggers() -> interp.Recording:
    reasoner = interp.load("concealed-trigger-coconut")
    traces = reasoner.think(reasoner.task.generate(160, seed=3, split="test"))
    return interp.record(reasoner, traces, sites=["blocks.0.hook_in"], channels=["latent"])


def test_a_hidden_intent_is_in_the_latent_and_not_in_single_words(triggers: interp.Recording) -> None:
    table, address = ask_oracle(triggers, ("value", "intent"), updates=150)
    assert address == Address("blocks.0.hook_in")
    of = table.set_index("question").to_dict("index")
    assert list(of) == ["value", "intent"] and of["value"]["right"] > 0.8
    assert of["value"]["other_problem"] < 0.5 and of["value"]["question_only"] < 0.5
    assert of["intent"]["question_only"] < 0.8 and of["intent"]["n"] == of["value"]["n"]


def test_questions_that_the_task_does_not_answer_are_left_out(triggers: interp.Recording) -> None:
    with pytest.raises(UsageError, match="expected questions with several answers on this task, got hint"):
        ask_oracle(triggers, ("hint",))
    with pytest.raises(UsageError, match="expected a known question for the oracle, got 'hints'"):
        ask_oracle(triggers, ("hints",))


def test_an_answer_is_decided_once_no_later_step_can_change_it() -> None:
    decided = QUESTIONS["decided"][1]
    reasons, chain = make_task("reasons:steps=2-8,values=5"), make_task("chain")
    problem = next(p for p in chain.generate(20, seed=1) if p.n_steps == 3)

    def trace(of: object) -> object:
        return type("Made", (), {"problem": of})()

    assert [decided(trace(problem), k) for k in (0, 1, 2, 3, 4)] == [None, "no", "no", "yes", None]  # type: ignore[arg-type]
    silent = reasons.problem(1, ["+1", "+2"], "silent")  # type: ignore[attr-defined]
    used = reasons.problem(1, ["+1", "+2", "recall"], "used")  # type: ignore[attr-defined]
    assert [decided(trace(silent), k) for k in (1, 2)] == ["yes", "yes"]  # type: ignore[arg-type]
    assert [decided(trace(used), k) for k in (1, 2, 3)] == ["no", "yes", "yes"]  # type: ignore[arg-type]
    hint = QUESTIONS["hint"][1]
    assert (hint(trace(silent), 1), hint(trace(used), 1), hint(trace(problem), 1)) == ("yes", "no", None)  # type: ignore[arg-type]


def test_as_a_decoder_the_oracle_learns_the_questions_about_values_alone() -> None:
    assert Oracle().questions == ABOUT_VALUES and set(ABOUT_VALUES) < set(QUESTIONS)


def test_the_command_says_where_nothing_is_shown_of_the_latent(cotlens: Callable, store: interp.Store) -> None:
    arguments = ("decode", "ask", store.path, "--question", "decided", "--address", "blocks.0.hook_in", "--updates", 5)
    ended = cotlens(*arguments, "--json")
    (row,) = ended.json["answers"]
    # The number of the step and of all steps say it.
    assert row["question"] == "decided" and row["question_only"] == 1 and np.isfinite(row["other_problem"])
    assert "is the answer decided ? nothing is shown of the latent" in cotlens(*arguments).out
