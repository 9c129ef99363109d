"""What this machine is good at."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def fast_bfloat16(like: Tensor) -> bool:
    """Whether products of bfloat16 matrices are faster than those of float32 where `like` lies."""
    import torch

    return like.dtype == torch.float32 and _multiplies_bfloat16(like.device)


def mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Training's precision on `device`: matrix products in bfloat16 over float32 weights, where that is the faster.

    A processor without instructions for it emulates bfloat16, at a fraction of its speed in float32 (1/38 for
    4096 x 256 by 256 x 1024 on one with AVX2 alone), so there everything stays float32.
    """
    import torch

    if _multiplies_bfloat16(device):
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def training_attention(device: torch.device) -> str:
    """The attention of Hugging Face's that trains fastest on `device`, in the precision of `mixed_precision`.

    PyTorch's fused kernel, whose backward pass in bfloat16 takes several times as long on a processor as one written
    out; in float32 it takes half (64 x 244 positions) to five sixths (64 x 90).
    """
    return "eager" if device.type == "cpu" and _multiplies_bfloat16(device) else "sdpa"


def _multiplies_bfloat16(device: torch.device) -> bool:
    import torch

    if device.type != "cpu":
        return device.type == "cuda"
    return any(torch.cpu.get_capabilities().get(name, False) for name in ("avx512_bf16", "amx_bf16"))
