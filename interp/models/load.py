"""Loading a language model from a folder or a hub id, wrapped with TransformerLens."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import StoreError, UsageError
from interp.models.plain import attach, keep_plain

if TYPE_CHECKING:
    import torch
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedTokenizerBase


def load_bridge(
    spec: str | Path,
    *,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    prepare: Callable[[Any], Any] | None = None,
) -> tuple[TransformerBridge, PreTrainedTokenizerBase, str]:
    """A model, its tokenizer and the hash of its weights, from a Hugging Face folder or hub id.

    fp16 organisms are computed in fp32; pass `dtype` for anything else. Attention is eager, so that logits
    equal the reference implementation's. `prepare` changes the Hugging Face model before it is wrapped. Raises `UsageError` when there is no such model and `StoreError`
    when its files cannot be read.
    """
    folder = Path(spec)
    if not folder.exists() and (str(spec).startswith((".", "/", "~")) or "/" not in str(spec)):
        raise UsageError(f"{str(spec)!r} is neither a shipped organism nor a folder. See `cotlens organisms ls`.")
    with quiet():
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(spec)
            model: Any = AutoModelForCausalLM.from_pretrained(
                spec, dtype=dtype or torch.float32, attn_implementation="eager"
            )
        except (OSError, ValueError, SafetensorError) as error:
            first = str(error).strip().splitlines()[0]
            kind = StoreError if folder.exists() else UsageError
            raise kind(f"cannot load a model from {str(spec)!r}: {first}") from None
        weights = weights_hash(model)
        model = prepare(model) if prepare else model
        return wrap(model.to(device or _best_device()), tokenizer), tokenizer, weights


def wrap(model: Any, tokenizer: PreTrainedTokenizerBase) -> TransformerBridge:
    """Wrap a Hugging Face model in place; its own modules then carry the hooks.

    A plain one on the same tensors is kept beside it (`interp.models.plain`).
    """
    with quiet():
        from transformer_lens.model_bridge import TransformerBridge

        plain = keep_plain(model)
        bridge = TransformerBridge.boot_transformers("local/model", hf_model=model, tokenizer=tokenizer)
        attach(bridge, plain)
    for module in bridge.modules():
        if hasattr(module, "_update_kv_cache"):
            module.register_forward_pre_hook(_cache_by_its_old_name, with_kwargs=True)
    bridge.eval().requires_grad_(False)
    return bridge


def _cache_by_its_old_name(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Transformers 5.24 hands attention its key-value cache as `cache`. TransformerLens 3.9 looks for
    `past_key_values` only, and without it each new position silently attends to itself alone."""
    if kwargs.get("cache") is not None:
        kwargs.setdefault("past_key_values", kwargs["cache"])
    return args, kwargs


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


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


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
