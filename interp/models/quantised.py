"""Quantised checkpoints: what reading them needs, and whether all their pieces are there.

The wrapper and the probes need plain matrices, so a quantised model is dequantised when it is read, by transformers or by
the library of its format. transformers passes over some faults: it reads an 8-bit weight whose scale is missing as if
it were not quantised, and a format that it does not know as if there were none.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import StoreError, UsageError

if TYPE_CHECKING:
    import torch

    Stored = Iterator[tuple[str, Callable[[], torch.Tensor]]]

# Packages that transformers needs for a format: name of the module, and of the package.
_PACKAGES = {
    "bitsandbytes": (("accelerate", "accelerate"), ("bitsandbytes", "bitsandbytes")),
    "gptq": (("optimum", "optimum"), ("gptqmodel", "gptqmodel")),
    "awq": (("accelerate", "accelerate"), ("gptqmodel", "gptqmodel")),
    "compressed-tensors": (("compressed_tensors", "compressed-tensors"),),
    "fp8": (("accelerate", "accelerate"),),
    "mxfp8": (("accelerate", "accelerate"),),
    "mxfp4": (("accelerate", "accelerate"),),
    "torchao": (("torchao", "torchao"),),
    "hqq": (("hqq", "hqq"),),
    "aqlm": (("aqlm", "aqlm"),),
    "quanto": (("optimum", "optimum-quanto"),),
}
_NEEDS_GPU = ("eetq", "fbgemm_fp8", "higgs", "vptq", "spqr", "fp_quant", "fouroversix")
_WHILE_READING = ("fp8", "mxfp8", "mxfp4", "compressed-tensors")  # dequantised by an option of transformers
_BLOCK_SCALED = ("fp8", "mxfp8")  # one scale for each block of a weight

# What is stored beside a weight, or in its place.
_PIECE = re.compile(
    r"(?:\.weight)?(?P<piece>\.SCB|\.weight_format|\.(?:nested_)?absmax|\.(?:nested_)?quant_map|\.quant_state\.\w+"
    r"|_scale_inv|_scale|_zero_point|_global_scale|_packed|_shape|_g_idx|_blocks|_scales"
    r"|\.(?:input|output|activation|k|v)_(?:scale|zero_point|scale_inv))$"
)
_SCALES = {"_scale_inv", "_scale", "_scales", ".absmax", ".SCB"}
_CARRIERS = {"", "_packed", "_blocks"}  # the numbers themselves
_MAX_LISTED = 8


@dataclass(frozen=True)
class Quantisation:
    """How the weights of a model are quantised.

    Attributes:
        spec: The model's folder or id, for messages.
        method: Name of the format, as in `quantization_config`.
    """

    spec: str
    method: str

    @property
    def by_blocks(self) -> bool:
        """Whether each 8-bit weight has one scale for each of its blocks, which this module can apply."""
        return self.method in _BLOCK_SCALED

    def error(self, reason: object) -> UsageError:
        """Return the error for a model that cannot be read here.

        Args:
            reason: Why not: an exception, or a text.
        """
        text = " ".join(str(reason).split()) or type(reason).__name__
        return UsageError(
            f"the weights of {self.spec!r} are quantised ({self.method}) and cannot be read here: "
            f"{text[:200].rstrip('.')}. Or load the model that was quantised."
        )


def quantisation_of(spec: str | Path, **options: Any) -> Quantisation | None:
    """Return how a model is quantised, by its `config.json`; None where it is not.

    Args:
        spec: A folder, or the id of a model on the hub.
        **options: Options of reading the configuration, such as `local_files_only`.

    Raises:
        UsageError: A package or a GPU that the format needs is missing, or transformers does not know the format.
    """
    from transformers import PretrainedConfig

    raw, _ = PretrainedConfig.get_config_dict(spec, **options)
    parts = (raw, raw.get("text_config") or {})
    fields = next(
        (part[key] for part in parts for key in ("quantization_config", "compression_config") if part.get(key)), None
    )
    if fields is None:
        return None
    bits = fields.get("load_in_8bit") or fields.get("load_in_4bit")
    method = str(fields.get("quant_method") or ("bitsandbytes" if bits else "unknown"))
    quantisation = Quantisation(str(spec), "bitsandbytes" if method.startswith("bitsandbytes") else method)
    _require(quantisation)
    return quantisation


def _require(quantisation: Quantisation) -> None:
    import torch
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    method = quantisation.method
    if method != "bitsandbytes" and method not in AUTO_QUANTIZER_MAPPING:
        raise quantisation.error(f"transformers knows no format {method!r}")
    packages = [package for module, package in _PACKAGES.get(method, ()) if importlib.util.find_spec(module) is None]
    if packages:
        raise quantisation.error(f"the format needs {' and '.join(packages)}; pip install {' '.join(packages)}")
    if method in _NEEDS_GPU and not torch.cuda.is_available():
        raise quantisation.error("the format needs a GPU")


def dequantising_config(spec: str | Path, quantisation: Quantisation, **options: Any) -> Any:
    """Return a model's configuration that asks transformers to dequantise while it reads, where it can."""
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(spec, trust_remote_code=False, **options)
    fields = getattr(config, "quantization_config", None)
    if quantisation.method in _WHILE_READING and isinstance(fields, dict):
        fields["dequantize"] = True
    return config


def dequantised(model: Any, quantisation: Quantisation) -> Any:
    """Return a model that was read from quantised files with plain weights.

    Raises:
        UsageError: Its format cannot be dequantised.
    """
    import torch

    if getattr(model, "hf_quantizer", None) is not None:
        try:
            model = model.dequantize()
        except (NotImplementedError, AttributeError, RuntimeError, ValueError) as error:
            raise quantisation.error(f"transformers cannot dequantise it ({error})") from None
    left = [name for name, value in model.named_parameters() if not value.is_floating_point() or value.itemsize < 2]
    if left:
        raise quantisation.error(f"{len(left)} weights are still quantised after reading, such as {left[0]}")
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # copies of the configuration make plain models
    assert isinstance(model, torch.nn.Module)
    return model


def piece_of(name: str) -> tuple[str, str]:
    """Return the weight that a stored tensor belongs to, and which piece of it the tensor is; "" for the weight."""
    match = _PIECE.search(name)
    if match is None:
        return name, ""
    stem, piece = name[: match.start()], match["piece"]
    return (stem if piece in ("_blocks", "_scales") else f"{stem}.weight"), piece


def check_pieces(stored: Sequence[tuple[str, str]], quantisation: Quantisation) -> int:
    """Check that each quantised weight has its scale, and each scale its weight.

    Args:
        stored: Name and dtype (`torch.float32`) of each tensor in the files.
        quantisation: How they are quantised.

    Returns:
        The number of quantised weights.

    Raises:
        StoreError: A scale or a weight is missing.
    """
    pieces: dict[str, dict[str, str]] = {}
    for name, dtype in stored:
        weight, piece = piece_of(name)
        pieces.setdefault(weight, {})[piece] = dtype
    lacking, quantised = [], 0
    for weight, parts in sorted(pieces.items()):
        packed = parts.keys() & {"_packed", "_blocks"} or _is_small(parts.get("", "torch.float32"))
        quantised += bool(packed)
        if packed and not parts.keys() & _SCALES:
            lacking.append(f"the scale of {weight}")
        if len(parts.keys() - {""}) and not parts.keys() & _CARRIERS:
            lacking.append(f"the numbers of {weight}")
    if lacking:
        more = f", and {len(lacking) - _MAX_LISTED} more" if len(lacking) > _MAX_LISTED else ""
        raise StoreError(
            f"expected the numbers and the scale of each quantised weight of {quantisation.spec!r} "
            f"({quantisation.method}), got files that lack {len(lacking)} of them: {', '.join(lacking[:_MAX_LISTED])}{more}. "
            "Download or quantise the model again."
        )
    return quantised


def _is_small(dtype: str) -> bool:
    return dtype.startswith(("torch.float8", "torch.int", "torch.uint", "torch.float4"))


def restored(stored: Stored) -> Stored:
    """Yield the tensors of block-scaled files with each 8-bit weight times its scales, and without the scales."""
    readers = dict(stored)
    for name, read in readers.items():
        weight, piece = piece_of(name)
        scale = readers.get(f"{name}_scale_inv", readers.get(f"{name}_scale"))
        if piece == "" and scale is not None:
            yield name, partial(_scaled, read, scale)
        elif piece == "" or weight not in readers:
            yield name, read


def _scaled(read_weight: Callable[[], torch.Tensor], read_scale: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Return a weight (rows, columns) times the scale of each of its equal blocks."""
    import torch

    weight, scale = read_weight(), read_scale()
    factors = (scale.float() - 127).exp2() if scale.dtype == torch.uint8 else scale.float()
    factors = factors.reshape(1, 1) if factors.ndim < 2 else factors
    for axis in (0, 1):
        factors = factors.repeat_interleave(weight.shape[axis] // factors.shape[axis], dim=axis)
    return weight.float() * factors
