"""Models of organisms: small GPT-2s with ReLU, fresh or on disk."""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import CotlensError
from interp.models.projection import Projection
from interp.models.tokenizers import word_tokenizer
from interp.organisms.training.pretrained import base_tokenizer, new_adapters, save_adapters
from interp.problems import task as make_task
from interp.reasoners.registry import curriculum_of
from interp.runtime.files import explain_os_errors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from interp.organisms.catalog import Recipe

CHECKPOINTS = "checkpoints"  # folder of an organism's earlier states, within its own


@contextmanager
def first_blocks(model: Any, n_blocks: int) -> Iterator[None]:
    """Compute a GPT-2 model's logits after its first blocks, with its final norm and unembedding."""
    whole = model.transformer.h
    model.transformer.h = whole[:n_blocks]
    try:
        yield
    finally:
        model.transformer.h = whole


def tokenizer_of(recipe: Recipe) -> PreTrainedTokenizerFast:
    """Return a recipe's word tokenizer, of its task's words and then those of its kind of reasoner, or its base's."""
    if recipe.base is not None:
        return base_tokenizer(recipe.base)
    return word_tokenizer([*make_task(recipe.task).vocabulary(), *curriculum_of(recipe.reasoner()).words()])


def new_model(recipe: Recipe, n_vocabulary: int, seed: int) -> Any:
    """Return a freshly initialised GPT-2 of the recipe's shape, or the recipe's base with fresh adapters."""
    if recipe.base is not None:
        return new_adapters(recipe, seed)
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    shape = recipe.model
    config: Any = GPT2Config(  # type: ignore[call-arg]
        vocab_size=n_vocabulary,
        n_positions=shape.n_positions,
        n_embd=shape.d_model,
        n_layer=shape.n_layers,
        n_head=shape.n_heads,
        activation_function="relu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=3,
        attn_implementation="eager",
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        model.transformer.wte.weight.normal_(0, 0.1)
        model.transformer.wpe.weight.copy_(_sinusoids(shape.n_positions, shape.d_model))
    if recipe.initialise != "plain":
        from interp.organisms.training.initial import induction_heads, lookback_heads

        induction_heads(model)
        if recipe.initialise == "lookback":
            lookback_heads(model)
    return model


def _sinusoids(n_positions: int, width: int, std: float = 0.1) -> Float[Tensor, "pos d_model"]:
    position = torch.arange(n_positions).float()[:, None]
    rate = torch.exp(torch.arange(0, width, 2).float() * (-math.log(1000.0) / width))
    table = torch.zeros(n_positions, width)
    table[:, 0::2], table[:, 1::2] = torch.sin(position * rate), torch.cos(position * rate)
    return table * (std / table.std())


def with_added_words(model: Any, before: Recipe, after: Recipe) -> Any:
    """Return a model with embeddings for the words that a later recipe adds.

    Args:
        model: A model of recipe `before`; changed in place.
        before: Recipe of the model.
        after: Recipe that starts from it.

    Raises:
        CotlensError: The vocabulary of `after` does not begin with that of `before`, or the shapes differ.
    """
    if before.base is not None or after.base is not None:
        return model
    old, new = (tokenizer_of(recipe).get_vocab() for recipe in (before, after))
    if before.model != after.model or any(new.get(word) != number for word, number in old.items()):
        raise CotlensError(
            f"expected {after.name} to have the shape of {before.name} and a vocabulary that begins with its words, got "
            "another shape or vocabulary; change `initial`, `model` or `task` of the recipe."
        )
    if len(new) > len(old):
        model.resize_token_embeddings(len(new), mean_resizing=False)
        with torch.no_grad():
            model.get_input_embeddings().weight[len(old) :].normal_(0, 0.1)
    return model


def with_projection(model: Any, recipe: Recipe) -> Any:
    """Return the model with the projection of its thoughts among its parameters, where the recipe has one."""
    hidden = recipe.reasoner().projection
    if hidden is not None and not hasattr(model, "thought_projection"):
        model.thought_projection = Projection(recipe.model.d_model, hidden)
    return model


def save(model: Any, recipe: Recipe, folder: Path) -> None:
    """Write a Hugging Face folder (safetensors, tokenizer) with its `reasoner.json`.

    Weights are stored in fp16, and the matrices of a recipe with `stored = "float8_e4m3fn"` in 8 bits (4 of exponent, 3
    of mantissa: arXiv 2209.05433). Transformers reads both in any dtype, by default in fp16.
    """
    from interp.models.wrapping import quiet

    if recipe.base is not None:
        return save_adapters(model, recipe, folder)
    folder.mkdir(parents=True, exist_ok=True)
    stored = copy.deepcopy(model).cpu()
    if hasattr(stored, "thought_projection"):
        stored.thought_projection.save(folder)
        del stored.thought_projection
    for weights in stored.parameters():
        weights.data = weights.data.to(getattr(torch, recipe.stored) if weights.ndim == 2 else torch.float16)
    with quiet():
        stored.save_pretrained(folder)
        # `save_pretrained` writes the dtype of the files into the config; nothing can be computed in 8 bits.
        stored.config.dtype = "float16"
        stored.config.save_pretrained(folder)
        tokenizer_of(recipe).save_pretrained(folder)
    recipe.reasoner().save(folder)


def save_checkpoint(model: Any, recipe: Recipe, folder: Path, updates: int) -> None:
    """Write the reasoner after `updates` updates to `folder`/checkpoints/update-000300, atomically."""
    target = folder / CHECKPOINTS / f"update-{updates:06d}"
    unfinished = target.with_name(f".{target.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    with explain_os_errors(f"writing {target}"):
        save(model, recipe, unfinished)
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)
