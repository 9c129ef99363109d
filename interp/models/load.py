"""Wrapping a Hugging Face model with TransformerLens, and telling models apart by their weights."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import warnings
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from interp.models.hook_points import remember

if TYPE_CHECKING:
    import torch
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedTokenizerBase


def wrap(model: Any, tokenizer: PreTrainedTokenizerBase) -> TransformerBridge:
    """Wrap a Hugging Face model in place; its own modules then carry the hooks.

    A plain one on the same tensors is kept beside it (`interp.models.fast_model`).
    """
    with quiet():
        from transformer_lens.model_bridge import TransformerBridge

        from interp.models.fast_model import attach
        from interp.models.fast_modules import twin_of

        plain = twin_of(model)
        bridge = TransformerBridge.boot_transformers("local/model", hf_model=model, tokenizer=tokenizer)
        attach(bridge, plain)
    for module in bridge.modules():
        if hasattr(module, "_update_kv_cache"):
            module.register_forward_pre_hook(_cache_by_its_old_name, with_kwargs=True)
        for name in ("hook_rot_q", "hook_rot_k"):
            if hasattr(module, name):
                getattr(module, name).register_forward_hook(partial(_in_dtype, model.dtype))
    remember(bridge)
    bridge.eval().requires_grad_(False)
    return bridge


def _cache_by_its_old_name(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Transformers 5.24 hands attention its key-value cache as `cache`. TransformerLens 3.9 looks for
    `past_key_values` only, and without it each new position silently attends to itself alone."""
    if kwargs.get("cache") is not None:
        kwargs.setdefault("past_key_values", kwargs["cache"])
    return args, kwargs


def _in_dtype(dtype: torch.dtype, module: Any, args: tuple[Any, ...], output: Any) -> Any:
    """OLMo 2 rotates in float32 and then goes back to the model's dtype; TransformerLens 3.9 leaves out the way back."""
    return output.to(dtype)


def weights_hash(model: Any) -> str:
    """A hash over names and values of a model's parameters, before it is wrapped."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().to("cpu").float().numpy().tobytes())
    return digest.hexdigest()[:16]


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    items = sorted(tokenizer.get_vocab().items())
    return hashlib.sha256(repr(items).encode()).hexdigest()[:16]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' loading bars and notices off a command's output, those of their import included."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers.utils import logging as hf_logging

        before, shown = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
        hf_logging.set_verbosity_error()
        hf_logging.disable_progress_bar()
        logging.getLogger("transformer_lens").setLevel(logging.ERROR)
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        try:
            yield
        finally:
            hf_logging.set_verbosity(before)
            if shown:
                hf_logging.enable_progress_bar()
