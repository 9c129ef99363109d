"""Capture: activations of finished traces, committed shard by shard to a store on disk."""

from interp.activations.capturing import capture, resume
from interp.activations.given import write_given
from interp.activations.record import record
from interp.activations.store import Store

__all__ = ["Store", "capture", "record", "resume", "write_given"]
