"""Reasoners, activations, decoders and causal tests. `cotlens` is the public front of all of it.

Names are imported when they are first used, so that `import interp` stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from interp.runtime.lazy import lazy_exports
from interp.runtime.moved import allow_old_names

if TYPE_CHECKING:
    from interp.activations import Recording, Store, capture, record
    from interp.causal.evaluation import evaluate
    from interp.causal.interchanges.run import interchange
    from interp.decoders.evaluation.decoding import decode
    from interp.decoders.evaluation.read_outs import ReadOuts
    from interp.loading.load import load, random_init
    from interp.problems import Problem, task
    from interp.reasoners import Intervention, Monitor, Reasoner
    from interp.traces import Trace, TraceSet

allow_old_names()

__all__ = [
    "Intervention",
    "Monitor",
    "Problem",
    "ReadOuts",
    "Reasoner",
    "Recording",
    "Store",
    "Trace",
    "TraceSet",
    "capture",
    "decode",
    "evaluate",
    "interchange",
    "load",
    "random_init",
    "record",
    "task",
]
_HOMES = {
    "Intervention": "interp.reasoners",
    "Monitor": "interp.reasoners",
    "Problem": "interp.problems",
    "ReadOuts": "interp.decoders.evaluation.read_outs",
    "Reasoner": "interp.reasoners",
    "Recording": "interp.activations.recording",
    "Store": "interp.activations.store",
    "Trace": "interp.traces",
    "TraceSet": "interp.traces",
    "capture": "interp.activations.capturing",
    "decode": "interp.decoders.evaluation.decoding",
    "evaluate": "interp.causal.evaluation",
    "interchange": "interp.causal.interchanges.run",
    "load": "interp.loading.load",
    "random_init": "interp.loading.load",
    "record": "interp.activations.recording",
    "task": "interp.problems",
}

__getattr__ = lazy_exports(__name__, _HOMES)
