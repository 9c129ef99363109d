"""Which number formats and attention kernels are fast on this machine."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def fast_bfloat16(like: Tensor) -> bool:
    """Return whether bfloat16 matrix products are faster than float32 ones on the device of `like`.

    Always False where `like` is not float32.
    """
    import torch

    return like.dtype == torch.float32 and _has_native_bfloat16(like.device)


def mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which matrix products run in bfloat16 over float32 weights, where that is faster.

    On CPUs without native bfloat16 everything stays float32: emulation runs at a fraction of the speed (1/38 for
    4096 x 256 by 256 x 1024 with AVX2 alone).
    """
    import torch

    if _has_native_bfloat16(device):
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def training_attention(device: torch.device) -> str:
    """Return the name of the Hugging Face attention that trains fastest on `device` under `mixed_precision`.

    "sdpa" is PyTorch's fused kernel. On CPUs its backward pass in bfloat16 takes several times as long as that of
    "eager", and in float32 between half (64 x 244 positions) and five sixths (64 x 90) as long.
    """
    return "eager" if device.type == "cpu" and _has_native_bfloat16(device) else "sdpa"


def _has_native_bfloat16(device: torch.device) -> bool:
    import torch

    if device.type != "cpu":
        return device.type == "cuda"
    return any(torch.cpu.get_capabilities().get(name, False) for name in ("avx512_bf16", "amx_bf16"))
