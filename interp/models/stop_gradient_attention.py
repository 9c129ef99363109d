"""Eager attention that stops some gradients.

Self-reasoning tokens (F. Bonetto, reasoning-tokens.ghost.io, April 2024) are trained by future steps only: queries of
their own step read them, but pass no gradient to their keys and values. Outputs equal those of eager attention, so
trained models run with Hugging Face's eager attention. Registered with Hugging Face under `NAME`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

NAME = "cotlens_stop_gradient"


def same_step(
    positions: Int[Tensor, "batch pos"], reasoning: Bool[Tensor, "batch pos"]
) -> Bool[Tensor, "batch 1 query key"]:
    """Return the (query, key) pairs that stop gradients: the key is a reasoning token of the query's own step.

    Args:
        positions: Position ids; tokens of one step share theirs.
        reasoning: Whether each position holds a reasoning token. A position never stops its own gradient.
    """
    same = positions[:, :, None] == positions[:, None, :]
    itself = torch.eye(positions.shape[1], dtype=torch.bool, device=positions.device)
    return (same & reasoning[:, None, :] & ~itself)[:, None]


def stop_gradient_attention(
    module: torch.nn.Module,
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch head key d_head"],
    value: Float[Tensor, "batch head key d_head"],
    attention_mask: Float[Tensor, "batch 1 query key"] | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    stopped: Bool[Tensor, "batch 1 query key"] | None = None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "batch query head d_head"], Float[Tensor, "batch head query key"]]:
    """Compute eager attention; the pairs of `stopped` pass no gradient to their keys and values.

    The arguments are those of Hugging Face's attention functions, and `stopped`. Without `stopped` this is eager
    attention with all gradients.

    Returns:
        The output and the attention pattern.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    kept = 1.0 if stopped is None else (~stopped).to(query.dtype)
    scores = query @ key.detach().mT
    scores = _with_gradient_of(scores, (query.detach() @ key.mT) * kept) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    pattern = torch.softmax(scores, dim=-1).to(value.dtype)
    pattern = torch.nn.functional.dropout(pattern, p=dropout, training=module.training)
    out = _with_gradient_of(pattern @ value.detach(), (pattern.detach() * kept) @ value)
    return out.transpose(1, 2), pattern


def _with_gradient_of(result: Tensor, other: Tensor) -> Tensor:
    """Return exactly `result`, with the gradients of `other` added to its own."""
    return result + (other - other.detach())


@contextlib.contextmanager
def use_stop_gradients(model: Any) -> Iterator[None]:
    """Make a Hugging Face model use this attention; pass `stopped` to its forward call."""
    before = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before


AttentionInterface.register(NAME, stop_gradient_attention)
AttentionMaskInterface.register(NAME, eager_mask)
