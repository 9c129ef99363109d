"""Thoughts and answers are exact where tokens merge with markers, templates close the thought, and bytes form no letter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

import interp
from interp.causal.visible_text.forcing import force, resume, thought_ids
from interp.models.markers import MarkerFinder
from interp.models.pieces import token_texts
from interp.problems.base import Problem
from interp.traces import Trace
from tests.interp.reasoners.writing import write

CHAT = (
    "{%- for m in messages %}<|user|>{{ m.content }}{%- endfor %}{%- if add_generation_prompt %}<|assistant|>"
    "{{ tail }}{%- endif %}"
)
CORPUS = ["Final answer: 4", "So it is. Final answer: 4\n", "So.</thinking>\n\n The answer", "Final answer:\n4"]
CORPUS += ["<thinking>\n So", "What is two plus two? Let us think. So it is 4.", "First add 3, which gives 8."]
SPECIAL = ["<pad>", "<bos>", "<eos>", "<|user|>", "<|assistant|>", "<think>", "</think>"]
# The pre-tokenizer of Qwen 2: punctuation takes line breaks along.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
MERGED = {"begin": None, "end": "Final answer:"}
SPELLED = {"begin": "<thinking>", "end": "</thinking>"}
SINGLE = {"begin": "<think>", "end": "</think>"}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(CORPUS * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>")
    tokenizer.add_tokens([":7", "8</"])  # tokens that hold a marker's end and the answer, or the thought's end
    tokenizer.chat_template = CHAT
    return tokenizer


@pytest.fixture(scope="module")
def folder(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **{"vocab_size": len(tokenizer), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
        **{"intermediate_size": 16, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2},
    )
    folder = tmp_path_factory.mktemp("merged") / "model"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(folder: Path) -> interp.Reasoner:
    config = {"kind": "text", "eos": "<eos>", "prompt": "{question}", "max_thought_tokens": 60, "max_answer_tokens": 20}
    return interp.load(folder, reasoner={**SINGLE, **config})


@pytest.fixture
def question(asked: Callable[..., list[Problem]]) -> Problem:
    return asked(1)[0]


@pytest.fixture
def writes(base: interp.Reasoner, question: Problem, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trace]:
    """Return the trace of a reasoner that writes given tokens, or those of a text, and then ends."""

    def think(text: str | list[int], **config: Any) -> Trace:
        return write(base.with_config(**config), text, question, monkeypatch)

    return think


def thought_and_answer(trace: Trace) -> tuple[str, str]:
    assert trace.text.endswith(trace.answer)
    return trace.text.removesuffix(trace.answer).strip(), trace.answer


@pytest.mark.parametrize(
    ("config", "text", "thought", "answer"),
    [
        (MERGED, "So it is four. Final answer: 4", "So it is four.", "4"),
        (MERGED, "So it is.\nFinal answer:\n4", "So it is.", "4"),
        (MERGED, "So it is.\nFinal answer: 4", "So it is.", "4"),
        (MERGED, "So it is. Final answer:7", "So it is.", "7"),  # one token holds the colon and the 7
        (MERGED, "Final answer: 4\nFinal answer: 5", "", "4\nFinal answer: 5"),  # the first one closes
        (SPELLED, "So it is.</thinking>\n\n4", "So it is.", "4"),
        (SPELLED, "So it is 8</thinking>\n\n4", "So it is 8", "4"),  # one token holds the 8 and `</`
        (SPELLED, "</thinking>\n\n4", "", "4"),
        (SINGLE, "So.</think>4", "So.", "4"),
        (SINGLE, "</think>4", "", "4"),
        (SINGLE, "\n\n</think>\n\n4", "", "4"),
        (SINGLE, "So</think>it<think>is</think>4", "So</think>it<think>is", "4"),  # repeated
        (SINGLE, "So<think>it</think>is</think>4", "So<think>it</think>is", "4"),  # nested
        (SINGLE, "So</think>4</think>5", "So", "4</think>5"),  # nothing is open that the second could close
        (SINGLE, "So<think>it</think>4", "So<think>it", "4"),  # a marker that is only mentioned
    ],
)
def test_thought_and_answer_are_exact(
    writes: Callable, tokenizer: Any, config: dict, text: str, thought: str, answer: str
) -> None:
    trace = writes(text, **config)
    assert thought_and_answer(trace) == (thought, answer)
    assert tokenizer.decode(thought_ids(trace, tokenizer)).strip() == thought, "what is forced again is the whole of it"
    assert [trace.channel[k] for k in (-1, 0)] == ["answer", "prompt"]
    # Channels have one order, whichever tokens merged.
    order = [c for k, c in enumerate(trace.channel) if not k or c != trace.channel[k - 1]]
    assert order == [c for c in ("prompt", "special", "thought", "special", "answer") if c in order] or (
        order == ["prompt", "special", "answer"] or order == ["prompt", "thought", "special", "answer"]
    )


def test_a_marker_that_is_spelled_with_other_tokens(writes: Callable, tokenizer: Any) -> None:
    ids = [i for part in ("So", ".", "<", "/", "thi", "nk", ">", "4") for i in tokenizer(part).input_ids]
    assert tokenizer.convert_tokens_to_ids("</think>") not in ids
    assert thought_and_answer(writes(ids)) == ("So.", "4")


def test_a_dangling_thought_is_closed_and_answered(writes: Callable, tokenizer: Any) -> None:
    ids = [*tokenizer("So it is").input_ids, 2, *tokenizer("4").input_ids]
    assert thought_and_answer(writes(ids)) == ("So it is", "4")
    # Opened again when the budget is spent, it would never end.
    trace = writes("So</think>" + "a<think>b</think>" * 20, max_thought_tokens=12, max_answer_tokens=5)
    assert trace.channel.count("thought") <= 12 and trace.channel.count("answer") <= 5


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        ("###", "4###Next"),
        ("\n\nQ", "4\n\nQuestion"),
        ("tion: W", "4 Question: What"),
        ("。", "4。5"),
        (".\n", "4.\n\n5"),
    ],
)
def test_an_answer_ends_before_a_stop_that_begins_and_ends_inside_tokens(
    writes: Callable, stop: str, text: str
) -> None:
    trace = writes(f"So.</think>{text}", stops=(stop,))
    answer = text[: text.index(stop)].strip()
    assert trace.answer == answer and trace.text == f"So. {answer}"
    assert len(trace) < len(writes(f"So.</think>{text}").token_ids) + 1
    direct = writes(f"So. Final answer:7{text}", stops=(stop,), **MERGED)
    assert direct.answer == f"7{text[: text.index(stop)]}".strip()


@pytest.mark.parametrize("tail", ["<think>\n\n</think>\n\n", "<think></think>\n", "</think>", "<think>\n</think>"])
@pytest.mark.parametrize("kind", ["text", "direct"])
def test_where_the_prompt_has_closed_its_thought_the_answer_follows(
    base: interp.Reasoner, folder: Path, question: Problem, tail: str, kind: str
) -> None:
    chat = {"prompt": "chat", "chat_options": {"tail": tail}, "max_thought_tokens": 6, "max_answer_tokens": 4}
    config = {**SINGLE, "kind": kind, "eos": "", **chat}
    reasoner = base.with_config(**config) if kind == "text" else interp.load(folder, reasoner=config)
    (trace,) = reasoner.think([question])
    assert set(trace.channel) == {"prompt", "answer"} and trace.channel.count("answer") == 4
    prompt = reasoner.vocabulary.prompt_ids(question)
    assert trace.token_ids[: len(prompt)] == prompt and len(trace) == len(prompt) + 4
    if kind == "text":
        no_thought, given = (force(reasoner, [question], [thought])[0] for thought in ("", "So it is"))
        assert no_thought.token_ids == trace.token_ids == resume(reasoner, [question], [""])[0].token_ids
        assert reasoner.tokenizer.decode(given.token_ids[len(prompt) : -4]) == "<think>So it is</think>"


@pytest.mark.parametrize(
    ("config", "tail"), [(SINGLE, "<think>\n"), (SPELLED, "<thinking>\n"), (SPELLED, "<thinking>"), (SINGLE, "")]
)
def test_a_thought_is_opened_once(base: interp.Reasoner, question: Problem, config: dict, tail: str) -> None:
    """Also where the tokenizer merges the marker's end with the line break after it."""
    reasoner = base.with_config(prompt="chat", chat_options={"tail": tail}, eos="", max_thought_tokens=4, **config)
    (trace,) = reasoner.think([question])
    before = reasoner.tokenizer.decode(trace.token_ids[: trace.channel.index("thought")])
    assert before.count(config["begin"]) == 1 and before.startswith("<|user|>")
    assert trace.channel[trace.channel.index("thought") - 1] == "special"


@pytest.mark.parametrize("tail", ["", "<think>\n", "<think>\n\n</think>\n\n", "</think>"])
def test_silent_thoughts_are_opened_once_also_after_a_closed_thought(
    folder: Path, tokenizer: Any, question: Problem, tail: str
) -> None:
    """How many thoughts a silent reasoner has is known beforehand, so a prompt cannot forbid them."""
    chat = {"prompt": "chat", "chat_options": {"tail": tail}, "max_answer_tokens": 3}
    silent = {"kind": "pause", "pause": "<pad>", "thoughts": 2, "eos": "", **SINGLE, **chat}
    reasoner = interp.load(folder, reasoner=silent)
    (trace,) = reasoner.think([question])
    prompt, first = reasoner.vocabulary.prompt_ids(question), trace.channel.index("latent")
    begin = "" if tail == "<think>\n" else "<think>"
    assert tokenizer.decode(trace.token_ids[:first]) == tokenizer.decode(prompt) + begin
    assert trace.channel[first - 1 : first + 4] == ["special", "latent", "latent", "special", "answer"]
    assert tokenizer.decode(trace.token_ids[first + 2]) == "</think>"


def test_prompts_that_open_close_or_leave_the_thought_share_a_batch(base: interp.Reasoner, question: Problem) -> None:
    reasoner = base.with_config(eos="", max_thought_tokens=4, max_answer_tokens=3)
    questions = [replace(question, question=f"What is it? {tail}".strip()) for tail in ("", "<think>", "</think>")]
    together, alone = (list(reasoner.think(questions, batch_size=size)) for size in (3, 1))
    assert [t.token_ids for t in together] == [t.token_ids for t in alone]
    assert [t.channel.count("thought") for t in together] == [4, 4, 0]


def fallback_tokenizer() -> Any:
    """A tokenizer of SentencePiece's kind: unknown letters are bytes, and a run of bytes is decoded as a whole."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "▁", "a", "b", "▁a", ".", "</", ">"]
    vocabulary = {word: k for k, word in enumerate([*words, *(f"<0x{byte:02X}>" for byte in range(256))])}
    backend = Tokenizer(models.BPE(vocabulary, [("▁", "a")], byte_fallback=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


@pytest.mark.parametrize("kind", ["bytes", "fallback"])
def test_pieces_join_to_the_tokenizers_own_decoding(tokenizer: Any, kind: str) -> None:
    """Whatever was sampled: bytes that form no letter, letters cut in two, letters that a later byte undoes."""
    used = tokenizer if kind == "bytes" else fallback_tokenizer()
    rng = Random(0)
    for _ in range(200):
        letters = [used(letter, add_special_tokens=False).input_ids for letter in rng.choices("aé€🙂 .", k=4)]
        ids = [i for letter in letters for i in letter]
        for _ in range(rng.randrange(4)):  # some tokens are lost, some come from elsewhere
            k = rng.randrange(len(ids))
            ids[k : k + rng.randrange(2)] = [rng.randrange(3, len(used))]
        pieces = token_texts(used, ids)
        assert len(pieces) == len(ids) and "".join(pieces) == used.decode(ids)
    ids = used("aé🙂b", add_special_tokens=False).input_ids
    added = [piece for piece in token_texts(used, ids) if piece.strip()]
    assert added == ["a", "é", "🙂", "b"], "a letter is added by the last of its tokens"


def test_a_marker_is_found_where_its_last_token_is_written(tokenizer: Any) -> None:
    end = MarkerFinder(tokenizer, "</thinking>", tokenizer("</thinking>").input_ids)
    ids = tokenizer("It is 8</thinking>\n\n4").input_ids
    matches = [end.at_end(ids[: k + 1]) for k in range(len(ids))]
    (match,) = (match for match in matches if match is not None)
    assert (match.before, match.after.strip()) == ("8", "")
    stars = MarkerFinder(tokenizer, "答え", tokenizer("答え").input_ids)
    written = tokenizer("x答え").input_ids
    assert [stars.at_end(written[: k + 1]) is not None for k in range(len(written))].count(True) == 1
    assert stars.at_end(written) == (len(written) - 1, "", "")
    assert MarkerFinder(tokenizer, None, []).at_end(ids) is None
