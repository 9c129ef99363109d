"""A loss under which the thoughts of task `graph` hold the whole frontier, not only the path.

Coconut's curriculum trains each thought on the path alone, and the thoughts commit to it. Here the target of thought
k is a random node at distance k from the root, on the path or not (the breadth supervision of arXiv 2505.12514, section
5). The loss takes the expectation over that draw, the cross-entropy with all such nodes equally, so the best thought
is the superposition of the frontier. The answer keeps its own target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.errors import UsageError
from interp.problems import task as make_task
from interp.reasoners.curriculum import LessonBatch, next_token_loss
from interp.reasoners.registry import curriculum_of

if TYPE_CHECKING:
    from interp.organisms.catalog import Recipe
    from interp.organisms.training.train import Loss

_AFTER_EDGES = 6  # four candidates, the question mark and the root


def breadth_loss(recipe: Recipe) -> Loss:
    """Return the loss of the answer plus the mean cross-entropy of the thoughts with their frontiers.

    Raises:
        UsageError: The recipe's task is not `graph`; the loss parses its questions.
    """
    if make_task(recipe.task).name != "graph":
        raise UsageError(f"expected task graph for the breadth loss, got {recipe.task!r} in recipe {recipe.name}.")
    curriculum = curriculum_of(recipe.reasoner())

    def loss(model: Any, batch: LessonBatch, done: float) -> Tensor:
        logits = curriculum.logits(model, batch)
        answer_loss = next_token_loss(logits, batch)
        if not batch.n_thoughts:
            return answer_loss
        # The state that is fed back as thought k is that of the position before it.
        before = logits[:, batch.first_thought - 1 : batch.first_thought - 1 + batch.n_thoughts].float()
        targets = frontiers(batch.ids[:, : batch.first_thought - 1], batch.n_thoughts, logits.shape[-1]).float()
        share = targets / targets.sum(-1, keepdim=True)
        return answer_loss - (share * torch.log_softmax(before, dim=-1)).sum(-1).mean()

    return loss


def frontiers(
    questions: Int[Tensor, "batch words"], steps: int, n_vocabulary: int
) -> Bool[Tensor, "batch steps vocab"]:
    """Return which nodes lie at distance 1, 2, ..., `steps` from the root.

    Args:
        questions: Questions of task `graph` as token ids, shape (batch, words).
        steps: Number of distances.
        n_vocabulary: Size of the vocabulary.

    Returns:
        Truth values of shape (batch, steps, vocabulary).
    """
    n, words = questions.shape
    rows = torch.arange(n, device=questions.device)[:, None]
    sources, targets = questions[:, : words - _AFTER_EDGES : 3], questions[:, 1 : words - _AFTER_EDGES : 3]
    edges = torch.zeros(n, n_vocabulary, n_vocabulary, device=questions.device)
    edges[rows, sources, targets] = 1.0
    reached = torch.zeros(n, 1, n_vocabulary, device=questions.device)
    reached[rows[:, 0], 0, questions[:, -1]] = 1.0
    frontier, by_distance = reached, []
    for _ in range(steps):
        frontier = ((frontier @ edges > 0) & (reached == 0)).float()
        reached = reached + frontier
        by_distance.append(frontier[:, 0] > 0)
    return torch.stack(by_distance, dim=1)
