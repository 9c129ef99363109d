"""A wrapped model and its plain twin taken to another device together, still on the same tensors."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

_Module = TypeVar("_Module", bound=torch.nn.Module)


def to_device(found: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """What was counted on the host, on `device`, without waiting for what runs there."""
    return torch.as_tensor(found).to(device, non_blocking=True)


def on(module: _Module, device: torch.device) -> _Module:
    """`module` where its parameters already lie on `device`, else a copy of it there: the caller's own stays."""
    if all(value.device == device for value in module.parameters()):
        return module
    return copy.deepcopy(module).to(device)


def move(modules: Iterable[torch.nn.Module], device: torch.device) -> None:
    """Take every parameter, buffer and plain tensor of these modules to `device`; what they share stays shared.

    `torch.nn.Module.to` would move what two models share once and leave the buffers of the other behind.
    """
    device = torch.empty(0, device=device).device  # `cuda` becomes `cuda:0`, as tensors say it
    moved: dict[int, Tensor] = {}
    kept: list[Tensor] = []  # so that no id is used again while it stands in `moved`

    def there(tensor: Tensor) -> Tensor:
        if tensor.device == device:
            return tensor
        if id(tensor) not in moved:
            found = tensor.detach().to(device)
            if isinstance(tensor, torch.nn.Parameter):
                found = torch.nn.Parameter(found, requires_grad=tensor.requires_grad)
            moved[id(tensor)] = found
            kept.append(tensor)
        return moved[id(tensor)]

    for module in {id(part): part for whole in modules for part in whole.modules()}.values():
        tables: tuple[dict[str, Any], ...] = (vars(module), module._parameters, module._buffers)
        for table in tables:
            for name, value in table.items():
                if isinstance(value, Tensor):
                    table[name] = there(value)
