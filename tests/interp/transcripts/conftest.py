"""Small models that read transcripts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import interp

# As SmolLM3's and Qwen3's: the thought of a reply is written back, with line breaks around it.
CHAT = (
    "{%- for m in messages %}<|{{ m.role }}|>{%- if m.role == 'assistant' %}{%- if m.reasoning_content %}"
    "<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{%- endif %}{{ m.content }}{%- endfor %}"
    "{%- if add_generation_prompt %}<|assistant|>{{ tail }}{%- endif %}"
)


@pytest.fixture(scope="session")
def chat_folder(model_folder: Callable[..., Path]) -> Path:
    return model_folder("llama", bos=False, chat=CHAT)


@pytest.fixture(scope="session")
def reader(chat_folder: Path) -> interp.Reasoner:
    """A small model of random weights with a chat template and thinking markers."""
    return interp.load(chat_folder)


@pytest.fixture(scope="session")
def chain_text() -> interp.Reasoner:
    return interp.load("chain-text")
