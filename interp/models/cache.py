"""Running a model over new positions with its key-value cache, by whatever name its transformers version has for it."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

# How many layers a model has, where all of them keep every position: to ask its configuration takes long.
_uniform: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
_by_key: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()


class Preallocated(DynamicLayer):
    """The keys and values of one layer in buffers for `room` positions, doubled when that is not enough.

    Hugging Face's own layer copies everything it holds for every new position.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room, self._held = room, 0
        self._buffers: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        new = key_states.shape[-2]
        first, last = self._held, self._held + new
        if not self._buffers or last > self._room:
            self._grow(key_states, value_states, last)
        keys, values = self._buffers
        keys.narrow(-2, first, new).copy_(key_states)
        values.narrow(-2, first, new).copy_(value_states)
        self._held = last
        self.keys, self.values = keys.narrow(-2, 0, last), values.narrow(-2, 0, last)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self._held

    def _grow(self, keys: Tensor, values: Tensor, needed: int) -> None:
        self._room = max(self._room, needed, 2 * self._held)
        grown = [new.new_empty(*new.shape[:-2], self._room, new.shape[-1]) for new in (keys, values)]
        for buffer, old in zip(grown, self._buffers, strict=False):
            buffer[..., : self._held, :] = old[..., : self._held, :]
        self._buffers = grown
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True


def new_cache(model: Any, room: int) -> DynamicCache:
    """An empty cache of a plain model with `room` positions in every layer that keeps all of them.

    Layers that keep less (sliding windows) or something else (states) stay what the architecture makes them.
    """
    n_layers = _uniform.get(model)
    if n_layers is None:
        cache = DynamicCache(config=model.config)
        made = cache.layers or [DynamicLayer() for _ in range(model.config.get_text_config().num_hidden_layers)]
        if all(type(layer) is DynamicLayer for layer in made):
            _uniform[model] = len(made)
        cache.layers = [Preallocated(room) if type(layer) is DynamicLayer else layer for layer in made]
        return cache
    cache = DynamicCache()
    cache.layers = [Preallocated(room) for _ in range(n_layers)]
    return cache


def masks_by_key(model: Any) -> bool:
    """Whether a mask of batch x 1 x 1 x keys does the same for one new position as the usual one of batch x positions,
    and none at all where every position is seen.

    It is handed through to attention as it is. Of the usual one Hugging Face asks first whether anything is masked at
    all, in every pass, for which a GPU has to be waited for. Tried once for each plain model, on a few numbers; never
    where some layers keep less than others, for which one mask cannot stand.
    """
    found = _by_key.get(model)
    if found is None:
        found = _by_key[model] = _same_by_key(model)
    return found


@torch.inference_mode()
def _same_by_key(model: Any) -> bool:
    if not all(type(layer) is Preallocated for layer in new_cache(model, 8).layers):
        return False
    table = model.get_input_embeddings().weight
    embeds = table[torch.arange(8, device=table.device).view(2, 4) * 7919 % len(table)]
    every = torch.ones(2, 4, dtype=torch.bool, device=table.device)
    some = every.clone()
    some[0, 0] = False

    def newest(seen: Tensor, given: Tensor | None) -> Tensor:
        places = (seen.cumsum(dim=1) - 1).clamp(min=0)
        before = {"inputs_embeds": embeds[:, :3], "attention_mask": seen[:, :3], "position_ids": places[:, :3]}
        _, cache = run_cached(model, new_cache(model, 8), **before)
        out, _ = run_cached(model, cache, inputs_embeds=embeds[:, 3:], attention_mask=given, position_ids=places[:, 3:])
        return out.last_hidden_state

    try:
        by_key = torch.equal(newest(some, some), newest(some, some[:, None, None]))
        return by_key and torch.equal(newest(every, every), newest(every, None))
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        return False


def run_cached(base: Any, cache: Any, **inputs: Any) -> tuple[Any, Any]:
    """The output of `base` over `inputs`, and the cache that then holds them; `cache` is None at the beginning.

    transformers 5.24 calls the argument `cache`; before, it was `past_key_values`.
    """
    out = base(**inputs, **{_name(type(base).forward): cache}, use_cache=True)
    return out, out["cache" if "cache" in list(out.keys()) else "past_key_values"]


@functools.cache
def _name(forward: Callable[..., Any]) -> str:
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"
