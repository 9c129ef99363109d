"""Write attribution graphs as the JSON of circuit-tracer's viewer (schema version 1 of its graph files)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.causal.graphs.attribution import EMBEDDING, ERROR, FEATURE, LOGIT, AttributionGraph
from interp.runtime.files import commit

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

GENERATOR = "cotlens"
FEATURE_TYPES = {
    EMBEDDING: "embedding",
    FEATURE: "cross layer transcoder",
    ERROR: "mlp reconstruction error",
    LOGIT: "logit",
}
# Columns of nodes that the viewer does not know, in the field `cotlens` of each node.
OWN_COLUMNS = ("activation", "input", "constant")


def graph_json(graph: AttributionGraph, reasoner: Reasoner, *, slug: str, node_share: float = 0.8) -> dict[str, Any]:
    """Return the content of a graph file.

    Args:
        graph: A graph, usually pruned.
        reasoner: Its reasoner, for the tokens' text.
        slug: Name of the graph in the viewer.
        node_share: The share that the graph was pruned to.

    Returns:
        `metadata`, `qParams`, `nodes` and `links`; weights are signed direct effects.
    """
    tokens = graph.trace.tokens[: graph.position + 1]
    rows = graph.nodes.to_dict("records")
    ids = [_id(row, graph.n_layers) for row in rows]
    nodes = [_node(row, name, graph, reasoner) for row, name in zip(rows, ids, strict=True)]
    links = [
        {"source": ids[source], "target": ids[target], "weight": float(graph.edges[target, source])}
        for target, source in graph.edges.nonzero().tolist()
    ]
    return {
        "metadata": {
            "slug": slug,
            "scan": reasoner.name,
            "transcoder_list": [f"{reasoner.name}-block-{k}" for k in range(graph.n_layers)],
            "prompt_tokens": tokens,
            "prompt": " ".join(tokens),
            "node_threshold": node_share,
            "schema_version": 1,
            "info": {"generator": {"name": GENERATOR}},
        },
        "qParams": {"pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": ""},
        "nodes": nodes,
        "links": links,
    }


def write_graph(path: Path, content: dict[str, Any]) -> None:
    """Write a graph file atomically."""
    commit(path, (json.dumps(content, allow_nan=False) + "\n").encode())


def _id(row: dict[str, Any], n_layers: int) -> str:
    layer = {EMBEDDING: "E", LOGIT: str(n_layers + 1)}.get(row["type"], str(row["layer"]))
    return f"{layer}_{row['feature']}_{row['position']}"


def _node(row: dict[str, Any], name: str, graph: AttributionGraph, reasoner: Reasoner) -> dict[str, Any]:
    node_type, layer, place, feature = row["type"], int(row["layer"]), int(row["position"]), int(row["feature"])
    # Features are numbered over all layers by Cantor's pairing, as the viewer expects.
    numbered = (layer + feature) * (layer + feature + 1) // 2 + feature
    token = reasoner.tokenizer.convert_ids_to_tokens(feature) if node_type in (EMBEDDING, LOGIT) else ""
    caption = {LOGIT: f'Output "{token}" (p={graph.probability:.3f})', EMBEDDING: token}.get(node_type, "")
    return {
        "node_id": name,
        "feature": {FEATURE: numbered, ERROR: -1, EMBEDDING: place}.get(node_type, feature),
        "layer": name.split("_")[0],
        "ctx_idx": place,
        "feature_type": FEATURE_TYPES[node_type],
        "token_prob": graph.probability if node_type == LOGIT else 0.0,
        "is_target_logit": node_type == LOGIT,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
        "jsNodeId": name.rsplit("_", 1)[0] + f"-{0 if node_type == FEATURE else place}",
        "clerp": caption,
        "influence": float(row["influence"]),
        "activation": float(row["activation"]) if node_type == FEATURE else None,
        GENERATOR: {name: _number(row[name]) for name in OWN_COLUMNS},
    }


def _number(value: float) -> float | None:
    """Return a number of a table as JSON has it: None for NaN."""
    return None if math.isnan(value) else float(value)
