"""What this machine is good at."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def fast_bfloat16(like: Tensor) -> bool:
    """Whether products of bfloat16 matrices are faster than those of float32 where `like` lies."""
    import torch

    if like.dtype != torch.float32:
        return False
    return like.is_cuda or any(torch.cpu.get_capabilities().get(name, False) for name in ("avx512_bf16", "amx_bf16"))
