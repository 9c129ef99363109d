"""Small models of many architectures beside the plain Hugging Face model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import interp


@pytest.fixture(scope="session")
def small_model(model_folder: Callable[..., Any], asked: Callable[..., list]) -> Callable[[str], Any]:
    """Return a function that gives, for an architecture, the reasoner, three traces of it and the plain model.

    Each is made once.
    """
    from transformers import AutoModelForCausalLM

    from interp.models.wrapping import quiet

    made: dict[str, Any] = {}

    def make(architecture: str) -> Any:
        if architecture not in made:
            folder = model_folder(architecture)
            reasoner = interp.load(folder, reasoner={"kind": "direct", "max_answer_tokens": 8})
            traces = reasoner.think(asked(4)[:3])
            with quiet():
                plain = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
            made[architecture] = reasoner, traces, plain
        return made[architecture]

    return make
