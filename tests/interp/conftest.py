"""Small models of many architectures as Hugging Face folders, each built once from its own configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SENTENCES = [
    "What is two plus two? Let us think. So the answer is 4.",
    "First add 3 and 5, which gives 8. Then take 2 away: 6 is left!",
    "Tom has 12 apples and eats 7 of them. How many apples are left?",
]
# What `taught_llama` knows: two digits and their sum, a digit too.
SUMS = [(a, b) for a in range(5) for b in (0, 1, 2, 4)]
SPECIAL = ["<pad>", "<bos>", "<eos>", "<|user|>", "<|assistant|>"]
_COMMON = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
_COMMON |= {"max_position_embeddings": 192, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_GROUPED = {**_COMMON, "num_key_value_heads": 2}
_WIDE = {**_GROUPED, "head_dim": 8}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 192, "bos_token_id": 1, "eos_token_id": 2},
    "llama": _GROUPED,
    "qwen2": _GROUPED,
    "qwen3": _WIDE,
    "gemma2": {**_WIDE, "sliding_window": 16, "final_logit_softcapping": 2.0},
    "gemma3_text": {**_WIDE, "sliding_window": 16},
    "mistral": {**_GROUPED, "sliding_window": 16},
    "phi3": _GROUPED,
    "gpt_neox": _COMMON,
    "olmo2": _GROUPED,
    "qwen3_moe": {**_WIDE, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "gpt_oss": {**_WIDE, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 16},
    "gpt_neo": {
        **{"hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 48, "max_position_embeddings": 192},
        **{"attention_types": [[["global", "local"], 1]], "window_size": 16, "bos_token_id": 1, "eos_token_id": 2},
    },
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 192},
    "bloom": {"hidden_size": 32, "n_head": 4, "n_layer": 2},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2},
    "rwkv": {"hidden_size": 32, "attention_hidden_size": 32, "num_hidden_layers": 2, "context_length": 192},
    "llama4_text": {
        **{**_GROUPED, "head_dim": 8, "attention_chunk_size": 16, "num_local_experts": 2, "num_experts_per_tok": 1},
        **{"intermediate_size_mlp": 48, "no_rope_layers": [1, 0], "interleave_moe_layer_step": 1, "moe_layers": [0, 1]},
    },
    "longrope": {
        **_GROUPED,
        "model_type": "phi3",
        "original_max_position_embeddings": 20,
        "rope_parameters": {
            **{"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4},
            **{"original_max_position_embeddings": 20, "factor": 9.6},
        },
    },
}


def byte_tokenizer(*, pad: bool, bos: bool, chat: str | None, special: list[str]) -> Any:
    """A byte-level BPE tokenizer that was trained here; with `bos` it puts that token first itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES * 10, trainer)
    if bos:
        backend.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    named = {"eos_token": "<eos>"} | ({"pad_token": "<pad>"} if pad else {}) | ({"bos_token": "<bos>"} if bos else {})
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **named)
    tokenizer.chat_template = chat
    return tokenizer


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder with a small model of an architecture and a tokenizer; asked for twice, it is the same folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from interp.models.wrapping import quiet

    made: dict[Any, Path] = {}

    def folder(
        architecture: str,
        *,
        pad: bool = True,
        bos: bool = True,
        chat: str | None = None,
        special: tuple[str, ...] = ("<think>", "</think>"),
    ) -> Path:
        key = (architecture, pad, bos, chat, special)
        if key in made:
            return made[key]
        tokenizer = byte_tokenizer(pad=pad, bos=bos, chat=chat, special=[*SPECIAL, *special])
        shape = {"model_type": architecture, **ARCHITECTURES[architecture], "vocab_size": len(tokenizer)}
        config = AutoConfig.for_model(**shape)
        config._attn_implementation = "eager"
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            model = AutoModelForCausalLM.from_config(config)
            for name, value in model.named_parameters():
                if "norm" in name or "ln_" in name:
                    value.data += 0.3 * torch.randn_like(
                        value
                    )  # a norm with unit weights would hide which side it is on
                elif value.ndim > 1:
                    torch.nn.init.normal_(value, std=0.15)
            made[key] = tmp_path_factory.mktemp(architecture) / "model"
            model.save_pretrained(made[key])
            tokenizer.save_pretrained(made[key])
        return made[key]

    return folder


@pytest.fixture(scope="session")
def asked() -> Callable[..., list]:
    """Problems of the user's own: questions of different lengths."""
    from interp.problems.base import Problem, Step, structure_hash

    def problems(n: int = 8) -> list[Problem]:
        words = " and so on" * n
        return [
            Problem(
                id=str(k),
                task="questions:path=q.jsonl",
                question=f"What is {k} plus {k}{words[: 5 * k]}?",
                answer=str(2 * k),
                steps=(Step(f"{k} + {k}", str(2 * k)),),
                structure=structure_hash("asked", k),
                split="test",
                readable="",
            )
            for k in range(n)
        ]

    return problems


@pytest.fixture(scope="session")
def taught_llama(model_folder: Callable[..., Path], made_once: Callable[..., Path]) -> Path:
    """A small Llama that was taught to think, in a sentence, about `SUMS`, and to answer
    what its thought says."""
    return made_once("taught_llama", lambda out: _teach(model_folder("llama", bos=False, chat=_TURNS), out))


# Its vocabulary has markers that are no special tokens, as Qwen3's, so that a server writes them.
_TURNS = (
    "{%- for m in messages %}<|{{ m.role }}|>{{ m.content }}{%- endfor %}{# <think> </think> #}"
    "{%- if add_generation_prompt %}<|assistant|>{%- endif %}"
)


def _teach(untaught: Path, out: Path) -> None:
    import json
    import shutil
    from random import Random

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from interp.models.wrapping import quiet

    shutil.copytree(untaught, out)
    vocabulary = json.loads((out / "tokenizer.json").read_text(encoding="utf-8"))
    for token in vocabulary["added_tokens"]:
        token["special"] = token["special"] and "think" not in token["content"]
    (out / "tokenizer.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(out)
        model = AutoModelForCausalLM.from_pretrained(out, trust_remote_code=False)

    def row(a: int, b: int, value: int, scored: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the text of a sum whose thought says `value`, and what the loss counts: the thought too, or the answer."""
        prompt = f"<|user|>What is {a} plus {b}?<|assistant|>"
        thought = f"<think>\n{a} and {b}, so it is {value}.\n</think>\n\n"
        ids = tokenizer(f"{prompt}{thought}The answer is {value}.<eos>", add_special_tokens=False)["input_ids"]
        before = prompt if scored == "thought" else prompt + thought
        n = len(tokenizer(before, add_special_tokens=False)["input_ids"])
        return torch.tensor(ids), torch.tensor([-100] * n + ids[n:])

    right = [row(a, b, a + b, "thought") for a, b in SUMS]
    # The answer follows from the thought, right or wrong.
    other = {(a, b, value): row(a, b, value, "answer") for a, b in SUMS for value in range(9)}
    optimizer, rng, low = torch.optim.AdamW(model.parameters(), lr=4e-3), Random(0), 0
    for _ in range(400):
        inputs, labels = zip(*right, *(other[a, b, rng.randrange(9)] for a, b in SUMS), strict=True)
        padded = torch.nn.utils.rnn.pad_sequence(list(inputs), batch_first=True)
        wanted = torch.nn.utils.rnn.pad_sequence(list(labels), batch_first=True, padding_value=-100)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(ids) for ids in inputs], batch_first=True)
        loss = model(input_ids=padded, attention_mask=mask, labels=wanted).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        low = low + 1 if loss.item() < 0.01 else 0
        if low == 5:
            break
    with quiet():
        model.save_pretrained(out)
