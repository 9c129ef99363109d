"""Training with a random number of pauses; arXiv 2310.02226 trains with a fixed number."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.organisms.catalog import Recipe
from interp.reasoners.curriculum import LessonBatch
from interp.reasoners.registry import curriculum_of


def random_pauses(recipe: Recipe) -> Callable[[Any, LessonBatch, float], Float[Tensor, ""]]:
    """Return a loss for which every batch keeps between none and all of its pauses, each number equally often.

    The number depends only on the batch and the progress of the stage, so a resumed training draws the same numbers.
    """
    curriculum = curriculum_of(recipe.reasoner())

    def loss(model: Any, batch: LessonBatch, done: float) -> Float[Tensor, ""]:
        kept = Random(f"{recipe.name}|{done}|{int(batch.ids.sum())}").randint(0, batch.n_thoughts)
        return curriculum.loss(model, with_thoughts(batch, kept))

    return loss


def with_thoughts(batch: LessonBatch, kept: int) -> LessonBatch:
    """Return the batch with only the first `kept` of its silent thoughts."""
    first, last = batch.first_thought + kept, batch.first_thought + batch.n_thoughts

    def cut(table: Tensor) -> Tensor:
        return torch.cat([table[:, :first], table[:, last:]], dim=1)

    return LessonBatch(cut(batch.ids), cut(batch.scored), batch.first_thought, kept, batch.extra)
