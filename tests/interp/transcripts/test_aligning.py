"""Transcripts get the tokens and channels that they would have if the model had written them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import interp
from interp.activations.identity import check_own
from interp.errors import UsageError
from interp.models.pieces import token_texts
from interp.traces import Trace, TraceSet
from interp.transcripts.agreement import measure_agreement
from interp.transcripts.importing import ImportResult, import_traces
from tests.interp.transcripts.conversations import FORMATS, QUESTIONS, REPLIES, THOUGHTS, conversation

N = 24


def chats(path: Path, records: list[Any]) -> Path:
    path.write_text("\n".join(map(json.dumps, records)) + "\n", encoding="utf-8")
    return path


def taken(path: Path, reasoner: interp.Reasoner, *records: Any, **options: Any) -> ImportResult:
    return import_traces(chats(path / "chat.jsonl", list(records)), reasoner, measure=False, **options)


def channels_of(trace: Trace, channel: str) -> str:
    return "".join(token for token, name in zip(trace.tokens, trace.channel, strict=True) if name == channel)


@pytest.fixture(scope="module")
def own(chain_text: interp.Reasoner) -> TraceSet:
    return chain_text.think(chain_text.task.generate(N, seed=5))


@pytest.fixture(scope="module")
def brought(chain_text: interp.Reasoner, own: TraceSet, tmp_path_factory: pytest.TempPathFactory) -> ImportResult:
    """What chain-text wrote, as if another program had."""
    records = []
    for trace in own:
        reply = {
            "role": "assistant",
            "content": trace.answer,
            "reasoning_content": trace.text.removesuffix(trace.answer),
        }
        question = {"role": "user", "content": trace.problem.question}
        steps = [{"text": step.text, "value": step.value} for step in trace.problem.steps]
        records.append({"messages": [question, reply], "answer": trace.problem.answer, "steps": steps})
    return import_traces(chats(tmp_path_factory.mktemp("own") / "own.jsonl", records), chain_text)


def test_what_a_model_wrote_comes_back_as_its_own_traces(
    chain_text: interp.Reasoner, own: TraceSet, brought: ImportResult
) -> None:
    assert not brought.refused and len(brought.traces) == N
    for mine, theirs in zip(own, brought.traces, strict=True):
        for name in (
            "token_ids",
            "tokens",
            "channel",
            "thought",
            "text",
            "answer",
            "correct",
            "value_positions",
            "step",
        ):
            assert getattr(theirs, name) == getattr(mine, name), name
        assert theirs.problem.steps == mine.problem.steps
        np.testing.assert_allclose(theirs.entropy, mine.entropy, atol=1e-4)
        written = ~np.isnan(theirs.logprob)
        np.testing.assert_allclose(np.array(theirs.logprob)[written], np.array(mine.logprob)[written], atol=1e-4)
        assert set(np.array(theirs.channel)[written]) == {"thought", "answer"}
        assert (theirs.weights, theirs.tokenizer) == (chain_text.weights, chain_text.tokenizer_hash)
        assert theirs.written_by == "another program" and mine.written_by == "" and theirs.temperature is None
    check_own(chain_text, brought.traces)
    assert brought.assumptions["text"] == f"{N} of {N} are reproduced exactly by the model's tokenizer"
    assert brought.agreement is not None and brought.agreement.greedy.value == 1.0


def test_who_wrote_is_kept_on_disk_and_older_files_open(brought: ImportResult, own: TraceSet, tmp_path: Path) -> None:
    brought.traces.to_parquet(tmp_path / "t.parquet")
    assert {trace.written_by for trace in TraceSet.from_parquet(tmp_path / "t.parquet")} == {"another program"}
    import pandas as pd

    own.to_parquet(tmp_path / "own.parquet")
    pd.read_parquet(tmp_path / "own.parquet").drop(columns="written_by").to_parquet(tmp_path / "old.parquet")
    assert {trace.written_by for trace in TraceSet.from_parquet(tmp_path / "old.parquet")} == {""}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_becomes_the_same_text(name: str, reader: interp.Reasoner, tmp_path: Path) -> None:
    result = import_traces(FORMATS[name](tmp_path), reader, measure=False)
    assert not result.refused and result.graded == [True, True]
    for trace, thought, reply in zip(result.traces, THOUGHTS, REPLIES, strict=True):
        assert trace.answer == reply and trace.text == f"{trace.text.removesuffix(reply)}{reply}"
        text = "".join(token_texts(reader.tokenizer, trace.token_ids))
        opening = "<think>" if name == "parquet" or name == "arrow" else "<think>\n"
        assert opening + thought in text and text.endswith(reply)
        if name not in ("parquet", "arrow", "thought anchors"):
            # What the model's own template makes of the whole conversation.
            messages = conversation(QUESTIONS.index(trace.problem.question), content=reply, reasoning_content=thought)
            assert text == reader.tokenizer.apply_chat_template(messages, tokenize=False)
        assert channels_of(trace, "prompt").endswith("<|assistant|>") or name == "thought anchors"


def test_white_space_and_foreign_markers_are_listed(reader: interp.Reasoner, tmp_path: Path) -> None:
    result = import_traces(FORMATS["other tags"](tmp_path), reader, measure=False)
    notes = set(result.assumptions.values())
    assert "markers [THINK]…[/THINK] are written as <think>…</think> (2)" in notes
    assert "white space around thoughts: as its chat template writes it (2)" in notes
    assert result.assumptions["prompt"] == "the model's chat template (2), no system message in the transcripts"
    assert result.assumptions["right answers"] == "column 'answer'"


@pytest.mark.parametrize("tail", ["<think>", "<think>\n"])
def test_where_the_prompt_opens_the_thought_no_second_marker_is_written(
    tail: str, reader: interp.Reasoner, tmp_path: Path
) -> None:
    opening = reader.with_config(chat_options={"tail": tail})
    field = {"messages": conversation(0, content="It is 4.", reasoning_content="Two and two.")}
    tags = {"messages": conversation(0, content="<think>\nTwo and two.\n</think>\n\nIt is 4.")}
    dangling = {"messages": conversation(0, content="Two and two.\n</think>\n\nIt is 4.")}
    bare = {"messages": conversation(0, content="It is 4.")}
    cut = {"messages": conversation(0)[:1], "choices": [{"message": {"content": "Two"}, "finish_reason": "length"}]}
    result = taken(tmp_path, opening, field, tags, dangling, bare, cut)
    texts = ["".join(token_texts(reader.tokenizer, trace.token_ids)) for trace in result.traces]
    assert texts[0] == texts[1] == f"<|user|>{QUESTIONS[0]}<|assistant|><think>\nTwo and two.\n</think>\n\nIt is 4."
    assert texts[2] == f"<|user|>{QUESTIONS[0]}<|assistant|>{tail}Two and two.\n</think>\n\nIt is 4."
    assert texts[3] == f"<|user|>{QUESTIONS[0]}<|assistant|>{tail}</think>\n\nIt is 4."
    assert [trace.answer for trace in result.traces] == ["It is 4."] * 4 + [""]
    assert [sum(c == "thought" for c in trace.channel) > 0 for trace in result.traces] == [
        True,
        True,
        True,
        False,
        True,
    ]
    notes = " ".join(result.assumptions.values())
    assert "the prompt opens a thought, which is closed at once where a transcript has none (1)" in notes
    assert "cut off replies without an end marker are thoughts, because the prompt opens one (1)" in notes
    assert result.assumptions["thoughts"] == "4 of 5 have a thought, 1 have no answer (cut off)"
    assert result.assumptions["right answers"].startswith("not known, so nothing is graded") and result.graded == []


def test_system_messages_and_earlier_turns_are_part_of_the_prompt(reader: interp.Reasoner, tmp_path: Path) -> None:
    system, turns = {"role": "system", "content": "Be brief."}, conversation(1, content="So 8.")
    record = {"messages": [system, *turns, *conversation(0, content="It is 4.")], "answer": "4"}
    (trace,) = taken(tmp_path, reader, record).traces
    prompt = "<|system|>Be brief.<|user|>What is 3 plus 5?<|assistant|>So 8.<|user|>What is 2 plus 2?<|assistant|>"
    assert "".join(token_texts(reader.tokenizer, trace.token_ids)) == f"{prompt}It is 4."
    # The problem carries them, so that whatever thinks about it again is asked the same.
    assert reader.vocabulary.prompt_ids(trace.problem) == trace.token_ids[: trace.channel.index("answer")]
    kept = taken(tmp_path, reader, record, system=False)
    assert [message["role"] for message in kept.traces[0].problem.messages] == ["user", "assistant"]
    assert kept.assumptions["system messages"] == "left out of 1 prompts"
    assert kept.traces[0].problem.id != trace.problem.id


def test_a_model_without_a_template_refuses_earlier_messages(chain_text: interp.Reasoner, tmp_path: Path) -> None:
    system = {"role": "system", "content": "Be brief."}
    with pytest.raises(UsageError, match="expected a model with a chat template for a question with 1 messages before"):
        taken(tmp_path, chain_text, {"messages": [system, *conversation(0, content="4")]})


def test_what_a_model_cannot_read_is_refused_with_the_reason(
    reader: interp.Reasoner, chain_text: interp.Reasoner, tmp_path: Path
) -> None:
    good = {"messages": conversation(0, content="It is 4.")}
    long = {"messages": conversation(1, content="so " * 200)}
    stop = {"messages": conversation(1, content="So 8.<eos> And more.")}
    result = taken(tmp_path, reader, good, long, stop)
    assert len(result.traces) == 1
    assert "positions, and" in result.refused[0].why and "has 192" in result.refused[0].why
    assert (
        "expected a text that ends where" in result.refused[1].why
        and "'<eos> And more.' is left" in result.refused[1].why
    )
    with pytest.raises(UsageError, match=r"got 1 that it cannot: chain-text does not know 'What' in the question"):
        taken(tmp_path, chain_text, good)
    direct = reader.with_config(kind="direct") if reader.kind == "direct" else interp.load("chain-direct")
    with pytest.raises(UsageError, match="it holds a thought, and chain-direct is loaded without thinking markers"):
        question = direct.task.generate(1, seed=0)[0].question
        messages = [{"role": "user", "content": question}, {"role": "assistant", "reasoning": "3", "content": "3"}]
        taken(tmp_path, direct, {"messages": messages})
    with pytest.raises(UsageError, match="expected a model that writes its thoughts as text, got chain-coconut"):
        taken(tmp_path, interp.load("chain-coconut"), good)
    closing = reader.with_config(chat_options={"tail": "<think>\n\n</think>\n\n"})
    with pytest.raises(UsageError, match="prompt closes the thought; change `chat_options`"):
        taken(tmp_path, closing, {"messages": conversation(0, content="4", reasoning="So.")})


def test_a_text_that_the_tokenizer_changes_is_counted(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    from tokenizers import normalizers

    from tests.interp.transcripts.conftest import CHAT

    reasoner = interp.load(model_folder("llama", bos=False, chat=CHAT))
    reasoner.tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    lower, upper = (conversation(k, content=text) for k, text in enumerate(("it is 4.", "So 8.")))
    result = taken(tmp_path, reasoner, {"messages": lower}, {"messages": upper})
    assert result.assumptions["text"] == (
        "1 of 2 are reproduced exactly by the model's tokenizer, 1 not (first: trace 1 has 's' in place of 'S')"
    ).replace("'s'", "'so 8.'").replace("'S'", "'So 8.'")


def test_labels_and_answers_are_kept(reader: interp.Reasoner, tmp_path: Path) -> None:
    records = [
        {"messages": conversation(k, content=REPLIES[k]), "truth": k, "topic": f"t{k}", "split": "odd"}
        for k in range(2)
    ]
    result = taken(tmp_path, reader, *records, answer_column="truth")
    assert [trace.problem.answer for trace in result.traces] == ["0", "1"] and result.graded == [False, False]
    assert [trace.problem.labels["topic"] for trace in result.traces] == ["t0", "t1"]
    assert result.fields == {"topic": "label of each trace"}
    assert "column 'split' is not used: expected its split to be train, val or test" in " ".join(
        result.assumptions.values()
    )
    with pytest.raises(UsageError, match="expected a column 'gone' for --answer, got truth, topic, split"):
        taken(tmp_path, reader, *records, answer_column="gone")


def test_agreement_is_that_of_the_model_that_wrote(chain_text: interp.Reasoner, own: TraceSet) -> None:
    from dataclasses import replace

    greedy = measure_agreement(chain_text, list(own))[1]
    assert greedy.greedy.value == 1.0 and greedy.surprise is None and not greedy.is_another_model()
    hot = chain_text.think(own.problems, temperature=1.5, seed=4)
    drawn = measure_agreement(chain_text, list(hot))[1]
    assert drawn.surprise is not None and abs(drawn.surprise.value) < 0.1 and not drawn.is_another_model()
    shuffled = [replace(t, token_ids=[*t.token_ids[:-1], own[k - 1].token_ids[-1]]) for k, t in enumerate(own)]
    assert measure_agreement(chain_text, shuffled)[1].is_another_model()
    assert measure_agreement(chain_text, [replace(t, temperature=1.5) for t in shuffled])[1].is_another_model()
