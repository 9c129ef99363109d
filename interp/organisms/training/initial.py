"""Starting a model from heads made by hand: an induction head, and heads that look a fixed distance back.

Looking something up in a question (an edge, a definition) takes two heads in a row: one that tells each
position which token came before it, and one that finds the position whose previous token is the present one
and copies what stands there (Olsson et al., arXiv 2209.11895). Small models that have to find this circuit
themselves did not find it in a few CPU minutes; begun with it, they learn to use it at once. Everything else
stays as it was drawn, and training may change all of it.

Arithmetic written out (`crabs: crows 0 minus geese 19 so crabs 4 .`) takes heads that look a fixed distance
back, for the operands and the operation. In long sequences these are found late, and until then none of some
1,600 facts is learned; begun with them, a model learns the facts in minutes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import UsageError

# How sharply the two heads attend: scores of the right position, in nats above an unrelated one, of about this.
_SHARPNESS_PREVIOUS, _SHARPNESS_MATCH = 24.0, 14.0
_EMBEDDING_STD = 0.1
_PREVIOUS_STD = 0.3  # the copied token outweighs the position that it shares its slot with
_TRIALS = 300
_COPY_OVER_OWN = 2.0  # how far the logit of a copied token lies above that of the present one
# (head of layer 0, positions back, which free dimensions, turned): two heads share dimensions, one of them turned.
_LOOKBACKS = ((1, 2, 1, False), (2, 5, 2, False), (3, 4, 2, True))
_LOOKBACK_STD = 0.15


@torch.no_grad()
def induction_heads(model: Any) -> None:
    """Write an induction head into `model`, a GPT2LMHeadModel with a tied head, in place.

    The last `d_model / n_heads` dimensions become a slot for positions: token embeddings are 0 there and
    position embeddings 0 elsewhere. Head 0 of layer 0 attends to the previous position and adds the first
    `d_model / n_heads` dimensions of that token, its code, to the slot. Head 0 of layer 1 attends from a token
    to the positions whose slot holds its code, and copies the codes found there to where it reads its own.
    Raises `UsageError` for a model of fewer than two layers, or whose heads are too few to keep code and slot
    apart, or too small or odd.
    """
    config = model.config
    width, size = config.n_embd, config.n_embd // config.n_head
    if config.n_layer < 2 or config.n_head < 2 or size < 16 or size % 2:
        raise UsageError(
            "an induction head takes two layers, two heads and an even head size of at least 16, but the model has "
            f"{config.n_layer} layers, {config.n_head} heads and head size {size}. Change [model] of the recipe."
        )
    base = model.transformer
    code, slot = slice(0, size), slice(width - size, width)
    base.wte.weight[:, slot] = 0.0
    base.wte.weight[:, code] = _codes(base.wte.weight[:, code])
    base.wpe.weight.zero_()
    frequencies = _frequencies(config.n_positions, size)
    base.wpe.weight[:, slot] = _positions(config.n_positions, frequencies)
    # After the first norm every dimension has a spread of about 1; after layer 0 the slot outweighs the content.
    spread = math.sqrt((width - size) / width * _EMBEDDING_STD**2 + size / width * _after_layer_0())
    content, previous = _EMBEDDING_STD / spread, _PREVIOUS_STD / spread
    sharp_previous = math.sqrt(_SHARPNESS_PREVIOUS / math.sqrt(size))
    sharp_match = math.sqrt(_SHARPNESS_MATCH / (math.sqrt(size) * content * previous))
    unit = torch.eye(size)
    first, second = base.h[0].attn, base.h[1].attn
    _set_head(first, size, query=(slot, sharp_previous * _one_back(frequencies)), key=(slot, sharp_previous * unit))
    _set_head(first, size, value=(code, unit), out=(slot, _PREVIOUS_STD * unit))
    _set_head(second, size, query=(code, sharp_match * unit), key=(slot, sharp_match * unit))
    share = size / (width - size)  # of a token's embedding lies in its code
    _set_head(second, size, value=(code, unit / content), out=(code, _COPY_OVER_OWN / share * _EMBEDDING_STD * unit))


@torch.no_grad()
def lookback_heads(model: Any) -> None:
    """Write heads into layer 0 of `model`, which has its induction head, that look two, four and five positions back.

    Each copies the code of the token found there into dimensions that are neither code nor slot. Raises
    `UsageError` for a model of fewer than four heads.
    """
    config = model.config
    if config.n_head < 4:
        raise UsageError(
            f"heads that look back take four heads, but the model has {config.n_head}. Change [model] of the recipe."
        )
    width, size = config.n_embd, config.n_embd // config.n_head
    code, slot = slice(0, size), slice(width - size, width)
    frequencies = _frequencies(config.n_positions, size)
    sharp, unit = math.sqrt(_SHARPNESS_PREVIOUS / math.sqrt(size)), torch.eye(size)
    turn = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(0)))[0]
    for head, back, where, turned in _LOOKBACKS:
        free = slice(where * size, (where + 1) * size)
        copied = _LOOKBACK_STD * (turn if turned else unit)
        query = sharp * torch.linalg.matrix_power(_one_back(frequencies), back)
        parts = {"query": (slot, query), "key": (slot, sharp * unit), "value": (code, unit), "out": (free, copied)}
        _set_head(model.transformer.h[0].attn, size, head, **parts)
    # What layer 0 copied widens the stream, so the head that matches codes would attend and copy less sharply.
    before = _EMBEDDING_STD**2 + size / width * _PREVIOUS_STD**2
    copies = len(_LOOKBACKS) * size / width * _LOOKBACK_STD**2
    matching = model.transformer.h[1].attn.c_attn.weight
    for column in range(3):
        matching[:, column * width : column * width + size] *= math.sqrt(1 + copies / before)


def _codes(drawn: Float[Tensor, "vocab size"], rounds: int = 200) -> Float[Tensor, "vocab size"]:
    """Codes of equal length, pushed apart from where they were drawn until none is much like another."""
    codes = torch.nn.functional.normalize(drawn.double(), dim=1)
    for _ in range(rounds):
        alike = codes @ codes.T
        alike.fill_diagonal_(0.0)
        # Downhill on the sum of the cosines to the fourth power, which the worst pairs dominate.
        codes = torch.nn.functional.normalize(codes - 0.3 * alike**3 @ codes, dim=1)
    return (codes * math.sqrt(codes.shape[1]) * _EMBEDDING_STD).to(drawn)


def _after_layer_0() -> float:
    return _EMBEDDING_STD**2 + _PREVIOUS_STD**2


def _frequencies(n: int, size: int) -> Float[Tensor, " half"]:
    """The frequencies, of many drawn, at which the waves of `n` positions are least alike at any distance."""
    half = size // 2
    even = math.pi * (torch.arange(half, dtype=torch.float64) + 0.5) / half
    drawn = math.pi * torch.rand(_TRIALS, half, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tried = torch.cat([even[None], drawn])
    distances = torch.arange(1, max(n, 2), dtype=torch.float64)
    alike = torch.stack([torch.cos(distances[:, None] * each).sum(1).max() for each in tried])
    return tried[alike.argmin()]


def _positions(n: int, frequencies: Float[Tensor, " half"]) -> Float[Tensor, "n size"]:
    angles = torch.arange(n, dtype=torch.float64)[:, None] * frequencies
    waves = torch.stack([torch.sin(angles), torch.cos(angles)], dim=-1).flatten(1)
    return (waves * math.sqrt(2) * _EMBEDDING_STD).float()


def _one_back(frequencies: Float[Tensor, " half"]) -> Float[Tensor, "size size"]:
    """The rotation that turns the waves of a position, as a row, into those of the position before it."""
    size = 2 * len(frequencies)
    rotation = torch.zeros(size, size)
    for k, angle in enumerate(frequencies.tolist()):
        sine, cosine = math.sin(angle), math.cos(angle)
        rotation[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = torch.tensor([[cosine, sine], [-sine, cosine]])
    return rotation


def _set_head(attention: Any, size: int, head: int = 0, **parts: tuple[slice, Tensor]) -> None:
    """Set what a head reads for its query, key and value, or where it writes: (dimensions, size x size matrix)."""
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
