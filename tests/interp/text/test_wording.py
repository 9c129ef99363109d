"""Words of a trace, whatever tokens write them, and their synonyms."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from interp.problems import task
from interp.text.wording import Wording, words
from interp.traces import Trace

TEXT = " therefore 3.5 = x,\nSo naïve “so” — let's\n\nThus, 小 so."
WORDS = [
    "therefore",
    "3",
    ".",
    "5",
    "=",
    "x",
    ",",
    "\n",
    "So",
    "naïve",
    "“",
    "so",
    "”",
    "—",
    "let's",
    "\n\n",
    "Thus",
    ",",
]
WORDS += ["小", "so", "."]


def thinking(tokens: list[str], written_trace: Callable[..., Trace]) -> Trace:
    """Return a trace whose thought is these tokens."""
    made = written_trace(task("chain").generate(1, seed=0, split="test")[0])
    n = len(tokens)
    return replace(made, tokens=["?", *tokens], channel=["prompt", *["thought"] * n], token_ids=[0] * (n + 1))


def test_words_of_a_byte_level_tokenizer_are_as_they_are_read(written_trace: Callable[..., Trace]) -> None:
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False)
    split = [token for token, _ in pieces.pre_tokenize_str(TEXT)]
    halves = [part for token in split for part in (_halves(token) if token.lstrip("Ġ").isascii() else [token])]
    for tokens in (split, halves):
        spoken = words(thinking(tokens, written_trace))
        texts = [word.text for word in spoken]
        assert "".join(texts) == TEXT.replace(" ", "")
        assert [text for text in texts if text.isalpha()] == [text for text in WORDS if text.isalpha()]
        assert "let's" in texts
        assert [tokens[word.position - 1].lstrip("Ġ")[:1] for word in spoken if word.text == "So"] == ["S"]


def _halves(token: str) -> list[str]:
    return [part for part in (token[: len(token) // 2], token[len(token) // 2 :]) if part]


def test_words_of_sentencepiece_begin_at_a_line_too(written_trace: Callable[..., Trace]) -> None:
    tokens = ["▁there", "fore", "▁six", ",", "<0x0A>", "So", "▁it", "▁is", "."]
    spoken = words(thinking(tokens, written_trace))
    assert [word.text for word in spoken] == ["therefore", "six", ",", "<0x0A>", "So", "it", "is", "."]
    assert [word.position for word in spoken] == [1, 3, 4, 5, 6, 7, 8, 9]


def test_a_space_that_is_a_token_belongs_to_the_word_after_it(written_trace: Callable[..., Trace]) -> None:
    spoken = words(thinking(["Ġso", "Ġ", "1", "0", "Ġ", "å°ı"], written_trace))
    assert [(word.text, word.position) for word in spoken] == [("so", 1), ("10", 2), ("小", 5)]


def test_where_no_token_has_a_space_each_is_a_word(written_trace: Callable[..., Trace]) -> None:
    assert [word.text for word in words(thinking(["so", "1", "2", ";"], written_trace))] == ["so", "1", "2", ";"]


def test_a_capital_letter_keeps_the_meaning() -> None:
    wording = Wording([["so", "thus"], ["Big", "large"]])
    assert wording.options("Thus") == ("So", "Thus") and wording.choice("Thus") == 1 and wording.meaning("Thus") == "So"
    assert wording.options("Large") == ("Large",), "its set has Big already"
    assert Wording([["so", "So"]]).options("So") == ("so", "So")


def test_synonyms_of_a_file_need_not_stand_in_its_steps(tmp_path: Path) -> None:
    line = {"question": "2 + 3?", "answer": 5, "steps": ["2 + 3 = 5"], "synonyms": [["so", "thus"], ["and", "plus"]]}
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps(line), encoding="utf-8")
    wording = Wording.of_task(task(f"questions:path={path}"))
    assert wording.options("thus") == ("so", "thus") and wording.options("plus") == ("and", "plus")


@pytest.mark.parametrize("start", ["", "▁"])
def test_a_word_takes_the_place_of_another_without_a_space_more(start: str) -> None:
    """At the start of a line a tokenizer of SentencePiece's kind would add a space."""
    from types import SimpleNamespace

    from transformers import PreTrainedTokenizerFast

    from interp.causal.visible_text.rewording import _word_ids
    from interp.reasoners.config import ReasonerConfig
    from interp.reasoners.vocabulary import Vocabulary

    names = ["<unk>", "<bot>", "<eot>", "<eos>", "So", "Thus", "▁So", "▁Thus"]
    made = Tokenizer(models.WordLevel({name: k for k, name in enumerate(names)}, unk_token="<unk>"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")
    vocabulary = Vocabulary(tokenizer, ReasonerConfig(kind="text"), name="small", max_positions=None)
    ids = _word_ids(SimpleNamespace(vocabulary=vocabulary), f"{start}So", "Thus")  # type: ignore[arg-type]
    assert [names[k] for k in ids] == [f"{start}Thus"]
