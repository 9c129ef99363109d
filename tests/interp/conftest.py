"""Small models of many architectures as Hugging Face folders, each built once from its own configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.models import small_models
from benchmarks.models.small_models import ARCHITECTURES, SPECIAL, THINK, build_model, byte_tokenizer

# What `taught_llama` knows: two digits and their sum, a digit too.
SUMS = [(a, b) for a in range(5) for b in (0, 1, 2, 4)]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder with a small model of an architecture and a tokenizer; asked for twice, it is the same folder."""
    made: dict[Any, Path] = {}

    def folder(
        architecture: str,
        *,
        pad: bool = True,
        bos: bool = True,
        chat: str | None = None,
        special: tuple[str, ...] = THINK,
    ) -> Path:
        key = (architecture, pad, bos, chat, special)
        if key in made:
            return made[key]
        tokenizer = byte_tokenizer(pad=pad, bos=bos, chat=chat, special=[*SPECIAL, *special])
        made[key] = tmp_path_factory.mktemp(architecture) / "model"
        build_model(made[key], architecture, ARCHITECTURES[architecture], tokenizer)
        return made[key]

    return folder


@pytest.fixture(scope="session")
def asked() -> Callable[..., list]:
    """Problems of the user's own: questions of different lengths."""
    return small_models.asked


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
