"""The models that organisms are: small GPT-2s with ReLU, fresh or on disk."""

from __future__ import annotations

import copy
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import CotlensError
from interp.models.projection import Projection
from interp.models.tokenizers import word_tokenizer
from interp.problems import task as make_task
from interp.reasoners.registry import curriculum_of
from interp.runtime.files import explain_os_errors

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

    from interp.organisms.catalog import Recipe

KEPT = "checkpoints"  # the folder, within an organism's, of its earlier states


def tokenizer_of(recipe: Recipe) -> PreTrainedTokenizerFast:
    """The word tokenizer of a recipe: its task's words, then those of its way of thinking."""
    return word_tokenizer([*make_task(recipe.task).vocabulary(), *curriculum_of(recipe.reasoner()).words()])


def new_model(recipe: Recipe, n_vocabulary: int, seed: int) -> GPT2LMHeadModel:
    """A freshly initialised GPT-2 of the recipe's shape."""
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


def grown(model: Any, before: Recipe, after: Recipe) -> Any:
    """A model of `before` with embeddings for the words that `after` adds.

    Raises `CotlensError` when the two vocabularies do not begin alike or the models differ in shape.
    """
    old, new = (tokenizer_of(each).get_vocab() for each in (before, after))
    if before.model != after.model or any(new.get(word) != number for word, number in old.items()):
        raise CotlensError(
            f"{after.name} cannot start from {before.name}: its model must have the same shape and its vocabulary "
            "must begin with the other's. Change `initial`, `model` or `task` of the recipe."
        )
    if len(new) > len(old):
        model.resize_token_embeddings(len(new), mean_resizing=False)
        with torch.no_grad():
            model.get_input_embeddings().weight[len(old) :].normal_(0, 0.1)
    return model


def with_projection(model: Any, recipe: Recipe) -> Any:
    """The model with the projection of its thoughts, where the recipe has one, among its parameters."""
    hidden = recipe.reasoner().projection
    if hidden is not None and not hasattr(model, "thought_projection"):
        model.thought_projection = Projection(recipe.model.d_model, hidden)
    return model


def save(model: Any, recipe: Recipe, folder: Path) -> None:
    """Write a Hugging Face folder (safetensors, tokenizer) with its `reasoner.json`.

    Weights are kept in fp16, and the matrices of a recipe with `stored = "float8_e4m3fn"` in 8 bits (4 of exponent, 3
    of mantissa: arXiv 2209.05433). Transformers reads either in any dtype, in fp16 where none is asked for.
    """
    from interp.models.load import quiet

    folder.mkdir(parents=True, exist_ok=True)
    kept = copy.deepcopy(model).cpu()
    if hasattr(kept, "thought_projection"):
        kept.thought_projection.save(folder)
        del kept.thought_projection
    for each in kept.parameters():
        each.data = each.data.to(getattr(torch, recipe.stored) if each.ndim == 2 else torch.float16)
    with quiet():
        kept.save_pretrained(folder)
        # What is written there is the dtype of the files, in which nothing can be computed where that is of 8 bits.
        kept.config.dtype = "float16"
        kept.config.save_pretrained(folder)
        tokenizer_of(recipe).save_pretrained(folder)
    recipe.reasoner().save(folder)


def keep_reasoner(model: Any, recipe: Recipe, folder: Path, updates: int) -> None:
    """The reasoner as it is after so many updates, whole or not at all, in `folder`/checkpoints/update-000300."""
    kept = folder / KEPT / f"update-{updates:06d}"
    half = kept.with_name(f".{kept.name}")
    shutil.rmtree(half, ignore_errors=True)
    with explain_os_errors(f"writing {kept}"):
        save(model, recipe, half)
        shutil.rmtree(kept, ignore_errors=True)
        half.rename(kept)
