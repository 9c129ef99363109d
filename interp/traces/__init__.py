"""Traces: what a reasoner did on a problem, position by position, in memory and on disk."""

from interp.traces.trace import LEFT_OUT, THINKING, UNPLACED, Channel, Trace
from interp.traces.trace_set import TraceSet

__all__ = ["LEFT_OUT", "THINKING", "UNPLACED", "Channel", "Trace", "TraceSet"]
