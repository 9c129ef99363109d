"""Activations of finished traces: recorded in memory, or captured shard by shard to a store on disk.

Reading a store does not import PyTorch, so the functions that record are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from interp.activations.source import ActivationSource
from interp.activations.store import Store
from interp.runtime.lazy import lazy_exports

if TYPE_CHECKING:
    from interp.activations.capturing import capture, resume
    from interp.activations.recording import Recording, record
    from interp.activations.write import write_store

__all__ = ["ActivationSource", "Recording", "Store", "capture", "record", "resume", "write_store"]
_HOMES = {
    "Recording": "interp.activations.recording",
    "capture": "interp.activations.capturing",
    "record": "interp.activations.recording",
    "resume": "interp.activations.capturing",
    "write_store": "interp.activations.write",
}
__getattr__ = lazy_exports(__name__, _HOMES)
