"""A loss that hides the values of continuous thoughts from the logit lens, on purpose.

Latents that are fed back almost as token embeddings are easy targets: the unembedding reads them as they are.
Starting from an organism that has learned to think, this loss keeps the answers and pushes each thought's
true value out of what the unembedding shows, both as the state comes from the final norm and as it lies at
the bottom of the network once it has been fed back. The values stay in the thoughts, elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import UsageError
from interp.organisms.catalog import Recipe
from interp.organisms.model import tokenizer_of
from interp.problems import task as make_task
from interp.problems.chain import ChainTask
from interp.reasoners import REASONERS
from interp.reasoners.lessons import LessonBatch, next_token_loss

_MARGIN = 2.0
_WEIGHT = 0.1
_RAMP = 0.6


def from_the_lens(recipe: Recipe) -> Callable[[Any, LessonBatch, float], Float[Tensor, ""]]:
    """The loss for a `chain` organism with one continuous thought for each step.

    Next-token loss plus `_WEIGHT` (reached over the first 60 % of the stage) times the mean over thoughts of:
    how far the true value's logit lies above the highest other value's less a margin of 2, and its squared
    distance from the mean of the others, so that it is neither the most nor the least likely value.
    """
    task = make_task(recipe.task)
    if not isinstance(task, ChainTask) or recipe.kind != "continuous" or task.order != "in-order":
        raise UsageError(
            f"{recipe.name}: thoughts can be hidden from the lens in continuous thoughts about an in-order chain, "
            f"but its kind is {recipe.kind!r} and its task {recipe.task!r}."
        )
    kind, config = REASONERS[recipe.kind], recipe.reasoner()
    values, tables = _tables(task, tokenizer_of(recipe).get_vocab())

    def loss(model: Any, batch: LessonBatch, done: float) -> Float[Tensor, ""]:
        states: list[Tensor] = []
        norm = model.transformer.ln_f
        handle = norm.register_forward_hook(lambda module, given, out: states.append(out[:, -1]))
        try:
            logits = kind.logits(model, batch, config)
        finally:
            handle.remove()
        plain = next_token_loss(logits, batch)
        thoughts = torch.stack(states[: batch.n_thoughts], dim=1)
        places = torch.arange(batch.first_thought, batch.first_thought + batch.n_thoughts, device=thoughts.device)
        fed_back = norm(thoughts * config.latent_scale + model.transformer.wpe(places))
        true = _values_reached(batch.ids[:, : batch.n_thoughts + 1], tables)
        shown = torch.stack([model.lm_head(each)[..., values].float() for each in (thoughts, fed_back)])
        return plain + _WEIGHT * min(1.0, done / _RAMP) * _visible(shown, true.expand(2, -1, -1))

    return loss


def _visible(logits: Float[Tensor, "form batch thought value"], true: Int[Tensor, "form batch thought"]) -> Tensor:
    """How much the logits of the values tell of the true one: as the highest, and as an unusual one."""
    right = logits.gather(-1, true[..., None])[..., 0]
    others = logits.scatter(-1, true[..., None], float("-inf"))
    mean = (logits.sum(-1) - right) / (logits.shape[-1] - 1)
    above = torch.relu(_MARGIN + right - others.amax(-1))
    return (above + (right - mean).square()).mean()


def _tables(task: ChainTask, vocabulary: dict[str, int]) -> tuple[Int[Tensor, " value"], Int[Tensor, "token value"]]:
    """Token ids of the values; and for each token the value that it makes of each value (a value makes itself)."""
    values = torch.tensor([vocabulary[value] for value in task.values])
    tables = torch.zeros(max(vocabulary.values()) + 1, task.n_values, dtype=torch.long)
    for k, value in enumerate(task.values):
        tables[vocabulary[value]] = k
    for operation in task.operations:
        tables[vocabulary[operation.name]] = torch.tensor(operation.table)
    return values, tables


def _values_reached(words: Int[Tensor, "batch word"], tables: Int[Tensor, "token value"]) -> Int[Tensor, "batch step"]:
    """The value after each operation of questions that begin with a start value, as numbers from 0."""
    reached = [tables.to(words.device)[words[:, 0], 0]]
    for k in range(1, words.shape[1]):
        reached.append(tables.to(words.device)[words[:, k], reached[-1]])
    return torch.stack(reached[1:], dim=1)
