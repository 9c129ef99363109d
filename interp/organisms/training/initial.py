"""Hand-made heads for a fresh model: an induction head, and heads that look a fixed distance back.

Looking up an edge or a definition in a question takes two heads in a row: one writes to each position the token before
it, and one finds the position whose previous token is the current one and copies the token there (Olsson et al., arXiv
2209.11895). Small models do not find this circuit in a few CPU minutes. With the heads in place they learn to use them
at once. All other weights stay as drawn, and training may change every weight.

Written arithmetic (`crabs: crows 0 minus geese 19 so crabs 4 .`) takes heads that look a fixed distance back, for the
operands and the operation. In long sequences these are found late, and until then none of about 1,600 facts is learned.
With the heads in place a model learns the facts in minutes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import UsageError

# Attention scores of the right position, in nats above an unrelated one, for the two heads.
_SHARPNESS_PREVIOUS, _SHARPNESS_MATCH = 24.0, 14.0
_EMBEDDING_STD = 0.1
_PREVIOUS_STD = 0.3  # larger than the position embedding that shares the slot
_TRIALS = 300
_COPY_OVER_OWN = 2.0  # logit of a copied token over that of the current one
# (head of layer 0, positions back, block of free dimensions, rotated). Two heads share a block; one of them is rotated.
_LOOKBACKS = ((1, 2, 1, False), (2, 5, 2, False), (3, 4, 2, True))
_LOOKBACK_STD = 0.15


@torch.no_grad()
def induction_heads(model: Any) -> None:
    """Write an induction head into a model, in place.

    The last `d_model / n_heads` dimensions become a slot for positions: token embeddings are 0 there and position
    embeddings 0 elsewhere. Head 0 of layer 0 attends to the previous position and adds the first `d_model / n_heads`
    dimensions of that token, its code, to the slot. Head 0 of layer 1 attends from a token to the positions whose slot
    holds its code, and copies the codes of those positions to the code's dimensions.

    Args:
        model: A `GPT2LMHeadModel` with tied embeddings.

    Raises:
        UsageError: The model has fewer than two layers or two heads, or a head size that is odd or below 16.
    """
    config = model.config
    width, size = config.n_embd, config.n_embd // config.n_head
    if config.n_layer < 2 or config.n_head < 2 or size < 16 or size % 2:
        raise UsageError(
            "expected two layers, two heads and an even head size of at least 16 for an induction head, got "
            f"{config.n_layer} layers, {config.n_head} heads and head size {size}; change [model] of the recipe."
        )
    base = model.transformer
    code, slot = slice(0, size), slice(width - size, width)
    base.wte.weight[:, slot] = 0.0
    base.wte.weight[:, code] = _codes(base.wte.weight[:, code])
    base.wpe.weight.zero_()
    frequencies = _frequencies(config.n_positions, size)
    base.wpe.weight[:, slot] = _positions(config.n_positions, frequencies)
    # After the first norm every dimension has a standard deviation of about 1; after layer 0 that of the slot is larger.
    spread = math.sqrt((width - size) / width * _EMBEDDING_STD**2 + size / width * _after_layer_0())
    content, previous = _EMBEDDING_STD / spread, _PREVIOUS_STD / spread
    sharp_previous = math.sqrt(_SHARPNESS_PREVIOUS / math.sqrt(size))
    sharp_match = math.sqrt(_SHARPNESS_MATCH / (math.sqrt(size) * content * previous))
    unit = torch.eye(size)
    first, second = base.h[0].attn, base.h[1].attn
    _set_head(first, size, query=(slot, sharp_previous * _one_back(frequencies)), key=(slot, sharp_previous * unit))
    _set_head(first, size, value=(code, unit), out=(slot, _PREVIOUS_STD * unit))
    _set_head(second, size, query=(code, sharp_match * unit), key=(slot, sharp_match * unit))
    share = size / (width - size)  # the part of a token's embedding that is its code
    _set_head(second, size, value=(code, unit / content), out=(code, _COPY_OVER_OWN / share * _EMBEDDING_STD * unit))


@torch.no_grad()
def lookback_heads(model: Any) -> None:
    """Write heads into layer 0 of a model with an induction head that look two, four and five positions back.

    Each head copies the code of the token at that distance into dimensions that are neither code nor slot.

    Args:
        model: A model after `induction_heads`; changed in place.

    Raises:
        UsageError: The model has fewer than four heads.
    """
    config = model.config
    if config.n_head < 4:
        raise UsageError(
            f"expected at least four heads for heads that look back, got {config.n_head}; change [model] of the recipe."
        )
    width, size = config.n_embd, config.n_embd // config.n_head
    code, slot = slice(0, size), slice(width - size, width)
    frequencies = _frequencies(config.n_positions, size)
    sharp, unit = math.sqrt(_SHARPNESS_PREVIOUS / math.sqrt(size)), torch.eye(size)
    rotation = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(0)))[0]
    for head, back, block, rotated in _LOOKBACKS:
        free = slice(block * size, (block + 1) * size)
        copied = _LOOKBACK_STD * (rotation if rotated else unit)
        query = sharp * torch.linalg.matrix_power(_one_back(frequencies), back)
        parts = {"query": (slot, query), "key": (slot, sharp * unit), "value": (code, unit), "out": (free, copied)}
        _set_head(model.transformer.h[0].attn, size, head, **parts)
    # The copies of layer 0 raise the norm of the stream, so the matching head needs larger weights to stay as sharp.
    before = _EMBEDDING_STD**2 + size / width * _PREVIOUS_STD**2
    copies = len(_LOOKBACKS) * size / width * _LOOKBACK_STD**2
    matching = model.transformer.h[1].attn.c_attn.weight
    for column in range(3):
        matching[:, column * width : column * width + size] *= math.sqrt(1 + copies / before)


def _codes(drawn: Float[Tensor, "vocab size"], rounds: int = 200) -> Float[Tensor, "vocab size"]:
    """Return codes of equal length, moved apart until their cosines are small."""
    codes = torch.nn.functional.normalize(drawn.double(), dim=1)
    for _ in range(rounds):
        cosines = codes @ codes.T
        cosines.fill_diagonal_(0.0)
        # Gradient descent on the sum of the cosines' fourth powers, which the worst pairs dominate.
        codes = torch.nn.functional.normalize(codes - 0.3 * cosines**3 @ codes, dim=1)
    return (codes * math.sqrt(codes.shape[1]) * _EMBEDDING_STD).to(drawn)


def _after_layer_0() -> float:
    return _EMBEDDING_STD**2 + _PREVIOUS_STD**2


def _frequencies(n: int, size: int) -> Float[Tensor, " half"]:
    """Return the drawn frequencies at which the waves of `n` positions are least similar at any distance."""
    half = size // 2
    even = math.pi * (torch.arange(half, dtype=torch.float64) + 0.5) / half
    drawn = math.pi * torch.rand(_TRIALS, half, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tried = torch.cat([even[None], drawn])
    distances = torch.arange(1, max(n, 2), dtype=torch.float64)
    similarity = torch.stack([torch.cos(distances[:, None] * candidate).sum(1).max() for candidate in tried])
    return tried[similarity.argmin()]


def _positions(n: int, frequencies: Float[Tensor, " half"]) -> Float[Tensor, "n size"]:
    angles = torch.arange(n, dtype=torch.float64)[:, None] * frequencies
    waves = torch.stack([torch.sin(angles), torch.cos(angles)], dim=-1).flatten(1)
    return (waves * math.sqrt(2) * _EMBEDDING_STD).float()


def _one_back(frequencies: Float[Tensor, " half"]) -> Float[Tensor, "size size"]:
    """Return the rotation that turns the waves of a position, as a row, into those of the position before it."""
    size = 2 * len(frequencies)
    rotation = torch.zeros(size, size)
    for k, angle in enumerate(frequencies.tolist()):
        sine, cosine = math.sin(angle), math.cos(angle)
        rotation[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = torch.tensor([[cosine, sine], [-sine, cosine]])
    return rotation


def _set_head(attention: Any, size: int, head: int = 0, **parts: tuple[slice, Tensor]) -> None:
    """Set what a head reads for its query, key or value, or where it writes.

    Args:
        attention: The attention layer.
        size: Size of a head.
        head: Number of the head.
        **parts: For "query", "key", "value" or "out" the dimensions of the stream, and a (size, size) matrix.
    """
    width, first = attention.embed_dim, head * size
    for column, name in enumerate(("query", "key", "value")):
        if name in parts:
            dimensions, matrix = parts[name]
            columns = slice(column * width + first, column * width + first + size)
            attention.c_attn.weight[:, columns] = 0.0
            attention.c_attn.weight[dimensions, columns] = matrix
    if "out" in parts:
        dimensions, matrix = parts["out"]
        attention.c_proj.weight[first : first + size] = 0.0
        attention.c_proj.weight[first : first + size, dimensions] = matrix
