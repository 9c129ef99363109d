"""Causal tests: whether what can be read is also used. Names are imported when they are first used."""

from interp.runtime.lazy import lazy_exports

_HOMES = {
    name: f"interp.causal.{module}"
    for module, names in {
        "ablation": ("ablate",),
        "content": ("NEEDED", "content_or_compute"),
        "donors": ("donors_for",),
        "following": ("follow_rewrites", "over_checkpoints"),
        "graphs.attribution": ("NEURONS", "attribute", "prune"),
        "graphs.graph_file": ("graph_json", "write_graph"),
        "graphs.paths": ("shares", "trace_prompts"),
        "graphs.replacement": ("agreement", "quality", "transcoders_of"),
        "interchange_result": ("EDITS", "InterchangeResult", "MORE_EDITS"),
        "interchanges": ("interchange",),
        "maps": ("layer_map",),
        "reading": ("read_values", "structure_disjoint_split", "value_basis"),
        "directions": ("Directions",),
        "patching": ("input_address", "steering_address"),
        "steering": ("DOSES", "steer"),
        "supervision": ("supervise",),
        "swap": ("swap_latents", "swap_summary", "swap_text"),
        "usage": ("THRESHOLD", "readable_map", "swap_each_thought", "used_map"),
    }.items()
    for name in names
}
__all__ = sorted(_HOMES)
__getattr__ = lazy_exports(__name__, _HOMES)
