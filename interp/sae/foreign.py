"""SAEs of other libraries: sparsify's and dictionary_learning's folders, read as SAELens's classes.

SAELens 6.54 has a converter for each. Its one for sparsify takes the decoder for transposed and does not centre the
input where the decoder is normalised, which `SparseCoder.encode` does; its one for dictionary_learning reads only from
the hub. So both are read here, after the formulas of the libraries themselves:

- sparsify (EleutherAI): `HOOKPOINT/cfg.json` and `sae.safetensors`; the k largest of relu(W_enc (x - b_dec) + b_enc).
- dictionary_learning (Marks, Karvonen, Mueller): `config.json` and `ae.pt`; five kinds, named by `trainer.dict_class`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import StoreError
from interp.sae.train import silent

if TYPE_CHECKING:
    from sae_lens import SAE
    from torch import Tensor

_SPARSIFY, _DICTIONARY = "sae.safetensors", "ae.pt"
_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks)[._](\d+)(?:\.(mlp|attn|self_attn|attention))?$")
_SUBMODULE = re.compile(r"(?:^|_)(resid_post|resid_pre|mlp_out|attn_out)_layer_?(\d+)$")
_SITES = {
    None: "hook_out",
    "mlp": "mlp.hook_out",
    "attn": "attn.hook_out",
    "self_attn": "attn.hook_out",
    "attention": "attn.hook_out",
    "resid_post": "hook_out",
    "resid_pre": "hook_in",
    "mlp_out": "mlp.hook_out",
    "attn_out": "attn.hook_out",
}
#: Class of dictionary_learning: SAELens's architecture, and whether the decoder's bias is taken off the input.
_CLASSES = {
    "AutoEncoder": ("standard", True),
    "AutoEncoderNew": ("standard", False),
    "GatedAutoEncoder": ("gated", True),
    "AutoEncoderTopK": ("topk", True),
    "BatchTopKSAE": ("jumprelu", True),
    "MatryoshkaBatchTopKSAE": ("jumprelu", True),
    "JumpReluAutoEncoder": ("jumprelu", False),
}
#: SAELens's parameter and its names in files of dictionary_learning.
_NAMES = {
    "W_enc": ("W_enc", "encoder.weight"),
    "W_dec": ("W_dec", "decoder.weight"),
    "b_enc": ("b_enc", "encoder.bias"),
    "b_dec": ("b_dec", "bias", "decoder_bias", "decoder.bias"),
    "b_gate": ("gate_bias",),
    "b_mag": ("mag_bias",),
    "r_mag": ("r_mag",),
    "threshold": ("threshold",),
}
_PARAMETERS = {
    "standard": ("b_enc",),
    "topk": ("b_enc",),
    "gated": ("b_gate", "b_mag", "r_mag"),
    "jumprelu": ("b_enc", "threshold"),
}


def read_foreign(folder: Path) -> SAE | None:
    """Read the SAE of another library from its folder.

    Args:
        folder: The folder.

    Returns:
        The SAE, or None where the folder is of neither library.

    Raises:
        StoreError: The folder lacks a file, a setting or a weight, or holds a kind that is not an SAE.
    """
    if (folder / _SPARSIFY).exists():
        return _read_sparsify(folder)
    if (folder / _DICTIONARY).exists():
        return _read_dictionary(folder)
    return None


def _read_sparsify(folder: Path) -> SAE:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = _read_config(folder / "cfg.json")
    for name in ("transcode", "skip_connection", "signed"):
        if config.get(name):
            raise StoreError(
                f"expected an SAE of sparsify at {folder}, got one with {name}=true; open an SAE without it."
            )
    activation = config.get("activation", "topk")
    if activation != "topk":
        raise StoreError(
            f"expected an SAE of sparsify with top-k features at {folder}, got {activation}; open another."
        )
    try:
        weights = load_file(folder / _SPARSIFY)
        state = {
            "W_enc": weights["encoder.weight"].T,
            "b_enc": weights["encoder.bias"],
            "W_dec": weights["W_dec"],
            "b_dec": weights["b_dec"],
        }
        k = int(config["k"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise _damaged(folder, error) from None
    block = _BLOCK.search(folder.name)
    hook = None if block is None else f"blocks.{block[1]}.{_SITES[block[2]]}"
    trained = folder.parent / "config.json"
    model = _read_config(trained).get("model") if trained.exists() else None
    return _build("topk", state, folder, hook=hook, model=model, k=k, apply_b_dec_to_input=True)


def _read_dictionary(folder: Path) -> SAE:
    import pickle

    import torch

    trainer = _read_config(folder / "config.json").get("trainer")
    if not isinstance(trainer, dict) or trainer.get("dict_class") not in _CLASSES:
        got = trainer.get("dict_class") if isinstance(trainer, dict) else trainer
        raise StoreError(
            f"expected config.json of dictionary_learning at {folder} with a trainer.dict_class among "
            f"{', '.join(_CLASSES)}, got {got!r}; open one of those kinds."
        )
    kind = trainer["dict_class"]
    architecture, centres = _CLASSES[kind]
    try:
        weights = torch.load(folder / _DICTIONARY, map_location="cpu", weights_only=True)
        k = int(trainer["k"]) if architecture == "topk" else None
        state = {name: _named(weights, name) for name in ("W_enc", "W_dec", "b_dec", *_PARAMETERS[architecture])}
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise _damaged(folder, error) from None
    # Files of `torch.nn.Linear` hold (outputs, inputs), files of parameters (inputs, outputs).
    for name, transposed in (("W_enc", "encoder.weight"), ("W_dec", "decoder.weight")):
        state[name] = state[name].T if name not in weights and transposed in weights else state[name]
    if architecture == "jumprelu":
        state["threshold"] = state["threshold"].float().expand(state["W_enc"].shape[1])
    if kind == "AutoEncoder":  # the library's loader does this for this class alone
        lengths = state["W_dec"].norm(dim=1)
        if bool((lengths == 0).any()):
            raise StoreError(f"expected decoder directions that are not zero in {folder}, got some; train it again.")
        state["W_dec"] = state["W_dec"] / lengths[:, None]
        state["W_enc"], state["b_enc"] = state["W_enc"] * lengths, state["b_enc"] * lengths
    options = {"apply_b_dec_to_input": centres} | ({} if k is None else {"k": k})
    return _build(architecture, state, folder, hook=_submodule(trainer), model=trainer.get("lm_name"), **options)


def _submodule(trainer: dict[str, Any]) -> str | None:
    """Return the address of the module that was trained on; None where the file says only a layer, or nothing."""
    match = _SUBMODULE.search(str(trainer.get("submodule_name") or ""))
    return None if match is None else f"blocks.{match[2]}.{_SITES[match[1]]}"


def _named(weights: dict[str, Tensor], name: str) -> Tensor:
    for key in _NAMES[name]:
        if key in weights:
            return weights[key]
    raise KeyError(name)


def _build(
    architecture: str, state: dict[str, Tensor], folder: Path, *, hook: str | None, model: str | None, **options: Any
) -> SAE:
    """Return an SAE of SAELens with these weights."""
    import torch
    from sae_lens.registry import get_sae_class
    from sae_lens.saes.sae import SAEMetadata

    sae_class, config_class = get_sae_class(architecture)
    d_in, d_sae = state["W_enc"].shape
    metadata = SAEMetadata(model_name=model, hook_name=hook)
    with silent():
        config: Any = config_class(d_in=d_in, d_sae=d_sae, dtype="float32", device="cpu", metadata=metadata, **options)
        sae: Any = sae_class(config)
    try:
        sae.load_state_dict({name: value.detach().to(torch.float32).contiguous() for name, value in state.items()})
    except RuntimeError as error:
        raise _damaged(folder, error) from None
    return sae.eval()


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"expected {path} beside the SAE's weights, and it cannot be read ({error}); copy it too."
        ) from None
    if not isinstance(config, dict):
        raise StoreError(f"expected settings in {path}, got {type(config).__name__}; copy the library's own file.")
    return config


def _damaged(folder: Path, error: Exception) -> StoreError:
    reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:160]
    return StoreError(f"the SAE at {folder} cannot be read ({reason}). Copy or download it again.")
