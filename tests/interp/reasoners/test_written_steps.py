"""The position of each gold step among sampled tokens, whatever the format, the tokenizer and the config's counting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import interp
from interp.activations import record
from interp.activations.step_positions import step_positions
from interp.decoders.evaluation.decoding import decode
from interp.errors import UsageError
from interp.models.pieces import token_texts
from interp.problems import task as make_task
from interp.problems.base import Problem, Step
from interp.reasoners.rollouts.batch import Row
from interp.reasoners.spans import written_steps
from interp.text.placement import step_placement
from interp.traces import LEFT_OUT, UNPLACED, Channel, Trace, TraceSet
from probes.sweeps.run import sweep


def byte_level(vocab_size: int) -> Any:
    """Return a byte-level tokenizer: the larger, the more often it joins values with what stands around them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(["a +8 =8; b -3 >25 ; x * 7=四; b 12 ) c +8 gives дом . y 88; "] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend)


TOKENIZERS = [byte_level(size) for size in (256, 290, 400)]
VALUES = st.one_of(st.integers(-99, 9999).map(str), st.sampled_from(["2.50", "四", "дом", "blue cat", "🙂"]))


@st.composite
def tokenized_thoughts(draw: st.DrawFn) -> tuple[Any, list[int], list[Step], list[int]]:
    """Draw a tokenizer, the tokens of a thought, its gold steps, and the token that ends each value."""
    tokenizer = draw(st.sampled_from(TOKENIZERS))
    equals, ending = draw(st.sampled_from(["=", " >", " gives "])), draw(st.sampled_from([";", " ;", " )", ""]))
    steps, text, ends = [], "", []
    for _ in range(draw(st.integers(1, 4))):
        value = draw(VALUES)
        body = f"{draw(st.sampled_from('abxy'))} {draw(st.sampled_from('+*'))}{draw(st.sampled_from([value, '8']))}{equals} "
        steps.append(Step(f"{body}{value}{ending}", value))
        text += body + value
        ends.append(len(text.encode()))
        text += ending + " "
    backend = tokenizer.backend_tokenizer
    ids: list[int] = []
    for token in backend.encode(text).ids:
        # A sampled token need not be the longest one: some are spelled with their bytes, also inside a letter.
        spelled = draw(st.integers(0, 3)) == 0
        ids += [backend.token_to_id(letter) for letter in backend.id_to_token(token)] if spelled else [token]
    written = np.cumsum([len(backend.id_to_token(i)) for i in ids])  # each letter of a byte-level token is a byte
    return tokenizer, ids, steps, np.searchsorted(written, ends).tolist()


def problem_of(steps: list[Step]) -> Problem:
    return Problem("id", "questions:path=none", "q", "1", tuple(steps), "s", "test", "q")


@given(tokenized_thoughts())
@settings(max_examples=150, deadline=None)
def test_a_step_is_at_the_token_that_writes_its_values_last_character(
    thought: tuple[Any, list[int], list[Step], list[int]],
) -> None:
    tokenizer, ids, steps, expected = thought
    channel = [Channel.PROMPT, *[Channel.THOUGHT] * len(ids), Channel.ANSWER]
    row = Row(token_ids=[1, *ids, 1], channel=[*map(str, channel)])
    written = written_steps(tokenizer, row, problem_of(steps), correct=True)
    assert written.value_positions == [k + 1 for k in expected]
    assert written.step == [*sorted(written.step[:-1]), 0]
    assert [written.step[k + 1] for k in expected] == sorted({written.step[k + 1] for k in expected})


@given(st.lists(st.integers(0, 289), min_size=1, max_size=80))
@settings(max_examples=100, deadline=None)
def test_tokens_that_are_no_text_still_add_up(ids: list[int]) -> None:
    backend = TOKENIZERS[1].backend_tokenizer
    pieces = token_texts(TOKENIZERS[1], ids)
    assert len(pieces) == len(ids) and "".join(pieces) == TOKENIZERS[1].decode(ids)
    for k in range(len(ids)):
        whole = backend.decode(ids[: k + 1]).rstrip("\ufffd")
        assert "".join(pieces[: k + 1]).startswith(whole), "a token adds all letters that it completes"


@pytest.fixture(scope="module")
def writer() -> interp.Reasoner:
    return interp.load("chain3-text")


def given_traces(reasoner: interp.Reasoner, problems: list[Problem], words: Callable[[Problem], str]) -> TraceSet:
    return reasoner.think_given(problems, [reasoner.vocabulary.text_ids(words(problem)) for problem in problems])


def words_at(trace: Trace) -> list[str]:
    return [trace.tokens[k] if k >= 0 else str(k) for k in trace.value_positions]


@pytest.mark.parametrize(
    "config",
    [{}, {"separator": None}, {"separator": None, "thoughts_per_step": 5}, {"steps": "text"}],
    ids=["separator", "count that does not fit", "count", "text"],
)
def test_every_way_of_counting_ends_a_step_at_its_value(writer: interp.Reasoner, config: dict[str, Any]) -> None:
    problems = make_task("chain:steps=2-3,restated=yes").generate(12, seed=5)
    traces = given_traces(
        writer.with_config(**config), problems, lambda problem: " ".join(step.text for step in problem.steps)
    )
    for trace in traces:
        assert words_at(trace) == [step.value for step in trace.problem.steps]
        assert all(trace.tokens[k + 1] == ";" for k in trace.value_positions)
        assert [trace.step[k + 1] for k in trace.value_positions] == list(range(1, trace.problem.n_steps + 1)), (
            "the separator belongs to the step before it"
        )
        assert [trace.step_position(k + 1) for k in range(trace.problem.n_steps)] == trace.value_positions
    assert step_placement(traces).unplaced_share == 0.0  # type: ignore[union-attr]


def test_wrong_reasoning_is_left_out_and_not_misplaced(writer: interp.Reasoner) -> None:
    problems = make_task("chain:steps=3,restated=yes").generate(8, seed=6)
    first = given_traces(writer, problems, lambda problem: problem.steps[0].text)
    for trace in first:
        assert trace.value_positions[0] > 0 and trace.value_positions[1:] == [LEFT_OUT, LEFT_OUT]
        assert trace.step_position(2) is None
    placement = step_placement(first)
    assert placement is not None and (placement.placed, placement.left_out, placement.unplaced) == (8, 16, 0)
    # Something else where the steps belong: no place was found only if the answer shows that they were thought.
    other = given_traces(writer, problems, lambda problem: "3 3 3 3 3 3 3 3 3 3 3")
    for trace in other:
        assert trace.correct or UNPLACED not in trace.value_positions
        assert min(trace.value_positions) < 0


@pytest.fixture(scope="module")
def captured(writer: interp.Reasoner) -> interp.Recording:
    traces = writer.think(writer.task.generate(90, seed=2))
    return record(writer, traces, layers=[4])


def test_a_value_that_is_written_is_read(captured: interp.Recording) -> None:
    rows = step_positions(captured)
    tokens = {(trace, at): token for trace, at, token in captured.index[["trace", "position", "token"]].to_numpy()}
    gold = [captured.traces[t].problem.steps[k - 1].value for t, k in rows[["trace", "step"]].to_numpy()]
    assert [tokens[t, at] for t, at in rows[["trace", "position"]].to_numpy()] == gold
    scores = decode(captured, ["probe"], offsets=[0], step_offsets=[]).scores()
    assert scores["top1"].min() >= 0.95, "the embedding of the token says it"


def test_decoding_and_probing_stop_above_two_percent_without_a_place(captured: interp.Recording) -> None:
    def without(n: int) -> TraceSet:
        """Return the traces with the first step of `n` of them lost."""
        return TraceSet(
            [
                replace(trace, correct=True, value_positions=[UNPLACED, *trace.value_positions[1:]]) if k < n else trace
                for k, trace in enumerate(captured.traces)
            ]
        )

    total = sum(trace.problem.n_steps for trace in captured.traces)
    some = interp.Recording(
        captured.reasoner, without(int(0.02 * total)), captured.index, captured.meta, captured._acts
    )
    assert len(decode(some, ["logit_lens"]).table()) == total - int(0.02 * total)
    many = interp.Recording(captured.reasoner, without(20), captured.index, captured.meta, captured._acts)
    message = (
        rf"expected at most 2% of the steps .* got {20 / total:.1%} \(20 of {total}\)\. The first is step 1 of trace 0"
    )
    with pytest.raises(UsageError, match=message):
        decode(many, ["logit_lens"])
    with pytest.raises(UsageError, match="read the other steps alone with --max-unplaced"):
        sweep(many, splits=1, controls="none")
    with pytest.raises(UsageError, match="expected max_unplaced to be a share from 0 to 1, got nan"):
        decode(many, ["logit_lens"], max_unplaced=float("nan"))
    assert len(decode(many, ["logit_lens"], max_unplaced=0.2).table()) == total - 20
    probed = sweep(many, ["answer"], splits=1, controls="none", places=["end"])
    assert probed.notes["steps"]["unplaced"] == 20, "a target that is no step's goes on, and the notes say it"
