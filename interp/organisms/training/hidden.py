"""A loss that hides the values of continuous thoughts from the logit lens, on purpose.

Latents that are fed back almost as token embeddings are easy targets: the unembedding reads them as they are.
Starting from an organism that has learned to think, this loss keeps the answers and pushes each thought's
true value out of what the unembedding shows: where the value is worked out, at the output of every block, and
where it has been fed back, at the bottom of the network and above. The values stay in the thoughts, elsewhere.
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


def from_the_lens(recipe: Recipe) -> Callable[[Any, LessonBatch, float], Float[Tensor, ""]]:
    """The loss for a `chain` organism with one continuous thought for each step.

    Next-token loss plus `_WEIGHT` (reached over the first 60 % of the stage) times what the lens shows of the
    true values: of the next one at every position that works it out, and of a thought's own at that thought,
    each a mean over layers and thoughts. What it shows is how far the true value's logit lies above the highest
    other value's less a margin of 2, plus its squared distance from the mean of the others, so that the true
    value is neither the most nor the least likely one.
    """
    task = make_task(recipe.task)
    if not isinstance(task, ChainTask) or recipe.kind != "continuous" or task.order != "in-order":
        raise UsageError(
            f"{recipe.name}: thoughts can be hidden from the lens in continuous thoughts about an in-order chain, "
            f"but its kind is {recipe.kind!r} and its task {recipe.task!r}."
        )
    config = recipe.reasoner()
    curriculum = curriculum_of(config)
    values, tables = _tables(task, tokenizer_of(recipe).get_vocab())

    def loss(model: Any, batch: LessonBatch, done: float) -> Float[Tensor, ""]:
        base, n = model.transformer, batch.n_thoughts
        with _watched([*base.h, base.ln_f]) as seen:
            logits = curriculum.logits(model, batch)
        plain = next_token_loss(logits, batch)
        # One call for the question and one for each thought; the last one, for the answer, is left alone.
        blocks = torch.stack([torch.stack(layer[: n + 1]) for layer in seen[:-1]])
        states = torch.stack(seen[-1][:n])
        places = torch.arange(batch.first_thought, batch.first_thought + n, device=states.device)
        fed_back = states * config.latent_scale + base.wpe(places)[:, None]
        worked_out, own = blocks[:, :n], torch.cat([fed_back[None], blocks[:, 1:]])
        true = _values_reached(batch.ids[:, : n + 1], tables).T
        shown = sum(
            _visible(model.lm_head(base.ln_f(each))[..., values].float(), true.expand(len(each), -1, -1))
            for each in (worked_out, own)
        )
        return plain + _WEIGHT * min(1.0, done / _RAMP) * shown

    return loss


@contextlib.contextmanager
def _watched(modules: Sequence[Any]) -> Iterator[list[list[Tensor]]]:
    """For each module what it puts out at the last position, call after call."""
    seen: list[list[Tensor]] = [[] for _ in modules]

    def keep(k: int) -> Callable[..., None]:
        return lambda module, given, out: seen[k].append((out[0] if isinstance(out, tuple) else out)[:, -1])

    handles = [module.register_forward_hook(keep(k)) for k, module in enumerate(modules)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _visible(logits: Float[Tensor, "layer thought batch value"], true: Int[Tensor, "layer thought batch"]) -> Tensor:
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
