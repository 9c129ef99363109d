"""A loss that hides the values of continuous thoughts from the logit lens.

Latents that are fed back close to token embeddings are easy to read with the unembedding. Starting from an organism
that has learned to think, this loss keeps the answers and hides each thought's true value from the unembedding: where
the value is computed, at the output of every block, and where it has been fed back, at the first block's input and
above. The values stay in the thoughts, in other directions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import UsageError
from interp.organisms.catalog import Recipe
from interp.organisms.training.model import tokenizer_of
from interp.problems import task as make_task
from interp.problems.chain import ChainTask
from interp.reasoners.curriculum import LessonBatch, next_token_loss
from interp.reasoners.registry import curriculum_of

_MARGIN = 2.0
_WEIGHT = 0.1
_RAMP = 0.6


def lens_hiding_loss(recipe: Recipe) -> Callable[[Any, LessonBatch, float], Float[Tensor, ""]]:
    """Return the loss for a `chain` organism with one continuous thought for each step.

    The next-token loss plus `_WEIGHT` (reached over the first 60 % of the stage) times the visibility of the true
    values: of the next value at every position that computes it, and of a thought's own value at that thought, each a
    mean over layers and thoughts. Visibility is how far the true value's logit lies above the highest other value's
    minus a margin of 2, plus its squared distance from the mean of the others. So the true value becomes neither the
    most nor the least likely one.

    Raises:
        UsageError: The recipe is not for continuous thoughts about an in-order chain.
    """
    task = make_task(recipe.task)
    if not isinstance(task, ChainTask) or recipe.kind != "continuous" or task.order != "in-order":
        raise UsageError(
            f"expected kind 'continuous' and an in-order chain for recipe {recipe.name}, got kind {recipe.kind!r} and "
            f"task {recipe.task!r}."
        )
    config = recipe.reasoner()
    curriculum = curriculum_of(config)
    values, tables = _tables(task, tokenizer_of(recipe).get_vocab())

    def loss(model: Any, batch: LessonBatch, done: float) -> Float[Tensor, ""]:
        base, n = model.transformer, batch.n_thoughts
        with _last_position_outputs([*base.h, base.ln_f]) as outputs:
            logits = curriculum.logits(model, batch)
        answer_loss = next_token_loss(logits, batch)
        # One call for the question and one for each thought; the last call, for the answer, is not used.
        blocks = torch.stack([torch.stack(layer[: n + 1]) for layer in outputs[:-1]])
        states = torch.stack(outputs[-1][:n])
        positions = torch.arange(batch.first_thought, batch.first_thought + n, device=states.device)
        fed_back = states * config.latent_scale + base.wpe(positions)[:, None]
        computed, own = blocks[:, :n], torch.cat([fed_back[None], blocks[:, 1:]])
        true = _values_reached(batch.ids[:, : n + 1], tables).T
        visible = sum(
            _visibility(model.lm_head(base.ln_f(layers))[..., values].float(), true.expand(len(layers), -1, -1))
            for layers in (computed, own)
        )
        return answer_loss + _WEIGHT * min(1.0, done / _RAMP) * visible

    return loss


@contextlib.contextmanager
def _last_position_outputs(modules: Sequence[Any]) -> Iterator[list[list[Tensor]]]:
    """Collect for each module its output at the last position, call after call."""
    outputs: list[list[Tensor]] = [[] for _ in modules]

    def keep(k: int) -> Callable[..., None]:
        return lambda module, inputs, out: outputs[k].append((out[0] if isinstance(out, tuple) else out)[:, -1])

    handles = [module.register_forward_hook(keep(k)) for k, module in enumerate(modules)]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _visibility(logits: Float[Tensor, "layer thought batch value"], true: Int[Tensor, "layer thought batch"]) -> Tensor:
    """Return how visible the true value is among the values' logits: as the highest, and as an unusual one."""
    right = logits.gather(-1, true[..., None])[..., 0]
    others = logits.scatter(-1, true[..., None], float("-inf"))
    mean = (logits.sum(-1) - right) / (logits.shape[-1] - 1)
    above = torch.relu(_MARGIN + right - others.amax(-1))
    return (above + (right - mean).square()).mean()


def _tables(task: ChainTask, vocabulary: dict[str, int]) -> tuple[Int[Tensor, " value"], Int[Tensor, "token value"]]:
    """Return the token ids of the values, and for each token the result that it gives for each value.

    An operation's token gives the operation's result; a value's token gives that value.
    """
    values = torch.tensor([vocabulary[value] for value in task.values])
    tables = torch.zeros(max(vocabulary.values()) + 1, task.n_values, dtype=torch.long)
    for k, value in enumerate(task.values):
        tables[vocabulary[value]] = k
    for operation in task.operations:
        tables[vocabulary[operation.name]] = torch.tensor(operation.table)
    return values, tables


def _values_reached(words: Int[Tensor, "batch word"], tables: Int[Tensor, "token value"]) -> Int[Tensor, "batch step"]:
    """Return the value after each operation of questions that begin with a start value, as numbers from 0."""
    reached = [tables.to(words.device)[words[:, 0], 0]]
    for k in range(1, words.shape[1]):
        reached.append(tables.to(words.device)[words[:, k], reached[-1]])
    return torch.stack(reached[1:], dim=1)
