"""Running a model over new positions with a key-value cache, with every version of transformers."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Container
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from interp.models.cache_layers import InputCache, PreallocatedLayer

# Number of layers of a model whose layers all keep every position. Building a cache from its configuration is slow.
_uniform_layers: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
_accepts_key_mask: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
_gaps_matter: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
_continues: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
_hides_masked: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
_shares_prefixes: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()


def new_cache(model: Any, capacity: int, *, keeps_all: bool = False) -> DynamicCache:
    """Return an empty cache of a Hugging Face model with room for `capacity` positions.

    Layers that keep fewer positions (sliding windows) or something else (states) stay those of the architecture.

    Args:
        model: The Hugging Face model.
        capacity: Number of positions that fit before a buffer grows.
        keeps_all: Keep every position in layers with sliding windows too. Their masks hide what is out of the window.

    Returns:
        An empty cache.
    """
    n_layers = _uniform_layers.get(model)
    if n_layers is None:
        cache = DynamicCache(config=model.config)
        layers = cache.layers or [DynamicLayer() for _ in range(model.config.get_text_config().num_hidden_layers)]
        if all(type(layer) is DynamicLayer for layer in layers):
            _uniform_layers[model] = len(layers)
        replaced = (DynamicLayer, DynamicSlidingWindowLayer) if keeps_all else (DynamicLayer,)
        cache.layers = [PreallocatedLayer(capacity) if type(layer) in replaced else layer for layer in layers]
        return cache
    cache = DynamicCache()
    cache.layers = [PreallocatedLayer(capacity) for _ in range(n_layers)]
    return cache


def cache_copies(cache: DynamicCache, n: int, capacity: int) -> DynamicCache:
    """Return a cache of `n` rows that each go on where one text ended.

    Args:
        cache: The cache of one text, of one row, whose layers all keep every position. It stays as it is.
        n: Number of rows.
        capacity: Number of positions that fit before a buffer grows, those of the text included.
    """
    copied = DynamicCache()
    for layer in cache.layers:
        assert isinstance(layer, PreallocatedLayer)
        copied.layers.append(layer.copies(n, capacity))
    return copied


def shares_prefixes(model: Any) -> bool:
    """Return whether a model says the same of texts whose common beginning was read once and copied for each.

    It is measured once for each model, and is False where the model keeps something else than keys and values.
    """
    shares = _shares_prefixes.get(model)
    if shares is None:
        shares = _shares_prefixes[model] = keeps_only_positions(model) and _copied_prefix_gives_same_output(model)
    return shares


@torch.inference_mode()
def _copied_prefix_gives_same_output(model: Any) -> bool:
    table = model.get_input_embeddings().weight
    ids = torch.tensor([[0, 1, 2, 3, 4], [0, 1, 2, 5, 6]], device=table.device) * 7919 % len(table)
    positions = torch.arange(5, device=table.device)[None]

    def run(cache: DynamicCache, rows: slice, columns: slice, seen: int) -> tuple[Tensor, Any]:
        n = len(ids[rows])
        out, cache = run_cached(
            model,
            cache,
            inputs_embeds=table[ids[rows, columns]],
            attention_mask=torch.ones(n, seen, dtype=torch.long, device=table.device),
            position_ids=positions[:, columns].expand(n, -1),
        )
        return out.last_hidden_state.float(), cache

    try:
        whole, _ = run(new_cache(model, 8, keeps_all=True), slice(None), slice(None), 5)
        _, first = run(new_cache(model, 8, keeps_all=True), slice(1), slice(3), 3)
        rest, _ = run(cache_copies(first, 2, 8), slice(None), slice(3, None), 5)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError):
        return False
    tolerance = 1e-4 if table.dtype == torch.float32 else 5e-2
    scale = whole.abs().max().clamp(min=1.0)
    return bool(((rest - whole[:, 3:]).abs().max() <= tolerance * scale).item())


def uses_cache(model: Any) -> bool:
    """Return whether a model reads new positions together with those of its cache.

    The wrapped MPT forgets them, and RWKV gives no cache that transformers' classes know. `InputCache` runs such models.
    It is measured once for each model.
    """
    if keeps_only_positions(model):
        return shares_prefixes(model)
    continues = _continues.get(model)
    if continues is None:
        continues = _continues[model] = _state_gives_same_output(model)
    return continues


@torch.inference_mode()
def _state_gives_same_output(model: Any) -> bool:
    table = model.get_input_embeddings().weight
    embeds = table[torch.arange(5, device=table.device)[None] * 7919 % len(table)]
    positions = torch.arange(5, device=table.device)[None]
    try:
        whole = model(inputs_embeds=embeds, position_ids=positions, use_cache=False).last_hidden_state[:, 3:].float()
        cache = new_cache(model, 8)
        for columns in (slice(3), slice(3, 5)):
            out, cache = run_cached(model, cache, inputs_embeds=embeds[:, columns], position_ids=positions[:, columns])
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError):
        return False
    return _agree(out.last_hidden_state.float(), whole, table.dtype)


def accepts_key_mask(model: Any) -> bool:
    """Return whether a model takes masks of shape (batch, 1, 1, keys) for one new position.

    Such a mask goes to attention unchanged. For the usual mask, of shape (batch, positions), Hugging Face checks in
    every pass whether anything is masked, which waits for the GPU. The answer also covers passing no mask where
    nothing is masked. It is measured once for each model, and is False where layers keep different positions.
    """
    accepts = _accepts_key_mask.get(model)
    if accepts is None:
        accepts = _accepts_key_mask[model] = _key_mask_gives_same_output(model)
    return accepts


@torch.inference_mode()
def _key_mask_gives_same_output(model: Any) -> bool:
    if not all(type(layer) is PreallocatedLayer for layer in new_cache(model, 8).layers):
        return False
    table = model.get_input_embeddings().weight
    embeds = table[torch.arange(8, device=table.device).view(2, 4) * 7919 % len(table)]
    no_mask = torch.ones(2, 4, dtype=torch.bool, device=table.device)
    first_masked = no_mask.clone()
    first_masked[0, 0] = False

    def last_output(attended: Tensor, mask: Tensor | None) -> Tensor:
        positions = (attended.cumsum(dim=1) - 1).clamp(min=0)
        before = {"inputs_embeds": embeds[:, :3], "attention_mask": attended[:, :3], "position_ids": positions[:, :3]}
        _, cache = run_cached(model, new_cache(model, 8), **before)
        out, _ = run_cached(
            model, cache, inputs_embeds=embeds[:, 3:], attention_mask=mask, position_ids=positions[:, 3:]
        )
        return out.last_hidden_state

    try:
        same_with_mask = torch.equal(
            last_output(first_masked, first_masked), last_output(first_masked, first_masked[:, None, None])
        )
        return same_with_mask and torch.equal(last_output(no_mask, no_mask), last_output(no_mask, None))
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError):
        return False


def keeps_only_positions(model: Any) -> bool:
    """Return whether all that a model keeps of earlier positions is keys and values, one of each for a position.

    Where it is not (recurrent states, indexers), a masked position still changes what is kept.
    """
    kinds = {type(layer) for layer in new_cache(model, 1, keeps_all=True).layers}
    return kinds == {PreallocatedLayer} and not getattr(model, "_is_stateful", False)


def hides_masked(model: Any) -> bool:
    """Return whether masked positions change nothing of what a model says of the others.

    It is measured once for each model. RWKV takes no mask and keeps no cache that would show its states.
    """
    hides = _hides_masked.get(model)
    if hides is None:
        hides = _hides_masked[model] = _padding_gives_same_output(model)
    return hides


@torch.inference_mode()
def _padding_gives_same_output(model: Any) -> bool:
    table = model.get_input_embeddings().weight
    embeds = table[torch.arange(5, device=table.device)[None] * 7919 % len(table)]
    real = torch.tensor([[False, False, True, True, True]], device=table.device)
    positions = torch.tensor([[0, 0, 0, 1, 2]], device=table.device)

    def states(columns: slice) -> Tensor:
        inputs = {"inputs_embeds": embeds[:, columns], "attention_mask": real[:, columns]}
        out = model(**inputs, position_ids=positions[:, columns], use_cache=False)
        return out.last_hidden_state[:, -3:].float()

    return _agree(states(slice(None)), states(slice(2, None)), table.dtype)


def _agree(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Return whether states of a model that computes in `dtype` are equal but for rounding."""
    tolerance = 1e-3 if dtype == torch.float32 else 5e-2
    return bool(((found - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1.0)).item())


def gaps_matter(model: Any) -> bool:
    """Return whether masked columns between two positions change what a model says at the later one.

    They do where attention reaches back a number of columns (sliding windows, chunks) or depends on how many columns
    lie between (ALiBi). Windows are read from the configuration. The rest is measured once for each model.
    """
    matter = _gaps_matter.get(model)
    if matter is None:
        matter = _gaps_matter[model] = _counts_columns(model.config) or _gap_changes_output(model)
    return matter


def _counts_columns(config: Any) -> bool:
    fields = config.get_text_config().to_dict()
    kinds = {kind for name in ("layer_types", "attention_layers") for kind in fields.get(name) or ()}
    widths = [
        value
        for name, value in fields.items()
        if ("window" in name or "attention_chunk" in name) and not name.startswith("max_") and type(value) is int
    ]
    return bool(kinds - {"full_attention", "global", "attention"}) or any(width > 0 for width in widths)


@torch.inference_mode()
def _gap_changes_output(model: Any) -> bool:
    table = model.get_input_embeddings().weight
    embeds = table[torch.arange(4, device=table.device)[None] * 7919 % len(table)]
    spread = torch.cat([embeds[:, :2], embeds[:, :1], embeds[:, :1], embeds[:, 2:]], dim=1)
    real = torch.tensor([[True, True, False, False, True, True]], device=table.device)
    positions = torch.tensor([[0, 1, 0, 0, 2, 3]], device=table.device)

    def last_output(inputs: Tensor, mask: Tensor, position_ids: Tensor) -> Tensor:
        cache = new_cache(model, 8, keeps_all=True)
        out, _ = run_cached(model, cache, inputs_embeds=inputs, attention_mask=mask, position_ids=position_ids)
        return out.last_hidden_state[:, -1].float()

    whole = last_output(embeds, real[:, real[0]], positions[:, real[0]])
    return not torch.allclose(last_output(spread, real, positions), whole, rtol=1e-2, atol=1e-2)


def close_gaps(cache: DynamicCache, gaps: Int[Tensor, " batch"]) -> Int[Tensor, "batch columns"]:
    """Move the last columns of each row to its front, so that what is before them ends where the next column begins.

    Args:
        cache: A cache whose layers all keep every position.
        gaps: How many columns at the end of each row are masked.

    Returns:
        Where each column of each row comes from.
    """
    length = cache.get_seq_length()
    columns = (torch.arange(length, device=gaps.device) - gaps[:, None]) % length
    for layer in cache.layers:
        assert isinstance(layer, PreallocatedLayer)
        layer.gather_columns(columns)
    return columns


def reset_rotary(model: Any) -> None:
    """Forget the longest input so far where rotary frequencies grow with it, so that no text depends on earlier ones."""
    for module in model.modules():
        original, longest = (getattr(module, name, None) for name in ("original_inv_freq", "original_max_seq_len"))
        if isinstance(original, Tensor) and isinstance(longest, int) and hasattr(module, "max_seq_len_cached"):
            module.inv_freq = original.to(module.inv_freq.device, copy=True)  # longrope writes into it
            module.max_seq_len_cached = longest


def rotary_limit(config: Any) -> int | None:
    """Return the length from which on rotary frequencies depend on the longest row of a batch; None where none does."""
    return _rotary_length(config, ("dynamic", "longrope"))


def rotary_switch(config: Any) -> int | None:
    """Return the length beyond which a model takes other rotary frequencies at every position; None where none does.

    Keys of earlier positions are wrong from there on, so transformers' `generate` reads the whole text again there.
    """
    return _rotary_length(config, ("longrope",))


def _rotary_length(config: Any, kinds: Container[str]) -> int | None:
    fields = config.get_text_config().to_dict()
    rope = fields.get("rope_parameters") or fields.get("rope_scaling") or {}
    longest = fields.get("max_position_embeddings")
    limits = [
        part.get("original_max_position_embeddings") or fields.get("original_max_position_embeddings") or longest
        for part in (rope, *rope.values())
        if isinstance(part, dict) and part.get("rope_type", part.get("type")) in kinds
    ]
    return min((limit for limit in limits if limit), default=0 if limits else None)


def run_cached(base: Any, cache: Any, **inputs: Any) -> tuple[Any, Any]:
    """Run a model over new positions.

    transformers 5.24 calls the cache argument `cache`; earlier versions call it `past_key_values`.

    Args:
        base: A model without its unembedding.
        cache: The cache of the positions before; None for the first ones. With an `InputCache` the model reads all
            positions again, and the mask has to be over all of them.
        **inputs: Arguments of the model's forward pass.

    Returns:
        The output at the new positions, and the cache with them.
    """
    if isinstance(cache, InputCache):
        new = inputs["inputs_embeds"].shape[1]
        out = base(**cache.extend(inputs), use_cache=False)
        out.last_hidden_state = out.last_hidden_state[:, -new:]
        return out, cache
    out = base(**inputs, **{_cache_argument(type(base).forward): cache}, use_cache=True)
    return out, out["cache" if "cache" in list(out.keys()) else "past_key_values"]


@functools.cache
def _cache_argument(forward: Callable[..., Any]) -> str:
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"
