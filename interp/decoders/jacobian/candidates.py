"""A lens for a few tokens of a large vocabulary: only their rows are fitted.

The logit of token c after the lens is u_c · Jh / s + a constant, where u_c is its row of the unembedding times the final
norm's weights, and s the norm's scale for Jh. Each u_c takes one product with the Jacobian. The scale needs the length of
Jh, which is estimated from its products with a few random vectors. Where the norm has no bias, the scale cannot change the
order of the candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import UsageError
from interp.models.norms import FrozenNorm

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

# Random vectors for the norm's scale: its standard error is 1 / sqrt(2 N), here 18 %.
N_RANDOM = 16


@dataclass(frozen=True)
class Candidates:
    """Tokens, and the row vectors whose products with the Jacobian give their logits.

    Attributes:
        tokens: Token ids.
        vectors: u_c of each token, then the random vectors, shape (tokens + N_RANDOM, d_model).
        constants: What each logit has of the norm's and the unembedding's biases, shape (tokens,).
    """

    tokens: tuple[int, ...]
    vectors: Float[Tensor, "rows d_model"]
    constants: Float[Tensor, " tokens"]

    @classmethod
    def of(cls, reasoner: Reasoner, tokens: Sequence[int], seed: int = 0) -> Candidates:
        """Return the candidates of a model.

        Args:
            reasoner: The model.
            tokens: Token ids.
            seed: Seed of the random vectors.

        Raises:
            UsageError: There are fewer than two different tokens, or the model lacks one.
        """
        tokens = tuple(dict.fromkeys(tokens))
        if len(tokens) < 2:
            raise UsageError(f"expected at least two candidate tokens, got {len(tokens)}; name more.")
        if min(tokens) < 0 or max(tokens) >= len(reasoner.unembed.weight):
            raise UsageError(f"expected tokens of {reasoner.name}, got {list(tokens)}; it has fewer.")
        gain, bias, centres = _final_norm(reasoner)
        rows, constants = reasoner.unembed.rows(tokens)
        random = torch.randn(N_RANDOM, rows.shape[1], generator=torch.Generator().manual_seed(seed)).to(rows)
        vectors = torch.cat([rows * gain, random])
        if centres:
            vectors = vectors - vectors.mean(dim=1, keepdim=True)
        return cls(tokens, vectors, constants + rows @ bias)

    def logits(self, reasoner: Reasoner, products: Float[Tensor, "states rows"]) -> Float[Tensor, "states tokens"]:
        """Return the candidates' logits of states, from the products of `vectors` with Jh."""
        n, width = len(self.tokens), self.vectors.shape[1]
        scale = (products[:, n:].square().mean(dim=1, keepdim=True) / width).sqrt().clamp(min=1e-12)
        return reasoner.unembed.capped(products[:, :n] / scale + self.constants.to(products))


@torch.no_grad()
def _final_norm(reasoner: Reasoner) -> tuple[Tensor, Tensor, bool]:
    """Return the weights and the bias of the final norm in float32, and whether it takes the mean off."""
    dtype, device = reasoner.unembed.weight.dtype, reasoner.device

    def apply(states: Tensor) -> Tensor:
        return reasoner.model.ln_final(states.to(dtype)[:, None])[:, 0].float()

    probe = torch.randn(4, reasoner.model.cfg.d_model, generator=torch.Generator().manual_seed(1)).to(device)
    norm = FrozenNorm.measure(SimpleNamespace(forward=apply), probe, apply(probe))
    return norm.gain, norm.bias, norm.centres
