"""How the next token is chosen, and when writing stops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import UsageError


def checked_sampling(temperature: float, top_p: float) -> None:
    if not 0 <= temperature < float("inf"):
        raise UsageError(f"temperature must be 0 (greedy) or more, but {temperature} came.")
    if not 0 < top_p <= 1:
        raise UsageError(f"top_p must lie above 0 and not above 1, but {top_p} came.")


def draw(
    logits: Float[Tensor, "batch vocab"], temperature: float, top_p: float, draws: Sequence[float]
) -> Int[Tensor, " batch"]:
    """One token for each row, from the smallest set of likeliest tokens that holds `top_p` of the probability
    (nucleus sampling, arXiv 1904.09751); `draws` are uniform on [0, 1)."""
    p = torch.softmax(logits.double() / temperature, dim=-1)
    if top_p < 1:
        ordered, at = p.sort(dim=-1, descending=True)
        before = ordered.cumsum(-1) - ordered
        p = torch.zeros_like(p).scatter(-1, at, torch.where(before < top_p, ordered, 0.0))
    p = p.cumsum(-1)
    drawn = torch.as_tensor(np.asarray(draws), dtype=torch.float64, device=p.device)
    return torch.searchsorted(p, (drawn * p[:, -1])[:, None], right=True)[:, 0].clamp(max=p.shape[1] - 1)


class Stops:
    """What ends an answer: tokens that are not written any more, and texts after which nothing is."""

    def __init__(self, tokenizer: Any, ids: Sequence[int], texts: Sequence[str]) -> None:
        self.ids = frozenset(ids)
        self._texts = tuple(texts)
        self._tokenizer = tokenizer
        self._look_back = 4 + max(map(len, texts), default=0)

    def after(self, answer: Sequence[int]) -> bool:
        """Whether the answer so far, as token ids, ends with one of the texts or has gone past it."""
        if not self._texts:
            return False
        said = self._tokenizer.decode(list(answer[-self._look_back :]))
        return any(text in said for text in self._texts)
