"""Choosing a device and a dtype, and moving models and data between devices."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from interp.errors import UsageError
from interp.models.report import LoadReport

_Module = TypeVar("_Module", bound=torch.nn.Module)


def choose_device(device: str | None, report: LoadReport) -> str:
    """Return the device for a model.

    Args:
        device: The wanted device; None for a CUDA device where there is one, else the CPU.
        report: Receives the choice.

    Raises:
        UsageError: The device cannot be used here.
    """
    if device is not None:
        usable_device(device)
        report.add("device", device, "given")
        return device
    has_cuda = torch.cuda.is_available()
    chosen = "cuda" if has_cuda else "cpu"
    report.add("device", chosen, "chosen", "a CUDA device was found" if has_cuda else "no CUDA device was found")
    return chosen


def usable_device(device: str) -> str:
    """Return `device`; raise `UsageError` unless tensors can be computed and read on it.

    Args:
        device: A device as PyTorch names it, such as "cpu" or "cuda:1".
    """
    try:
        # Read back, because the device "meta" makes tensors that hold no values.
        torch.zeros(1, device=device).add_(1).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"device {device!r} cannot be used here: {reason}") from None
    return device


def choose_dtype(dtype: Any, device: str, stored: Any, report: LoadReport) -> torch.dtype:
    """Return the dtype for a model.

    Args:
        dtype: The wanted dtype, as a `torch.dtype` or its name; None for float32 on the CPU and for models stored in
            float32, and for the stored dtype elsewhere.
        device: The device of the model.
        stored: The dtype in which the model is stored, or None.
        report: Receives the choice.

    Raises:
        UsageError: `dtype` is not float32, float16 or bfloat16.
    """
    if dtype is not None:
        wanted = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
        if wanted not in (torch.float32, torch.float16, torch.bfloat16):
            raise UsageError(f"expected dtype to be float32, float16 or bfloat16, got {dtype!r}.")
        report.add("dtype", str(wanted).removeprefix("torch."), "given")
        return wanted
    stored_dtype = getattr(torch, stored, None) if isinstance(stored, str) else stored
    if device == "cpu" or stored_dtype not in (torch.float16, torch.bfloat16):
        note = f"stored as {str(stored_dtype).removeprefix('torch.')}" if stored_dtype is not None else ""
        report.add("dtype", "float32", "chosen", note)
        return torch.float32
    report.add("dtype", str(stored_dtype).removeprefix("torch."), "read")
    return stored_dtype


def to_device(values: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Copy values to a device asynchronously.

    Args:
        values: An array or a tensor.
        device: The device to copy to.

    Returns:
        A tensor on `device`.
    """
    return torch.as_tensor(values).to(device, non_blocking=True)


def copy_to(module: _Module, device: torch.device) -> _Module:
    """Return `module` itself where its parameters are on `device`, else a copy on that device.

    Args:
        module: The module.
        device: The device that the result is on.

    Returns:
        `module` itself, or a deep copy.
    """
    if all(value.device == device for value in module.parameters()):
        return module
    return copy.deepcopy(module).to(device)


def move_modules(modules: Iterable[torch.nn.Module], device: torch.device) -> None:
    """Move all parameters, buffers and tensor attributes of modules to a device, in place.

    Tensors that modules share stay shared. `torch.nn.Module.to` would not do: of two models that share parameters it
    leaves the buffers of the second behind.
    """
    device = torch.empty(0, device=device).device  # "cuda" becomes "cuda:0", as tensors report it
    moved: dict[int, Tensor] = {}
    originals: list[Tensor] = []  # kept alive, so that no id in `moved` is used again

    def on_device(tensor: Tensor) -> Tensor:
        if tensor.device == device:
            return tensor
        if id(tensor) not in moved:
            copied = tensor.detach().to(device)
            if isinstance(tensor, torch.nn.Parameter):
                copied = torch.nn.Parameter(copied, requires_grad=tensor.requires_grad)
            moved[id(tensor)] = copied
            originals.append(tensor)
        return moved[id(tensor)]

    for module in {id(part): part for whole in modules for part in whole.modules()}.values():
        tables: tuple[dict[str, Any], ...] = (vars(module), module._parameters, module._buffers)
        for table in tables:
            for name, value in table.items():
                if isinstance(value, Tensor):
                    table[name] = on_device(value)
