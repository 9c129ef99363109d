"""A fast copy of a Hugging Face model that shares its tensors."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D


def fast_copy(model: Any) -> Any:
    """Return a copy of a Hugging Face model for inference that shares all of its tensors.

    Attention uses PyTorch's fused kernels where the architecture allows it, dropout is removed, and modules that
    Hugging Face composes of several operations (GPT-2's activation and linear maps) become single PyTorch operations.

    Args:
        model: The model, before it is wrapped.
    """
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    fast = copy.deepcopy(model, shared).eval()
    softcapped = getattr(fast.config, "attn_logit_softcapping", None) is not None  # fused kernels ignore it
    if getattr(fast, "_supports_sdpa", False) and not softcapped:
        fast.set_attn_implementation("sdpa")
    for module in list(fast.modules()):
        for name, part in list(module.named_children()):
            if isinstance(part, torch.nn.Dropout):
                setattr(module, name, torch.nn.Identity())
            elif isinstance(part, NewGELUActivation):
                setattr(module, name, torch.nn.GELU(approximate="tanh"))
            elif type(part) is Conv1D:
                setattr(module, name, TransposedLinear(part.weight, part.bias))
            elif type(part) is torch.nn.LayerNorm:
                setattr(module, name, LayerNorm(part))
    return fast


class TransposedLinear(torch.nn.Module):
    """A linear map whose weight has shape (inputs, outputs)."""

    def __init__(self, weight: torch.nn.Parameter, bias: torch.nn.Parameter) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the map."""
        parameters: Any = self._parameters  # faster than attribute access on a module
        return torch.nn.functional.linear(inputs, parameters["weight"].T, parameters["bias"])


class LayerNorm(torch.nn.Module):
    """`torch.nn.LayerNorm` that shares the parameters of another one.

    It skips per-call overhead, which dominates single-position passes.
    """

    def __init__(self, norm: torch.nn.LayerNorm) -> None:
        super().__init__()
        self.register_parameter("weight", norm.weight)
        self.register_parameter("bias", norm.bias)
        self._shape, self._eps = list(norm.normalized_shape), norm.eps

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the norm."""
        parameters: Any = self._parameters
        return torch.layer_norm(inputs, self._shape, parameters["weight"], parameters["bias"], self._eps)
