"""The key-value cache, under either name of the argument in transformers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import interp
from interp.models.cache import accepts_key_mask, run_cached
from interp.models.fast_model import fast_model


class Named(torch.nn.Module):
    """A model of a transformers version in which the argument and the field are called `past_key_values`."""

    def forward(self, inputs_embeds, past_key_values=None, use_cache=None):
        assert use_cache
        return {"past_key_values": (past_key_values or 0) + inputs_embeds}


def test_the_older_argument_name_is_used_where_the_model_has_it():
    _, cache = run_cached(Named(), None, inputs_embeds=1)
    assert run_cached(Named(), cache, inputs_embeds=2)[1] == 3


def test_thinking_gives_no_warning():
    reasoner = interp.load("chain-text")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reasoner.think(reasoner.task.generate(2, seed=0, split="test"), temperature=1.0)


HOW = {"kind": "text", "begin": "<think>", "end": "</think>"}


@pytest.mark.parametrize(
    ("architecture", "can"), [("gpt2", True), ("llama", True), ("qwen3", True), ("gemma3_text", False)]
)
def test_one_mask_serves_all_layers_only_without_sliding_windows(
    model_folder: Callable[..., Path], architecture: str, can: bool
) -> None:
    plain = fast_model(interp.load(model_folder(architecture), reasoner=HOW).model)
    assert plain is not None and accepts_key_mask(plain.base) is can


def test_a_model_that_reads_a_key_mask_differently_gets_the_usual_mask(model_folder: Callable[..., Path]) -> None:
    plain = fast_model(interp.load(model_folder("gpt2"), reasoner=HOW).model)
    assert plain is not None
    forward = plain.base.forward

    def by_key(other: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda mask: other(mask) if mask is not None and mask.ndim == 4 else mask

    for other in (by_key(lambda mask: ~mask), by_key(lambda mask: mask[:, 0, 0, 0, 0]), lambda mask: mask.bool()):

        def changed(*, attention_mask: Any, other: Any = other, **inputs: Any) -> Any:
            return forward(attention_mask=other(attention_mask), **inputs)

        type_ = type("Other", (torch.nn.Module,), {})
        model = type_()
        model.config, model.get_input_embeddings, model.forward = (
            plain.base.config,
            plain.base.get_input_embeddings,
            changed,
        )
        assert not accepts_key_mask(model)
