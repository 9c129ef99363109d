"""Losses that weight the result of each step and the choice of the next parameter.

Most words of a solution are copied and a few are computed. Solutions may be written in several orders, so the choice
of the next step keeps an irreducible loss. Next to its noise the few computed words are learned late. Counting them
twice lets a small model learn its arithmetic first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interp.organisms.training.model import first_blocks, tokenizer_of
from interp.problems.igsm.wording import BACK, NAMES, SO
from interp.reasoners.curriculum import LessonBatch
from interp.reasoners.registry import curriculum_of

if TYPE_CHECKING:
    from interp.organisms.catalog import Recipe


def result_loss(recipe: Recipe) -> Callable[[Any, LessonBatch, float], Tensor]:
    """Return the mean next-token loss over the scored words, plus the mean over the results of steps.

    A result is the second word after `so`, as task `igsm` writes its steps.
    """
    so, words = _ids(recipe, SO), _words(recipe)

    def loss(model: Any, batch: LessonBatch, done: float) -> Tensor:
        losses, scored = words(model, batch)
        return _mean(losses, scored) + _mean(losses, scored * _is_result(batch, so))

    return loss


def choice_weighted_loss(recipe: Recipe) -> Callable[[Any, LessonBatch, float], Tensor]:
    """Return the loss `retries_loss` in which the words after a parameter count four times more."""
    return retries_loss(recipe, choice_weight=4.0)


def retries_loss(recipe: Recipe, choice_weight: float = 1.0) -> Callable[[Any, LessonBatch, float], Tensor]:
    """Return the loss `result_loss` for solutions in which parameters are taken back, plus that of the word after a name.

    The word after a parameter's name takes the parameter back or continues its step, so it shows whether the parameter comes next.
    Names that are taken back are not scored, so the model learns to recognise them and not to write them.
    """
    so, back, names = _ids(recipe, SO), _ids(recipe, BACK), _ids(recipe, *(f"{name}:" for name in NAMES))
    words = _words(recipe)

    def loss(model: Any, batch: LessonBatch, done: float) -> Tensor:
        losses, scored = words(model, batch)
        taken_back = torch.zeros_like(scored)
        taken_back[:, :-1] = _among(batch.ids[:, 2:], back)
        choices = scored * _among(batch.ids[:, :-1], names)
        written = _mean(losses, scored * (1 - taken_back)) + _mean(losses, scored * _is_result(batch, so))
        return written + choice_weight * _mean(losses, choices)

    return loss


def early_choice_loss(recipe: Recipe) -> Callable[[Any, LessonBatch, float], Tensor]:
    """Return the loss `retries_loss`, plus the loss of the next parameter's name after half of the blocks.

    Whether a name is the next one is decided at the name. The word before it, whose state says which name comes next, can
    only be read there from earlier blocks. A model that chooses the next name in its last blocks has none left to compare.
    """
    names, words, whole_loss = _ids(recipe, *(f"{name}:" for name in NAMES)), _words(recipe), retries_loss(recipe)
    back = _ids(recipe, BACK)

    def early(model: Any, batch: LessonBatch) -> Tensor:
        losses, scored = words(model, batch)
        kept = torch.ones_like(scored)
        kept[:, :-1][_among(batch.ids[:, 2:], back)] = 0
        return _mean(losses, scored * kept * _among(batch.ids[:, 1:], names))

    def loss(model: Any, batch: LessonBatch, done: float) -> Tensor:
        deep = whole_loss(model, batch, done)
        with first_blocks(model, len(model.transformer.h) // 2):
            return deep + early(model, batch)

    return loss


def _ids(recipe: Recipe, *words: str) -> Tensor:
    return torch.tensor(tokenizer_of(recipe).convert_tokens_to_ids(list(words)))


def _among(ids: Tensor, words: Tensor) -> Tensor:
    return torch.isin(ids, words.to(ids.device))


def _words(recipe: Recipe) -> Callable[[Any, LessonBatch], tuple[Tensor, Tensor]]:
    """Return a function that gives the loss of every word of a batch but the first, and which words are scored."""
    curriculum = curriculum_of(recipe.reasoner())

    def words(model: Any, batch: LessonBatch) -> tuple[Tensor, Tensor]:
        logits = curriculum.logits(model, batch)[:, :-1].float()
        targets, scored = batch.ids[:, 1:], batch.scored[:, 1:]
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        return losses.reshape(targets.shape), scored

    return words


def _is_result(batch: LessonBatch, so: Tensor) -> Tensor:
    """Return 1 for every word that is the result of a step."""
    is_result = torch.zeros_like(batch.scored[:, 1:])
    is_result[:, 1:] = _among(batch.ids[:, :-2], so)
    return is_result


def _mean(losses: Tensor, chosen: Tensor) -> Tensor:
    return (losses * chosen).sum() / chosen.sum().clamp(min=1.0)
