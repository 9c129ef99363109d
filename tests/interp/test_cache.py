"""The key-value cache, whatever transformers calls its argument."""

from __future__ import annotations

import warnings

import torch

import interp
from interp.models.cache import run_cached


class Named(torch.nn.Module):
    """A model of a transformers version in which the argument and the field are called `past_key_values`."""

    def forward(self, inputs_embeds, past_key_values=None, use_cache=None):
        assert use_cache
        return {"past_key_values": (past_key_values or 0) + inputs_embeds}


def test_the_older_name_is_used_where_the_model_has_it():
    _, cache = run_cached(Named(), None, inputs_embeds=1)
    assert run_cached(Named(), cache, inputs_embeds=2)[1] == 3


def test_thinking_warns_of_nothing():
    reasoner = interp.load("chain-text")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reasoner.think(reasoner.task.generate(2, seed=0, split="test"), temperature=1.0)
