"""How a way of thinking is taught: one training sequence, a batch of them, and the loss over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import CotlensError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Lesson:
    """One training sequence: its words, which of them the loss covers, and where silent thoughts are.

    The `n_thoughts` columns from `first_thought` on carry no text. `extra` are words that a loss of its own
    needs and the model never reads, such as the value that each iteration is to reach.
    """

    words: list[str]
    scored: list[bool]
    first_thought: int
    n_thoughts: int
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class LessonBatch:
    """Lessons with silent thoughts in the same columns; shorter ones are padded on the right, out of the loss."""

    ids: Int[Tensor, "batch pos"]
    scored: Float[Tensor, "batch pos"]
    first_thought: int
    n_thoughts: int
    extra: Int[Tensor, "batch n_extra"]

    def to(self, device: torch.device) -> LessonBatch:
        return LessonBatch(
            self.ids.to(device),
            self.scored.to(device),
            self.first_thought,
            self.n_thoughts,
            self.extra.to(device),
        )


def collate(lessons: Sequence[Lesson], tokenizer: PreTrainedTokenizerBase) -> LessonBatch:
    """Lessons as one batch. Raises `CotlensError` when their silent thoughts lie in different columns."""
    first, n_thoughts = lessons[0].first_thought, lessons[0].n_thoughts
    if n_thoughts and any((each.first_thought, each.n_thoughts) != (first, n_thoughts) for each in lessons):
        raise CotlensError("silent thoughts of one training batch must lie in the same columns; batch by shape.")
    width = max(len(each.words) for each in lessons)
    pad: str = tokenizer.pad_token  # type: ignore[assignment]
    rows = [[*each.words, *[pad] * (width - len(each.words))] for each in lessons]
    scored = [[*map(float, each.scored), *[0.0] * (width - len(each.scored))] for each in lessons]
    ids = torch.tensor([tokenizer.convert_tokens_to_ids(words) for words in rows])
    extra = [tokenizer.convert_tokens_to_ids(list(each.extra)) for each in lessons]
    return LessonBatch(ids, torch.tensor(scored), first, n_thoughts, torch.tensor(extra, dtype=torch.long))


def next_token_loss(logits: Float[Tensor, "batch pos vocab"], batch: LessonBatch) -> Float[Tensor, ""]:
    """Mean next-token loss over the scored words."""
    targets, weights = batch.ids[:, 1:], batch.scored[:, 1:]
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), targets.flatten(), reduction="none"
    )
    return (losses * weights.flatten()).sum() / weights.sum()
