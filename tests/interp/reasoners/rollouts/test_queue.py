"""Finished rows make room for the next problems: traces are those of thinking alone, in order, whatever the lengths."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

import interp
from interp.errors import StoreError
from interp.problems.base import Problem
from interp.reasoners.rollouts import prefix, queue, thinker
from interp.reasoners.rollouts.columns import Columns
from tests.interp.same_traces import assert_same_traces

NAMES = ["gpt2", "llama", "gemma2", "mistral", "gpt_oss", "gpt_neo", "mpt", "bloom", "qwen3_moe"]
# Tokens that end a thought or an answer: rows of a random model end at different times.
TEXT = {"kind": "text", "begin": "<think>", "end": "</think>", "eos": "", "stops": ["e", "o", "t", "s", "i", "n", "."]}
TEXT |= {"max_thought_tokens": 24, "max_answer_tokens": 12}
N = 11
TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def load(model_folder: Callable) -> Callable[..., interp.Reasoner]:
    """Load a small model of an architecture with another `reasoner.json`; asked for twice, it is the same."""
    return functools.cache(lambda name, **config: interp.load(model_folder(name), reasoner={**TEXT, **config}))


@pytest.fixture(scope="module")
def problems(asked: Callable[..., list[Problem]]) -> list[Problem]:
    """Questions of different lengths, the longest in the middle, so that a prompt longer than its batch comes later."""
    made = asked(N)
    return [made[k] for k in (0, 2, 1, 3, 10, 4, 9, 5, 8, 6, 7)]


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were replaced, each time."""
    counts: list[int] = []
    original = queue.QueuedRollout.replace

    def counted(self, done):
        result = original(self, done)
        counts.extend([len(result)] if result else [])
        return result

    monkeypatch.setattr(queue.QueuedRollout, "replace", counted)
    return counts


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_rows_that_are_replaced_think_as_alone(
    name: str, temperature: float, load: Callable, problems: list[Problem], replaced: list[int]
) -> None:
    reasoner = load(name)
    alone = reasoner.think(problems, batch_size=1, temperature=temperature)
    assert not replaced
    queued = reasoner.think(problems, batch_size=3, temperature=temperature)
    assert sum(replaced) == N - 3
    assert_same_traces(queued, alone, atol=TOLERANCE)
    assert len({len(t) for t in alone}) > 3, "rows that all end together would test little"


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_answers_without_thoughts(name: str, load: Callable, problems: list[Problem], replaced: list[int]) -> None:
    reasoner = load(name, kind="direct")
    ends = ["", " <think>", " <think></think>"]
    mixed = [replace(problem, question=problem.question + ends[k % 3]) for k, problem in enumerate(problems)]
    alone = reasoner.think(mixed, batch_size=1)
    assert_same_traces(reasoner.think(mixed, batch_size=3), alone, atol=TOLERANCE)
    assert sum(replaced) == N - 3 and len({len(t) for t in alone}) > 3


def test_each_queue_holds_a_few_batches(
    load: Callable, problems: list[Problem], replaced: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thinking that was cut off goes on after a whole queue, and thinks the same."""
    monkeypatch.setattr(thinker, "_BATCHES_AT_ONCE", 2)
    reasoner = load("llama")
    parts = list(reasoner.thinking(problems, batch_size=2))
    assert [len(part) for part in parts] == [4, 4, 3]
    rest = list(reasoner.thinking(problems, batch_size=2, start=4))
    assert [t.token_ids for part in rest for t in part] == [t.token_ids for part in parts[1:] for t in part]
    for one, other in zip([t for p in rest for t in p], [t for p in parts[1:] for t in p], strict=True):
        np.testing.assert_array_equal(one.entropy, other.entropy)


def test_a_shared_beginning_is_copied_into_replaced_rows(
    load: Callable, problems: list[Problem], replaced: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    beginning = "First add 3 and 5, which gives 8. Then take 2 away: 6 is left!\n"
    long = [replace(problem, question=beginning + problem.question) for problem in problems]
    for name in ("llama", "mistral", "bloom"):
        reasoner = load(name)
        alone = reasoner.think(long, batch_size=1)
        with monkeypatch.context() as patch:
            patch.setattr(prefix, "MIN_SHARED", 16)
            assert_same_traces(reasoner.think(long, batch_size=3), alone, atol=TOLERANCE)
    assert sum(replaced) == 3 * (N - 3)


def test_prompts_that_open_or_close_the_thought(
    load: Callable, problems: list[Problem], replaced: list[int], model_folder: Callable
) -> None:
    reasoner = load("llama")
    ends = ["", " <think>", " <think></think>"]
    mixed = [replace(problem, question=problem.question + ends[k % 3]) for k, problem in enumerate(problems)]
    alone = reasoner.think(mixed, batch_size=1)
    assert {"thought" in t.channel for t in alone} == {True, False}
    assert_same_traces(reasoner.think(mixed, batch_size=2), alone, atol=TOLERANCE)
    assert sum(replaced)


def test_columns_that_no_row_uses_any_more_are_dropped(
    load: Callable, problems: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[int] = []
    drop_unused, replace_rows = Columns.drop_unused, queue.QueuedRollout.replace

    def counted(self, share: float) -> int:
        before = self.n
        dropped.append(drop_unused(self, share))
        assert dropped[-1] == before - self.n
        assert not self.mask[:, self.n :].any()
        return dropped[-1]

    def checked(self, done: list[int]) -> list[int]:
        rows = replace_rows(self, done)
        assert self._cache.get_seq_length() == self._columns.n
        return rows

    monkeypatch.setattr(Columns, "drop_unused", counted)
    monkeypatch.setattr(queue.QueuedRollout, "replace", checked)
    monkeypatch.setattr(thinker, "_BATCHES_AT_ONCE", 20)
    for name in ("llama", "mistral"):
        many = problems * 3
        assert_same_traces(load(name).think(many, batch_size=2), load(name).think(many, batch_size=1), atol=TOLERANCE)
    assert sum(d > 0 for d in dropped) > 2


@pytest.mark.parametrize("name", ["llama", "mistral", "bloom"])
def test_finished_rows_leave_the_batch_where_no_prompt_waits(
    name: str, load: Callable, problems: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    widths: list[int] = []
    forward = queue.QueuedRollout._forward

    def counted(self, inputs, real, moving=True):
        assert len(inputs) == len(real) == len(self.rows) == len(self.resting) == len(self.state.traces)
        widths.append(len(inputs))
        return forward(self, inputs, real, moving)

    monkeypatch.setattr(queue.QueuedRollout, "_forward", counted)
    reasoner = load(name)
    alone = reasoner.think(problems, batch_size=1, temperature=1.0)
    for batch_size in (4, N):  # with prompts that wait at first, and without any
        widths.clear()
        assert_same_traces(reasoner.think(problems, batch_size=batch_size, temperature=1.0), alone, atol=TOLERANCE)
        assert widths[0] == batch_size > widths[-1] and widths == sorted(widths, reverse=True)


def test_hooks_see_whole_batches(load: Callable, problems: list[Problem], replaced: list[int]) -> None:
    load("llama").think(problems, batch_size=3, hooks={"blocks.0.hook_out": lambda acts, state: None})
    assert not replaced


def test_numbers_that_are_not_finite_name_the_trace_of_a_replaced_row(
    problems: list[Problem], model_folder: Callable
) -> None:
    reasoner = interp.load(model_folder("llama"), reasoner=TEXT)
    odd = replace(problems[7], question=problems[7].question + " Tom")
    token = reasoner.tokenizer(" Tom")["input_ids"][-1]
    assert not any(token in reasoner.vocabulary.prompt_ids(problem) for problem in problems)
    with torch.no_grad():
        reasoner.embed.weight[token] = float("nan")
    with pytest.raises(StoreError, match="in trace 7 at"):
        reasoner.think([*problems[:7], odd, *problems[8:]], batch_size=3)
