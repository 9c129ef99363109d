"""Checks of an SAE from anywhere: that it maps as it looks, and that it is of the model that it is used on."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from interp.errors import StoreError

if TYPE_CHECKING:
    from sae_lens import SAE

_SCALER = "activation_scaler.json"  # SAELens writes the scale of its inputs here while training
_USABLE = ("standard", "gated", "topk", "jumprelu")


@dataclass(frozen=True)
class Check:
    """The result of one check of an SAE.

    Attributes:
        name: `reference`, `width`, `address`, `model` or `explains`.
        verdict: `pass`, `warn` or `fail`.
        message: One sentence for people.
    """

    name: str
    verdict: Literal["pass", "warn", "fail"]
    message: str


def require_affine(sae: SAE, folder: Path) -> SAE:
    """Return an SAE whose features read and write activations as they are, with a scale of its inputs folded in.

    Args:
        sae: An SAE of SAELens.
        folder: Where it comes from. The scale is read from it.

    Raises:
        StoreError: It is a transcoder or another kind whose features have no such directions, it reads the outputs of
            attention heads, or its inputs are normalised one by one or by statistics that are not there.
    """
    architecture = sae.cfg.architecture()
    if architecture not in _USABLE:
        raise StoreError(
            f"expected an SAE of kind {', '.join(_USABLE)} at {folder}, got {architecture}; open one of those (SAELens saves "
            "batchtopk and matryoshka as jumprelu, by `save_inference_model`)."
        )
    if sae.cfg.reshape_activations != "none":
        raise StoreError(
            f"expected an SAE of whole activations at {folder}, got one of attention heads' outputs "
            f"({sae.cfg.metadata.hook_name}), which are not captured; open one of a residual stream, attention or MLP output."
        )
    normalised = sae.cfg.normalize_activations
    if normalised == "expected_average_only_in" and (folder / _SCALER).exists():
        scale = json.loads((folder / _SCALER).read_text(encoding="utf-8")).get("scaling_factor")
        if isinstance(scale, float | int) and scale > 0:
            sae.fold_activation_norm_scaling_factor(float(scale))
            return sae
    if normalised != "none":
        raise StoreError(
            f"expected an SAE of activations as they are at {folder}, got one with normalize_activations={normalised!r} that is "
            "not folded into its weights; save it again with SAELens, which folds a scale and a whitening, or open another."
        )
    return sae


def check_model(sae: SAE, name: str, weights: str, *, transfer: bool = False) -> Check:
    """Check that an SAE is of a model: by the hash of its weights where it has one, else by the model's name.

    Args:
        sae: An SAE of SAELens.
        name: Name of the model that it is used on.
        weights: Hash of that model's weights.
        transfer: Only warn where it is of another model.

    Returns:
        The check.
    """
    metadata = sae.cfg.metadata
    if metadata.weights is None and not metadata.model_name:
        return Check("model", "warn", f"it does not say which model it was trained on, so {name} was not compared.")
    if metadata.weights is None and same_name(metadata.model_name, name):
        return Check("model", "warn", f"it names {metadata.model_name} as its model; its weights were not compared.")
    if metadata.weights is not None and metadata.weights == weights:
        return Check("model", "pass", f"it was trained on {name}.")
    given = f" (weights {metadata.weights})" if metadata.weights is not None else ""
    message = (
        f"it was trained on {metadata.model_name or 'another model'}{given}, not on {name} (weights {weights}); train one there, or allow "
        "another model's with transfer=True (--transfer)."
    )
    return Check("model", "warn" if transfer else "fail", message)


def same_name(one: str, other: str) -> bool:
    """Return whether two names are of one model: by their last parts, TransformerLens's aliases resolved."""
    return _short(one) == _short(other)


def _short(name: str) -> str:
    from transformer_lens.loading_from_pretrained import get_official_model_name

    with contextlib.suppress(ValueError):  # it knows only its own list
        name = get_official_model_name(str(name))
    return str(name).rstrip("/").rsplit("/", 1)[-1].lower()
