"""The part of a Hugging Face model without its unembedding."""

from __future__ import annotations

from typing import Any


def base_of(model: Any) -> Any:
    """Return a model without its unembedding.

    `model.base_model` is the model itself where its class names its body wrongly, as that of Llama 4's text model does.
    """
    base = model.base_model
    return getattr(model, "model", base) if base is model else base


def base_prefix(model: Any) -> str:
    """Return what stands before the names of the body's modules in the whole model, such as `model.`."""
    is_named = model.base_model is not model
    return f"{model.base_model_prefix}." if is_named else "model."
