"""Reading state dicts: one file of safetensors or pickle, or several that an index names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from interp.errors import CotlensError, StoreError, UsageError
from interp.models.weights import plain_name

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]

# What PyTorch's reader of pickles raises on a file of another kind.
_FOREIGN_BYTES = (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, MemoryError)

# Suffixes of pickles, and the bytes that one without such a suffix begins with.
_PICKLES = (".bin", ".pt", ".pth")
_BEGINNINGS = (b"PK", b"\x80")


def tensor_names(file: Path) -> list[str]:
    """Return the names of the tensors in a file of safetensors, or in an index; empty where it is damaged.

    Args:
        file: The file. Reading its tensors raises the error.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if file.suffix == ".json":
            return list(_weight_map(file))
        with safe_open(file, framework="pt") as opened:
            return list(opened.keys())
    except (OSError, SafetensorError, StoreError):
        return []


def read_state(file: Path, allow_pickle: bool) -> State:
    """Return the tensors of a state dict by name, without the prefixes that training leaves.

    Args:
        file: A file of safetensors or pickle, or the index of several.
        allow_pickle: Whether a pickle file is accepted. Reading it runs no code.

    Raises:
        UsageError: A file is a pickle, and `allow_pickle` is False.
        StoreError: A file is missing or damaged, or holds something else.
    """
    state = _read_shards(file, allow_pickle) if file.suffix == ".json" else _read_file(file, allow_pickle)
    plain = {plain_name(name): value for name, value in state.items()}
    if len(plain) != len(state):
        raise StoreError(f"expected one tensor of each name in {file}, got some twice, with and without a prefix.")
    return plain


def _weight_map(index: Path) -> dict[str, str]:
    """Return which file of an index holds each tensor."""
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StoreError(f"{index} cannot be read as an index of weights: {error}") from None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise StoreError(f"expected a file name for each tensor in {index}, got something else.")
    outside = next((name for name in names.values() if Path(name).name != name), None)
    if outside is not None:
        raise StoreError(f"expected files beside {index}, got {outside!r}.")
    return names


def _read_shards(index: Path, allow_pickle: bool) -> State:
    """Return the tensors of every file of an index, which must hold what the index says and no more."""
    names, state = _weight_map(index), {}
    for shard in sorted(set(names.values())):
        file = index.parent / shard
        if not file.is_file():
            raise StoreError(f"expected {shard} beside {index}, got none; copy all files of the checkpoint.")
        tensors = _read_file(file, allow_pickle)
        listed = {name for name, of in names.items() if of == shard}
        if set(tensors) != listed:
            differing = sorted(set(tensors) ^ listed)
            raise StoreError(f"expected {file} to hold what {index.name} lists, got a difference: {differing[0]}.")
        state.update(tensors)
    return state


def _first_bytes(file: Path) -> bytes:
    with file.open("rb") as handle:
        return handle.read(2)


def _read_file(file: Path, allow_pickle: bool) -> State:
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        if file.suffix not in _PICKLES and not _first_bytes(file).startswith(_BEGINNINGS):
            raise UsageError(
                f"expected a model (an organism, a folder, a GGUF file or a state dict), got {file}, which is none."
            )
        if not allow_pickle:
            raise UsageError(
                f"{file} is a pickle, which can run code when it is read; convert it to safetensors, or trust it with "
                "load(..., allow_pickle=True) or --allow-pickle."
            )
        state = torch.load(file, map_location="cpu", weights_only=True)
    except CotlensError:
        raise
    except (*_FOREIGN_BYTES, SafetensorError, pickle.UnpicklingError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StoreError(f"{file} cannot be read as a state dict: {reason}") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise StoreError(f"expected a state dict (tensors by name) in {file}, got something else.")
    return state
