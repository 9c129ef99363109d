"""Causal tests: is what can be read also used? Names are imported when they are first used."""

from __future__ import annotations

from typing import Any

_HOMES = {
    "DOSES": "steering",
    "KINDS": "sites",
    "NEEDED": "content",
    "THRESHOLD": "usage",
    "Directions": "steering",
    "ablate": "ablation",
    "agreement": "graphs.replacement",
    "attribute": "graphs.attribution",
    "content_or_compute": "content",
    "donors_for": "donors",
    "interchange_at": "sites",
    "follow_rewrites": "following",
    "graph_json": "graphs.graph_file",
    "layer_map": "maps",
    "over_checkpoints": "following",
    "prune": "graphs.attribution",
    "quality": "graphs.replacement",
    "read_values": "reading",
    "readable_map": "usage",
    "structure_disjoint_split": "reading",
    "shares": "graphs.paths",
    "steer": "steering",
    "supervise": "supervision",
    "swap_each_thought": "usage",
    "swap_latents": "swap",
    "swap_summary": "swap",
    "swap_text": "swap",
    "trace_prompts": "graphs.paths",
    "transcoders_of": "graphs.replacement",
    "used_map": "usage",
    "value_basis": "sites",
    "verdict": "verdicts",
    "write_graph": "graphs.graph_file",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'interp.causal' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"interp.causal.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
