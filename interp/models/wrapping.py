"""Wrapping Hugging Face models with TransformerLens, and hashes of weights and tokenizers."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import warnings
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from interp.errors import UsageError
from interp.models.address import record_hook_points

if TYPE_CHECKING:
    import torch
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedTokenizerBase


_LONGEST_REASON = 160


def wrap(model: Any, tokenizer: PreTrainedTokenizerBase) -> TransformerBridge:
    """Wrap a Hugging Face model in place; its own modules carry the hooks afterwards.

    A fast copy on the same tensors is attached to it (`interp.models.fast_model`).

    Args:
        model: The model.
        tokenizer: Its tokenizer.

    Returns:
        The wrapped model, in evaluation mode and without gradients.

    Raises:
        UsageError: TransformerLens does not know the architecture.
    """
    with quiet():
        from transformer_lens.model_bridge import TransformerBridge

        from interp.models.fast_model import attach_fast_model
        from interp.models.fast_modules import fast_copy

        fast, architecture = fast_copy(model), type(model).__name__
        try:
            bridge = TransformerBridge.boot_transformers("local/model", hf_model=model, tokenizer=tokenizer)
        except Exception as error:  # it reads a configuration that it does not know in many ways
            raise unsupported(architecture, error) from None
        attach_fast_model(bridge, fast)
    for module in bridge.modules():
        if hasattr(module, "_update_kv_cache"):
            module.register_forward_pre_hook(_rename_cache_argument, with_kwargs=True)
        for name in ("hook_rot_q", "hook_rot_k"):
            if hasattr(module, name):
                getattr(module, name).register_forward_hook(partial(_cast, model.dtype))
    record_hook_points(bridge)
    bridge.eval().requires_grad_(False)
    return bridge


def unsupported(architecture: str, reason: object) -> UsageError:
    """Return the error for a model that cannot be wrapped, which says what works instead.

    Args:
        architecture: The class of the model.
        reason: Why not: an exception, or a text.

    Returns:
        The error, for the caller to raise.
    """
    text = " ".join(str(reason).split()) or type(reason).__name__
    shortened = text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"
    return UsageError(
        f"{architecture} is not supported: the wrapper cannot run it ({shortened.rstrip('.')}). What works instead: record "
        "its hidden states with PyTorch hooks of your own, as safetensors files of token_ids and hidden_states, and make "
        "a store of them with `cotlens capture import`, which probes and SAEs read."
    )


def _rename_cache_argument(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Pass the key-value cache as `past_key_values` too.

    Transformers 5.24 passes it to attention as `cache`. TransformerLens 3.9 reads only `past_key_values`, and without
    it each new position silently attends to itself alone.
    """
    if kwargs.get("cache") is not None:
        kwargs.setdefault("past_key_values", kwargs["cache"])
    return args, kwargs


def _cast(dtype: torch.dtype, module: Any, args: tuple[Any, ...], output: Any) -> Any:
    """Cast rotated queries and keys to the model's dtype, which TransformerLens 3.9 leaves out for OLMo 2."""
    return output.to(dtype)


def weights_hash(model: Any) -> str:
    """Return a hash of the names and values of a model's parameters; call it before the model is wrapped."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().to("cpu").float().numpy().tobytes())
    return digest.hexdigest()[:16]


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of a tokenizer's vocabulary."""
    items = sorted(tokenizer.get_vocab().items())
    return hashlib.sha256(repr(items).encode()).hexdigest()[:16]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence progress bars and notices of the model libraries, including those printed at import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers.utils import logging as hf_logging

        verbosity, shows_bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
        hf_logging.set_verbosity_error()
        hf_logging.disable_progress_bar()
        logging.getLogger("transformer_lens").setLevel(logging.ERROR)
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        try:
            yield
        finally:
            hf_logging.set_verbosity(verbosity)
            if shows_bars:
                hf_logging.enable_progress_bar()
