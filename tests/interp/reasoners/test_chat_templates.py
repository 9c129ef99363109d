"""Chat templates of many families: how each opens, closes or forbids the thought, and what is thought and answer then.

The templates are shortened to what the prompt's end and the markers depend on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import interp
from interp.errors import UsageError
from interp.problems.base import Problem
from tests.interp.reasoners.writing import write


def chatml(tail: str) -> str:
    return (
        "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{%- endfor %}"
        "{%- if add_generation_prompt %}<|im_start|>assistant\n" + tail + "{%- endif %}"
    )


class Family(NamedTuple):
    """A template, the tokens it needs, what the model writes, and what is right of it."""

    template: str
    tokens: tuple[str, ...]
    written: str
    thought: str
    answer: str
    options: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    kind: str = "text"


CHATML, THINK = ("<|im_start|>", "<|im_end|>"), ("<think>", "</think>")
QWEN3 = chatml("{%- if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{%- endif %}")
R1 = (
    "{{ bos_token }}{%- for m in messages %}<｜User｜>{{ m.content.split('</think>')[-1] }}{%- endfor %}"
    "{%- if add_generation_prompt %}<｜Assistant｜><think>\n{%- endif %}"
)
V31 = R1.replace("<think>\n", "{{ '<think>' if thinking else '</think>' }}")
GPT_OSS = (
    "<|start|>system<|message|># Valid channels: analysis, commentary, final.<|end|>{%- for m in messages %}"
    "<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{%- endfor %}{%- if add_generation_prompt %}"
    "<|start|>assistant{%- endif %}{#- <|channel|>analysis<|message|> -#}"
)
GEMMA = (
    "{{ bos_token }}{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{%- endif %}"
    "{%- for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{%- endfor %}"
    "{%- if add_generation_prompt %}<start_of_turn>model\n{%- endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{%- for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>"
    "{%- endfor %}{%- if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{%- endif %}"
)
MAGISTRAL = (
    "{{ bos_token }}[SYSTEM_PROMPT]First draft your thinking: [THINK]thoughts[/THINK]Here, answer.[/SYSTEM_PROMPT]"
    "{%- for m in messages %}[INST]{{ m.content }}[/INST]{%- endfor %}"
)
GRANITE = (
    "{%- if thinking %}<|start_of_role|>system<|end_of_role|>Write your thoughts after 'Here is my thought process:' and "
    "your response after 'Here is my response:'.<|end_of_text|>{%- endif %}{%- for m in messages %}<|start_of_role|>"
    "{{ m.role }}<|end_of_role|>{{ m.content }}<|end_of_text|>\n{%- endfor %}"
    "{%- if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{%- endif %}"
)
APERTUS = (
    "{{ bos_token }}{%- for m in messages %}<|user_start|>{{ m.content }}<|user_end|>{%- endfor %}"
    "{%- if add_generation_prompt %}<|assistant_start|>{%- endif %}{#- <|inner_prefix|><|inner_suffix|> -#}"
)
TURNS = ("<start_of_turn>", "<end_of_turn>")
HARMONY = ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>")
ROLES = ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>")
FINAL = "<|end|><|start|>assistant<|channel|>final<|message|>"
FAMILIES = {
    "Qwen3": Family(QWEN3, CHATML + THINK, "\nSo 4.\n</think>\n\n4", "So 4.", "4"),
    "Qwen3, thinking forbidden": Family(QWEN3, CHATML + THINK, "4", "", "4", {"enable_thinking": False}),
    "Qwen3, an empty thought": Family(QWEN3, CHATML + THINK, "\n\n</think>\n\n4", "", "4"),
    "DeepSeek-R1": Family(R1, THINK, "So 4.\n</think>\n\n4", "So 4.", "4"),
    "DeepSeek-R1, markers that are no special tokens": Family(R1, (), "So 4.\n</think>\n\n4", "So 4.", "4"),
    "DeepSeek-V3.1, thinking": Family(V31, THINK, "So 4.</think>4", "So 4.", "4", {"thinking": True}),
    "DeepSeek-V3.1": Family(V31, THINK, "4", "", "4"),
    "gpt-oss": Family(GPT_OSS, HARMONY, f"So 4.{FINAL}4", "So 4.", "4"),
    "gpt-oss, with a comment": Family(
        GPT_OSS,
        HARMONY,
        "So 4.<|end|><|start|>assistant<|channel|>commentary<|message|>Note.<|end|><|start|>assistant<|channel|>analysis"
        f"<|message|>Yes.{FINAL}4",
        "So 4.<|end|><|start|>assistant<|channel|>commentary<|message|>Note.<|end|><|start|>assistant<|channel|>analysis"
        "<|message|>Yes.",
        "4",
    ),
    "Gemma": Family(GEMMA, TURNS, "It is 4", "", "It is 4", kind="direct"),
    "Llama 3": Family(LLAMA3, ("<|eot_id|>",), "It is 4", "", "It is 4", kind="direct"),
    "Magistral": Family(MAGISTRAL, ("[THINK]", "[/THINK]"), "So 4.[/THINK]4", "So 4.", "4"),
    "Magistral, markers in letters": Family(MAGISTRAL, (), "So 4.[/THINK]4", "So 4.", "4"),
    "Granite 3.2": Family(GRANITE, ROLES, "\n\nSo 4.\n\nHere is my response:\n\n4", "So 4.", "4", {"thinking": True}),
    "Granite 3.2, not thinking": Family(GRANITE, ROLES, "4", "", "4", kind="direct"),
    "OLMo 3": Family(chatml("<think>"), CHATML + THINK, "So 4.</think>4", "So 4.", "4"),
    "Apertus": Family(APERTUS, ("<|inner_prefix|>", "<|inner_suffix|>"), "So 4.<|inner_suffix|>4", "So 4.", "4"),
    "a thought that never ends": Family(QWEN3, CHATML + THINK, "So 4. So 4.", "So 4. So 4.", ""),
}


@pytest.fixture(scope="module")
def load_family(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., interp.Reasoner]:
    """Load a model with the template and tokens of a family."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    def load(family: Family, **reasoner: Any) -> interp.Reasoner:
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        special = ["<pad>", "<bos>", "<eos>", *family.tokens]
        trainer = trainers.BpeTrainer(
            vocab_size=300, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        )
        backend.train_from_iterator(["So it is 4. Here is my response:"] * 4, trainer)
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
        )
        tokenizer.chat_template = family.template
        config = LlamaConfig(
            **{"vocab_size": len(tokenizer), "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1},
            **{"intermediate_size": 8, "max_position_embeddings": 1024, "bos_token_id": 1, "eos_token_id": 2},
        )
        folder: Path = tmp_path_factory.mktemp("family") / "model"
        LlamaForCausalLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        fields = {"chat_options": family.options, **reasoner} if family.options or reasoner else None
        return interp.load(folder, reasoner=fields)

    return load


@pytest.fixture
def question(asked: Callable[..., list[Problem]]) -> Problem:
    return asked(1)[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_thought_and_answer(
    name: str, load_family: Callable, question: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = FAMILIES[name]
    reasoner = load_family(family)
    assert reasoner.config.kind == family.kind
    trace = write(reasoner, family.written, question, monkeypatch)
    thought = trace.text.removesuffix(trace.answer).strip() if family.kind == "text" else ""
    assert (thought, trace.answer) == (family.thought, family.answer)
    prompt = [i for i, c in zip(trace.token_ids, trace.channel, strict=True) if c == "prompt"]
    assert prompt.count(1) == ("bos_token" in family.template), "one beginning-of-text token, where the template has it"
    text = reasoner.tokenizer.decode(trace.token_ids)
    assert text.count(reasoner.config.begin or "<pad>") - reasoner.tokenizer.decode(prompt).count(
        reasoner.config.begin or "<pad>"
    ) <= 1 + family.written.count(reasoner.config.begin or "<pad>"), "the thought is opened once"


def test_a_system_message_that_a_template_refuses(load_family: Callable, question: Problem) -> None:
    reasoner = load_family(FAMILIES["Gemma"], system="Be brief.")
    with pytest.raises(UsageError, match="System role not supported"):
        reasoner.think([question])


def test_markers_in_the_vocabulary_alone_are_an_assumption(load_family: Callable) -> None:
    """Models that do not think are made from ones that do, and keep their tokens."""
    silent = Family(chatml(""), CHATML + THINK, "4", "", "4")
    assert "kind" in load_family(silent).loaded.assumptions()
    assert "kind" not in load_family(FAMILIES["Qwen3"]).loaded.assumptions()


def test_a_question_that_mentions_markers(
    load_family: Callable, question: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a question says of markers is the question's."""
    reasoner = load_family(FAMILIES["Qwen3"])
    for asked in ("What does </think> mean?", "Why <think>", "Say </think>", "<think></think>"):
        trace = write(reasoner, "\nSo.\n</think>\n\n4", replace(question, question=asked), monkeypatch)
        assert (trace.text.removesuffix(trace.answer).strip(), trace.answer) == ("So.", "4")
