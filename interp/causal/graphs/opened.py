"""Open the JSON of attribution graphs that circuit-tracer, its viewer's other writers, or this project wrote.

A node is named by its id, `layer_feature_position`. circuit-tracer calls the error node of layer L `0_L_position`, which is
also the id of feature L of layer 0. A link into such an id ends at the feature, because nothing acts on an error. A link
out of it starts at the feature where the target is not above layer L; where two such links share a target, the first is the
feature's and the second the error's, in the order in which circuit-tracer writes them. What remains open is given to the
feature, and a warning counts it.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.causal.graphs.attribution import EMBEDDING, ERROR, FEATURE, LOGIT, Graph, influences
from interp.causal.graphs.graph_file import FEATURE_TYPES, GENERATOR, OWN_COLUMNS
from interp.decoders.lens_files import read_json
from interp.errors import StoreError

# Edges are one dense matrix.
MAX_NODES = 20_000
_TYPES = {name: node_type for node_type, name in FEATURE_TYPES.items()}
_WHAT = "attribution graph"


@dataclass(frozen=True)
class OpenedGraph(Graph):
    """A graph that was read from a file, without the model that it explains.

    Its paths can be ranked and pruned. To test them by intervention, attribute again with the model itself.

    Attributes:
        tokens: The prompt's tokens.
        ids: The id of each node, each only once.
        metadata: The file's metadata, whole.
        node_fields: The fields of each node as they were in the file, known and unknown.
        link_fields: Fields of links that are not known, by the ids of (source, target).
        file_fields: All other fields of the file, such as `qParams`.
    """

    tokens: list[str]
    ids: list[str]
    metadata: dict[str, Any]
    node_fields: list[dict[str, Any]]
    link_fields: dict[tuple[str, str], dict[str, Any]]
    file_fields: dict[str, Any]

    def select(self, kept: Bool[Tensor, " nodes"], edges: Float[Tensor, "kept kept"]) -> Self:
        """Return the graph of the nodes where a mask is true, with other edges between them."""
        numbers = kept.nonzero()[:, 0].tolist()
        fields = [self.node_fields[k] for k in numbers]
        return replace(super().select(kept, edges), ids=[self.ids[k] for k in numbers], node_fields=fields)

    def to_json(self) -> dict[str, Any]:
        """Return the content of a graph file, with every field that was read; colliding ids are told apart."""
        nodes = [{**fields, "node_id": name} for fields, name in zip(self.node_fields, self.ids, strict=True)]
        links = []
        for target, source in self.edges.nonzero().tolist():
            ends = self.ids[source], self.ids[target]
            link = {"source": ends[0], "target": ends[1], "weight": float(self.edges[target, source])}
            links.append(link | self.link_fields.get(ends, {}))
        return {"metadata": self.metadata, **self.file_fields, "nodes": nodes, "links": links}


def open_graph(path: Path | str) -> OpenedGraph:
    """Read a graph file.

    Args:
        path: A JSON file with `metadata`, `nodes` and `links`.

    Returns:
        The graph. Influences are those of the file where this project wrote it, and otherwise computed from its links.

    Raises:
        StoreError: It is no graph file, or its nodes and links do not fit together.
    """
    path = Path(path)
    content = read_json(path, _WHAT)
    reader = _Reader(path)
    metadata, nodes, links = (reader.field(content, name, kind) for name, kind in _PARTS)
    if not 0 < len(nodes) <= MAX_NODES:
        raise reader.error(f"between 1 and {MAX_NODES} nodes", f"{len(nodes)}")
    table = pd.DataFrame([reader.node(fields) for fields in nodes], columns=["type", "layer", "position", "feature"])
    is_logit = table["type"] == LOGIT
    if not is_logit.any():
        raise reader.error("a logit among the nodes", "none")
    n_layers = int(table.loc[is_logit, "layer"].iloc[0])
    if (table.loc[is_logit, "layer"] != n_layers).any() or (table.loc[~is_logit, "layer"] >= n_layers).any():
        raise reader.error("all logits above all other nodes", "other layers")
    ids, numbers = reader.ids(nodes, table)
    edges, further = reader.edges(links, numbers, table)
    of_ours = metadata.get("info") == {"generator": {"name": GENERATOR}}
    table = _with_numbers(table, nodes, edges, of_ours, reader)
    first = nodes[int(np.flatnonzero(is_logit)[0])]
    tokens = metadata.get("prompt_tokens", [])
    return OpenedGraph(
        position=int(table.loc[is_logit, "position"].iloc[0]),
        nodes=table,
        edges=edges,
        n_layers=n_layers,
        probability=reader.number(first.get("token_prob", 0.0), "token_prob"),
        tokens=[str(token) for token in tokens] if isinstance(tokens, list) else [],
        ids=ids,
        metadata=metadata,
        node_fields=nodes,
        link_fields={(ids[source], ids[target]): fields for (target, source), fields in further.items()},
        file_fields={name: value for name, value in content.items() if name not in dict(_PARTS)},
    )


_PARTS: tuple[tuple[str, type], ...] = (("metadata", dict), ("nodes", list), ("links", list))


class _Reader:
    """Reads the parts of one file, and says in one line what does not fit."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def error(self, expected: str, got: str) -> StoreError:
        return StoreError(f"expected {expected} in the {_WHAT} {self._path}, got {got[:120]}; get an intact copy.")

    def field(self, content: dict[str, Any], name: str, kind: type) -> Any:
        value = content.get(name)
        if not isinstance(value, kind):
            raise self.error(f"{name} as {kind.__name__}", type(value).__name__)
        return value

    def number(self, value: Any, name: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self.error(f"a finite number as {name}", repr(value))
        return float(value)

    def node(self, fields: Any) -> tuple[str, int, int, int]:
        """Return type, layer, position and feature of a node."""
        if not isinstance(fields, dict) or not isinstance(fields.get("node_id"), str):
            raise self.error("nodes with a node_id", repr(fields))
        name, node_type = fields["node_id"], _TYPES.get(str(fields.get("feature_type")))
        if node_type is None:
            known = ", ".join(_TYPES)
            raise self.error(f"nodes of the types {known}", f"{fields.get('feature_type')!r} ({name})")
        parts, place, layer = name.split("_"), fields.get("ctx_idx"), str(fields.get("layer"))
        whole = [part.removeprefix("-").isdecimal() and len(part) < 12 for part in parts[1:]]
        if len(parts) != 3 or not all(whole) or type(place) is not int or place < 0 or int(parts[2]) != place:
            raise self.error("ids of layer, feature and ctx_idx", f"{name!r} at {place!r}")
        if parts[0] not in ("E", layer) and node_type != ERROR:
            raise self.error("ids that begin with the layer", f"{name!r} in layer {layer}")
        if node_type == EMBEDDING:
            return node_type, -1, place, int(parts[1])
        if not layer.isdecimal() or len(layer) > 6:
            raise self.error("layers that are numbers", f"{layer!r} ({name})")
        if node_type == LOGIT:
            return node_type, int(layer) - 1, place, int(parts[1])
        return node_type, int(layer), place, -1 if node_type == ERROR else int(parts[1])

    def ids(self, nodes: list[dict[str, Any]], table: pd.DataFrame) -> tuple[list[str], dict[str, list[int]]]:
        """Return an id of its own for each node, and for each id of the file its nodes, the feature before the error."""
        numbers: dict[str, list[int]] = defaultdict(list)
        for k, fields in enumerate(nodes):
            numbers[fields["node_id"]].append(k)
        ids = [fields["node_id"] for fields in nodes]
        for name, sharing in numbers.items():
            if len(sharing) == 1:
                continue
            types = table["type"].iloc[sharing].tolist()
            if sorted(types) != [ERROR, FEATURE]:
                raise self.error(
                    "each id once, or for one feature and one error", f"{name!r} for {' and '.join(types)}"
                )
            sharing.sort(key=lambda k: table["type"].iloc[k] == ERROR)
            error = table.iloc[sharing[1]]
            ids[sharing[1]] = f"{error['layer']}_-1_{error['position']}"
        if len(set(ids)) < len(ids):
            raise self.error("each node once", "two with one id")
        return ids, dict(numbers)

    def edges(
        self, links: list[Any], numbers: dict[str, list[int]], table: pd.DataFrame
    ) -> tuple[Float[Tensor, "n n"], dict[tuple[int, int], dict[str, Any]]]:
        """Return the matrix of links, (target, source), and the fields of links that are not known."""
        layers, types = table["layer"].to_numpy(), table["type"].to_numpy()
        edges, unsure = np.zeros((len(table), len(table)), np.float32), 0
        taken: dict[tuple[int, int], dict[str, Any]] = {}
        between: dict[tuple[str, str], int] = defaultdict(int)
        for link in links:
            ends = (link.get("source"), link.get("target")) if isinstance(link, dict) else (None, None)
            if not all(isinstance(end, str) and end in numbers for end in ends):
                raise self.error("links between nodes", repr(link))
            between[ends] += 1  # type: ignore[index]
        for link in links:
            source, target = numbers[link["source"]], numbers[link["target"]][0]
            ambiguous = len(source) > 1 and layers[target] > layers[source[1]]
            if ambiguous and between[link["source"], link["target"]] == 1:
                unsure += 1
            start = source[1] if ambiguous and (target, source[0]) in taken else source[0]
            if (target, start) in taken:
                raise self.error("each link once", f"{link['source']} to {link['target']} again")
            if types[target] in (EMBEDDING, ERROR) or layers[start] >= layers[target]:
                raise self.error("links from lower to higher nodes", f"{link['source']} to {link['target']}")
            taken[target, start] = {k: v for k, v in link.items() if k not in ("source", "target", "weight")}
            edges[target, start] = self.number(link.get("weight"), "weight")
        if not np.isfinite(edges).all():
            raise self.error("weights that fit into float32", "larger ones")
        if unsure:
            warnings.warn(
                f"{unsure} links of {self._path} start at an id that a feature of layer 0 and an error node share; they are "
                "given to the feature.",
                stacklevel=3,
            )
        return torch.from_numpy(edges), {ends: fields for ends, fields in taken.items() if fields}


def _with_numbers(
    table: pd.DataFrame, nodes: list[dict[str, Any]], edges: Tensor, of_ours: bool, reader: _Reader
) -> pd.DataFrame:
    """Return the table of nodes with activation, influence, input and constant; NaN where the file does not say."""

    def column(name: str) -> list[float]:
        values = []
        for fields in nodes:
            own = fields.get(GENERATOR)
            value = own.get(name) if isinstance(own, dict) and name in OWN_COLUMNS else fields.get(name)
            values.append(math.nan if value is None else reader.number(value, name))
        return values

    influence = influences(edges, torch.tensor((table["type"] == LOGIT).tolist())).numpy()
    given = column("influence") if of_ours else influence
    return table.assign(
        activation=column("activation"), input=column("input"), constant=column("constant"), influence=given
    )
