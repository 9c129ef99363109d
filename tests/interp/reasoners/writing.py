"""A reasoner that writes what a test wants to be read."""

from __future__ import annotations

import pytest
import torch

import interp
from interp.problems.base import Problem
from interp.reasoners.rollouts.rollout import Rollout
from interp.traces import Trace

END = 2  # the token that ends a text, in all tokenizers of these tests


def write(
    reasoner: interp.Reasoner, text: str | list[int], question: Problem, monkeypatch: pytest.MonkeyPatch
) -> Trace:
    """Return the trace of a reasoner that writes given tokens, or those of a text, and then ends."""
    ids = reasoner.tokenizer(text, add_special_tokens=False).input_ids if isinstance(text, str) else text
    start: list[int] = []

    def choose(rollout: Rollout) -> torch.Tensor:
        n = len(rollout.rows[0].token_ids)
        start.append(n)
        k = n - start[0]
        return torch.tensor([ids[k] if k < len(ids) else END])

    monkeypatch.setattr(Rollout, "choose", choose)
    return reasoner.think([question])[0]
