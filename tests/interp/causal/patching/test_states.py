"""States that are moved to another position keep what that position adds, also in keys and values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import interp
from interp.causal.patching.positions import position_parts
from interp.causal.patching.states import contents, moved_contents, states
from interp.models.address import Address
from interp.traces import TraceSet

FIRST_INPUT = "blocks.0.hook_in"


def ends_of_questions(traces: TraceSet) -> np.ndarray:
    """The position of the last token of each question, which is the same token in all of them."""
    return np.array([[k, trace.channel.index("special") - 1] for k, trace in enumerate(traces)])


@pytest.mark.parametrize("address", [FIRST_INPUT, "blocks.0.attn.hook_k", "blocks.0.attn.hook_v"])
def test_the_same_token_elsewhere_is_what_stands_there(
    coconut: interp.Reasoner, traces: TraceSet, address: str
) -> None:
    """In the first block a token's content is its embedding, so moved to another position it is what is there."""
    some, where = traces[:40], Address(address)
    targets = ends_of_questions(some)
    sources = targets[np.random.default_rng(0).permutation(len(targets))]
    elsewhere = targets[:, 1] != sources[:, 1]
    assert elsewhere.mean() > 0.5
    there = states(coconut, some, where, targets)
    moved = moved_contents(coconut, some, where, sources, some, targets)
    if address == FIRST_INPUT:
        moved = moved + position_parts(coconut, some, where, targets)
    assert torch.allclose(moved, there, atol=1e-5)
    as_they_are = states(coconut, some, where, sources)
    assert (as_they_are - there)[elsewhere].abs().max() > 0.1, "without it, the position comes along"


def test_where_nothing_moves_keys_and_contents_are_those_that_were_thought(
    coconut: interp.Reasoner, traces: TraceSet
) -> None:
    some, rows = traces[:10], ends_of_questions(traces[:10])
    key, stream = Address("blocks.1.attn.hook_k"), Address("blocks.1.hook_out")
    assert torch.equal(moved_contents(coconut, some, key, rows, some, rows), states(coconut, some, key, rows))
    assert torch.equal(moved_contents(coconut, some, stream, rows, some, rows), contents(coconut, some, stream, rows))
