"""How the next token is chosen: greedily, or drawn at a temperature from the nucleus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import UsageError
from interp.problems.base import checked_seed


@dataclass(frozen=True)
class Sampler:
    """Chooses the next token of each row of a batch.

    Args:
        seed: Seed of the draws.
        temperature: Temperature of the softmax; 0 takes the likeliest token.
        top_p: Share of the probability that tokens are drawn from, likeliest first.

    Raises:
        UsageError: A value is out of range.
    """

    seed: int = 0
    temperature: float = 0.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        checked_seed(self.seed)
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"expected temperature to be 0 (greedy) or more, got {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"expected top_p to be above 0 and at most 1, got {self.top_p}.")

    def choose(
        self, logits: Float[Tensor, "batch vocab"], traces: Sequence[int], positions: Sequence[int]
    ) -> Int[Tensor, " batch"]:
        """Return the next token of each row, on the CPU.

        Each draw depends on the seed, the trace and the position alone, so it does not depend on the batch.
        """
        if not self.temperature:
            return logits.argmax(-1).cpu()
        uniform = [
            np.random.default_rng([self.seed, trace, position]).random()
            for trace, position in zip(traces, positions, strict=True)
        ]
        return draw(logits, self.temperature, self.top_p, uniform).cpu()


def draw(
    logits: Float[Tensor, "batch vocab"], temperature: float, top_p: float, uniform: Sequence[float]
) -> Int[Tensor, " batch"]:
    """Draw one token for each row from the smallest set of likeliest tokens that holds `top_p` of the probability.

    Args:
        logits: Next-token logits.
        temperature: Temperature of the softmax, above 0.
        top_p: Share of the probability, above 0 and at most 1.
        uniform: For each row a number that is uniform on [0, 1).

    Returns:
        The token ids, on the device of `logits`.

    References:
        Nucleus sampling, arXiv 1904.09751.
    """
    # Taken from the largest first, so that a temperature near 0 is greedy and does not overflow.
    logits = logits.double()
    p = torch.softmax((logits - logits.max(dim=-1, keepdim=True).values) / temperature, dim=-1)
    if top_p < 1:
        ordered, indices = p.sort(dim=-1, descending=True)
        before = ordered.cumsum(-1) - ordered
        p = torch.zeros_like(p).scatter(-1, indices, torch.where(before < top_p, ordered, 0.0))
    p = p.cumsum(-1)
    points = torch.as_tensor(np.asarray(uniform), dtype=torch.float64, device=p.device)
    # The point lies below the last sum unless logits are not finite, which is noticed some tokens later.
    return torch.searchsorted(p, (points * p[:, -1])[:, None], right=True)[:, 0].clamp(max=p.shape[1] - 1)
