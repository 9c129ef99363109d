"""Causal tests: whether what can be read is also used. Names are imported when they are first used."""

from interp.runtime.lazy import lazy_exports

_HOMES = {
    name: f"interp.causal.{module}"
    for module, names in {
        "ablation": ("ablate",),
        "content": ("NEEDED", "content_or_compute"),
        "directions": ("Directions", "ValueToken"),
        "following": ("follow_rewrites", "over_checkpoints"),
        "graphs.attribution": ("NEURONS", "attribute", "prune"),
        "graphs.graph_file": ("graph_json", "write_graph"),
        "graphs.opened": ("OpenedGraph", "open_graph"),
        "graphs.paths": ("shares", "trace_prompts"),
        "graphs.ranking": ("norm_shares", "robust_paths", "top_paths"),
        "graphs.replacement": ("agreement", "quality", "transcoders_of"),
        "interchanges.maps": ("layer_map",),
        "interchanges.reading": ("read_values", "structure_disjoint_split", "value_basis"),
        "interchanges.results": ("EDITS", "InterchangeResult", "MORE_EDITS"),
        "interchanges.run": ("interchange",),
        "interchanges.single": ("ThoughtEdit", "edit_thought"),
        "interchanges.usage": ("THRESHOLD", "readable_map", "swap_each_thought", "used_map"),
        "known.induction": ("InductionResult", "induction_heads"),
        "known.task_vectors": ("conditions_table", "task_vectors"),
        "known.word_pairs": ("WORD_PAIRS", "read_pairs"),
        "lens_edits": ("LensEditResult", "best_place", "lens_interventions", "swap_values"),
        "patching.donors": ("donors_for",),
        "patching.patch": ("input_address", "steering_address"),
        "steering": ("DOSES", "steer"),
        "supervision": ("supervise",),
        "visible_text.single": ("edit_written_thought",),
        "swap": ("swap_latents", "swap_summary", "swap_text"),
    }.items()
    for name in names
}
__all__ = sorted(_HOMES)
__getattr__ = lazy_exports(__name__, _HOMES)
