"""Capture: activations of finished traces, committed shard by shard to a store on disk.

Reading a store takes no PyTorch, so what records is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from interp.activations.store import Store

if TYPE_CHECKING:
    from interp.activations.capturing import capture, resume
    from interp.activations.write import write_store

__all__ = ["Store", "capture", "resume", "write_store"]
_HOMES = {"capture": "capturing", "resume": "capturing", "write_store": "write"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'interp.activations' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"interp.activations.{_HOMES[name]}"), name)
