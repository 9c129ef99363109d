"""Losses that listen to what a step comes to, and to which parameter comes next.

In a worked solution most words are copied and a few are computed. Where solutions may be written in several
orders, the choice of the next step keeps a loss that nothing can lower, and beside its noise the few computed
words are learned late. Counting them once more lets a small model learn its arithmetic first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interp.organisms.training.model import tokenizer_of
from interp.problems.igsm.wording import BACK, NAMES, SO
from interp.reasoners.curriculum import LessonBatch
from interp.reasoners.registry import curriculum_of

if TYPE_CHECKING:
    from interp.organisms.catalog import Recipe


def results(recipe: Recipe) -> Callable[[Any, LessonBatch, float], Tensor]:
    """The mean next-token loss over the scored words, plus that over the values that steps come to.

    A value is the second word after `so`, as task `igsm` writes its steps.
    """
    so, words = _ids(recipe, SO), _words(recipe)

    def loss(model: Any, batch: LessonBatch, done: float) -> Tensor:
        each, scored = words(model, batch)
        return _mean(each, scored) + _mean(each, scored * _values(batch, so))

    return loss


def telling(recipe: Recipe) -> Callable[[Any, LessonBatch, float], Tensor]:
    """`retries`, for a model that does the rest already: the words that follow a parameter count four times."""
    return retries(recipe, told_weight=4.0)


def retries(recipe: Recipe, told_weight: float = 1.0) -> Callable[[Any, LessonBatch, float], Tensor]:
    """`results`, for solutions in which parameters are taken back, with the words that follow a parameter once more.

    That word takes the parameter back or goes on, so it says whether the parameter comes next: what this loss listens
    to. The names that are taken back are not scored, so that they are recognised and not written.
    """
    so, back, names = _ids(recipe, SO), _ids(recipe, BACK), _ids(recipe, *(f"{name}:" for name in NAMES))
    words = _words(recipe)

    def loss(model: Any, batch: LessonBatch, done: float) -> Tensor:
        each, scored = words(model, batch)
        wrong = torch.zeros_like(scored)
        wrong[:, :-1] = _among(batch.ids[:, 2:], back)
        told = scored * _among(batch.ids[:, :-1], names)
        written = _mean(each, scored * (1 - wrong)) + _mean(each, scored * _values(batch, so))
        return written + told_weight * _mean(each, told)

    return loss


def _ids(recipe: Recipe, *words: str) -> Tensor:
    return torch.tensor(tokenizer_of(recipe).convert_tokens_to_ids(list(words)))


def _among(ids: Tensor, words: Tensor) -> Tensor:
    return torch.isin(ids, words.to(ids.device))


def _words(recipe: Recipe) -> Callable[[Any, LessonBatch], tuple[Tensor, Tensor]]:
    """What gives the loss of every word of a batch but the first, and which of them are scored."""
    curriculum = curriculum_of(recipe.reasoner())

    def words(model: Any, batch: LessonBatch) -> tuple[Tensor, Tensor]:
        logits = curriculum.logits(model, batch)[:, :-1].float()
        targets, scored = batch.ids[:, 1:], batch.scored[:, 1:]
        each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        return each.reshape(targets.shape), scored

    return words


def _values(batch: LessonBatch, so: Tensor) -> Tensor:
    values = torch.zeros_like(batch.scored[:, 1:])
    values[:, 1:] = _among(batch.ids[:, :-2], so)
    return values


def _mean(each: Tensor, chosen: Tensor) -> Tensor:
    return (each * chosen).sum() / chosen.sum().clamp(min=1.0)
