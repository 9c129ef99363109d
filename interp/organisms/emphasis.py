"""A loss that listens to what a step comes to.

In a worked solution most words are copied and a few are computed. Where solutions may be written in several
orders, the choice of the next step keeps a loss that nothing can lower, and beside its noise the few computed
words are learned late. Counting them once more lets a small model learn its arithmetic first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interp.organisms.model import tokenizer_of
from interp.problems.igsm.wording import SO
from interp.reasoners import REASONERS
from interp.reasoners.lessons import LessonBatch

if TYPE_CHECKING:
    from interp.organisms.catalog import Recipe


def results(recipe: Recipe) -> Callable[[Any, LessonBatch, float], Tensor]:
    """The mean next-token loss over the scored words, plus that over the values that steps come to.

    A value is the second word after `so`, as task `igsm` writes its steps.
    """
    so = tokenizer_of(recipe).convert_tokens_to_ids(SO)
    kind, config = REASONERS[recipe.kind], recipe.reasoner()

    def loss(model: Any, batch: LessonBatch, done: float) -> Tensor:
        logits = kind.logits(model, batch, config)[:, :-1].float()
        targets, scored = batch.ids[:, 1:], batch.scored[:, 1:]
        each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        each = each.reshape(targets.shape)
        values = torch.zeros_like(scored)
        values[:, 1:] = scored[:, 1:] * (batch.ids[:, :-2] == so)
        return (each * scored).sum() / scored.sum() + (each * values).sum() / values.sum().clamp(min=1.0)

    return loss
