"""A second body for a Hugging Face model's tensors, made of the fastest modules that compute the same."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D


def twin_of(model: Any) -> Any:
    """A structural copy of a Hugging Face model that holds the very same tensors, made before it is wrapped.

    It only ever computes: attention uses PyTorch's fused kernels where the architecture allows them, dropout is gone,
    and what Hugging Face writes out in several operations for GPT-2 is PyTorch's own of the same formula: its
    activation, and its linear maps, whose weights are stored the other way round.
    """
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    twin = copy.deepcopy(model, shared).eval()
    softcapped = getattr(twin.config, "attn_logit_softcapping", None) is not None  # the fused kernels leave it out
    if getattr(twin, "_supports_sdpa", False) and not softcapped:
        twin.set_attn_implementation("sdpa")
    for module in list(twin.modules()):
        for name, part in list(module.named_children()):
            if isinstance(part, torch.nn.Dropout):
                setattr(module, name, torch.nn.Identity())
            elif isinstance(part, NewGELUActivation):
                setattr(module, name, torch.nn.GELU(approximate="tanh"))
            elif type(part) is Conv1D:
                setattr(module, name, TransposedLinear(part.weight, part.bias))
            elif type(part) is torch.nn.LayerNorm:
                setattr(module, name, LayerNorm(part))
    return twin


class TransposedLinear(torch.nn.Module):
    """A linear map over weights that are stored inputs x outputs."""

    def __init__(self, weight: torch.nn.Parameter, bias: torch.nn.Parameter) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, inputs: Tensor) -> Tensor:
        held: Any = self._parameters  # a module looks for its attributes elsewhere first
        return torch.nn.functional.linear(inputs, held["weight"].T, held["bias"])


class LayerNorm(torch.nn.Module):
    """`torch.nn.LayerNorm` on the parameters of another one, without what it asks on its way, for one position as long."""

    def __init__(self, norm: torch.nn.LayerNorm) -> None:
        super().__init__()
        self.register_parameter("weight", norm.weight)
        self.register_parameter("bias", norm.bias)
        self._shape, self._eps = list(norm.normalized_shape), norm.eps

    def forward(self, inputs: Tensor) -> Tensor:
        held: Any = self._parameters
        return torch.layer_norm(inputs, self._shape, held["weight"], held["bias"], self._eps)
