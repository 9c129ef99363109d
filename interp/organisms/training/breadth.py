"""A loss that makes the thoughts of task `graph` hold every node that can be reached by then, not only the path.

Coconut's curriculum asks each thought for the path alone, and the thoughts commit to it. Here thought k is
asked for a random node at distance k from the root instead, whether or not it lies on the path (the breadth
supervision of arXiv 2505.12514, section 5). Its expectation over the draw is taken, the cross-entropy
with every such node alike, so the best thought is the superposition of the whole frontier. Only the answer
is still asked for by name.
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
    """The loss of a recipe: that of the answer, plus the mean cross-entropy of the thoughts with their frontiers.

    Raises `UsageError` for another task than `graph`, whose questions it has to take apart.
    """
    if make_task(recipe.task).name != "graph":
        raise UsageError(f"the breadth loss is for task graph, but recipe {recipe.name} is of {recipe.task!r}.")
    curriculum = curriculum_of(recipe.reasoner())

    def loss(model: Any, batch: LessonBatch, done: float) -> Tensor:
        logits = curriculum.logits(model, batch)
        named = next_token_loss(logits, batch)
        if not batch.n_thoughts:
            return named
        # The state that is fed back as thought k is that of the position before it.
        before = logits[:, batch.first_thought - 1 : batch.first_thought - 1 + batch.n_thoughts].float()
        wanted = frontiers(batch.ids[:, : batch.first_thought - 1], batch.n_thoughts, logits.shape[-1]).float()
        share = wanted / wanted.sum(-1, keepdim=True)
        return named - (share * torch.log_softmax(before, dim=-1)).sum(-1).mean()

    return loss


def frontiers(
    questions: Int[Tensor, "batch words"], steps: int, n_vocabulary: int
) -> Bool[Tensor, "batch steps vocab"]:
    """For each question of task `graph`, as token ids, which nodes lie at distance 1, 2, ..., `steps` from its root."""
    n, words = questions.shape
    rows = torch.arange(n, device=questions.device)[:, None]
    sources, targets = questions[:, : words - _AFTER_EDGES : 3], questions[:, 1 : words - _AFTER_EDGES : 3]
    edges = torch.zeros(n, n_vocabulary, n_vocabulary, device=questions.device)
    edges[rows, sources, targets] = 1.0
    reached = torch.zeros(n, 1, n_vocabulary, device=questions.device)
    reached[rows[:, 0], 0, questions[:, -1]] = 1.0
    frontier, found = reached, []
    for _ in range(steps):
        frontier = ((frontier @ edges > 0) & (reached == 0)).float()
        reached = reached + frontier
        found.append(frontier[:, 0] > 0)
    return torch.stack(found, dim=1)
