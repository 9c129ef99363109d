"""Capture: activations of finished traces, committed shard by shard to a store on disk."""

from interp.capture.record import capture, record
from interp.capture.store import Store

__all__ = ["Store", "capture", "record"]
