"""Depth recurrence: a block of layers that is run again and again (Geiping et al., arXiv 2502.05171, section 3).

The stored model is a GPT-2 of prelude, core and coda layers. `unroll` turns it into a deeper GPT-2 that repeats the
core. The repeated layers are separate modules, each with its own address and key-value cache, that share parameters.
Unlike the paper's model there is no input injection: the core reads only its own previous output.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import UsageError, checked_count
from interp.models.address import Address

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

_STORED = "cotlens_stored_model"


def unroll(model: GPT2LMHeadModel, first: int, last: int, iterations: int) -> GPT2LMHeadModel:
    """Return a GPT-2 that runs layers `first` to `last` - 1 of `model` `iterations` times.

    Both models share parameters, so training or moving one changes the other.

    Raises:
        UsageError: `model` lacks these layers.
    """
    checked_count("iterations", iterations)
    n_layers = model.config.n_layer
    if not 0 <= first < last <= n_layers:
        raise UsageError(
            f"expected the iterated block inside layers 0 to {n_layers} (first, last + 1), got ({first}, {last})."
        )
    order = layer_order(n_layers, first, last, iterations)
    config: Any = copy.deepcopy(model.config)
    config.n_layer = len(order)
    with torch.device("meta"):
        deep = type(model)(config)
    _share(deep.transformer.wte, model.transformer.wte)
    _share(deep.transformer.wpe, model.transformer.wpe)
    _share(deep.transformer.ln_f, model.transformer.ln_f)
    _share(deep.lm_head, model.lm_head)
    for block, stored in zip(deep.transformer.h, order, strict=True):
        _share(block, model.transformer.h[stored])
    object.__setattr__(deep, _STORED, model)  # not as a submodule, which would add it to the state dict
    return deep.train(model.training)


def stored_model(deep: Any) -> GPT2LMHeadModel:
    """Return the model that `deep` was unrolled from. Raises `UsageError` where there is none."""
    stored = vars(deep).get(_STORED)
    if stored is None:
        raise UsageError("expected a model made by `unroll`, got another; it has no stored model.")
    return stored


def layer_order(n_layers: int, first: int, last: int, iterations: int) -> list[int]:
    """Return the stored layer that each layer of the unrolled model repeats."""
    return [*range(first), *list(range(first, last)) * iterations, *range(last, n_layers)]


def iteration_of(address: Address | str, first: int, last: int, iterations: int) -> int | None:
    """Return the iteration, from 1, that an address of the unrolled model belongs to.

    It is 0 in and before the prelude, and None from the coda on.
    """
    address = Address(address) if isinstance(address, str) else address
    if address.layer is None:
        return None if address.norm == "post" or address.name.startswith("unembed") else 0
    if address.layer < first:
        return 0
    iteration = (address.layer - first) // (last - first)
    return iteration + 1 if iteration < iterations else None


def state_after(iteration: int, first: int, last: int) -> Address:
    """Return the address of the residual stream after `iteration` iterations; 0 is the input of the core."""
    layers = first + iteration * (last - first)
    return Address(f"blocks.{layers - 1}.hook_out" if layers else "blocks.0.hook_in")


def states(
    model: GPT2LMHeadModel, ids: Int[Tensor, "batch pos"], first: int, last: int, iterations: int
) -> list[Float[Tensor, "batch pos d_model"]]:
    """Return the residual stream after 0 to `iterations` iterations, computed with the stored model."""
    base: Any = model.transformer
    positions = torch.arange(ids.shape[1], device=ids.device)
    hidden = base.wte(ids) + base.wpe(positions)
    mask = _causal(ids.shape[1], hidden)
    for block in base.h[:first]:
        hidden = block(hidden, attention_mask=mask)
    per_iteration = [hidden]
    for _ in range(iterations):
        for block in base.h[first:last]:
            hidden = block(hidden, attention_mask=mask)
        per_iteration.append(hidden)
    return per_iteration


def read_out(
    model: GPT2LMHeadModel, state: Float[Tensor, "batch pos d_model"], last: int
) -> Float[Tensor, "batch pos vocab"]:
    """Return the logits of a state of the core, through coda, final norm and unembedding."""
    base: Any = model.transformer
    mask = _causal(state.shape[1], state)
    for block in base.h[last:]:
        state = block(state, attention_mask=mask)
    return model.lm_head(base.ln_f(state))


def _causal(n: int, like: Tensor) -> Float[Tensor, "1 1 query key"]:
    lowest = torch.finfo(like.dtype).min
    return torch.full((n, n), lowest, dtype=like.dtype, device=like.device).triu(1)[None, None]


def _share(module: torch.nn.Module, source: torch.nn.Module) -> None:
    """Make `module` share all parameters and buffers of `source`."""
    for name, part in module.named_modules():
        same_part: Any = source.get_submodule(name)
        for key in list(part._parameters):
            part._parameters[key] = same_part._parameters[key]
        for key in list(part._buffers):
            part._buffers[key] = same_part._buffers[key]
