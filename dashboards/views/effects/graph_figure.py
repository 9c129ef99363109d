"""The drawing of an attribution graph: nodes by position and layer, with the edges of a chosen node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.runtime import palette

_SYMBOLS = {"embedding": "square", "feature": "circle", "error": "x", "logit": "diamond"}
_COLOURS = {"embedding": palette.GREEN, "feature": palette.SKY, "error": palette.VERMILLION, "logit": palette.PURPLE}
_NEIGHBOURS = 12  # of a chosen node, on each side


@dataclass(frozen=True)
class GraphView:
    """A graph as two tables.

    Attributes:
        nodes: Columns id, type, layer, position, feature, influence, text.
        edges: Columns source, target (ids), weight.
        tokens: The prompt's tokens.
        scan: Name of the model; empty where the file does not say.
        completeness: Share of the influence that comes from tokens.
    """

    nodes: pd.DataFrame
    edges: pd.DataFrame
    tokens: list[str]
    scan: str
    completeness: float

    @property
    def error_share(self) -> float:
        """Share of the influence that ends in error nodes."""
        return 1 - self.completeness

    @classmethod
    def open(cls, path: Path) -> GraphView:
        """Return the graph in a file.

        Args:
            path: A graph file of circuit-tracer or of this project.

        Raises:
            StoreError: It is no graph file, or is damaged.
        """
        from interp.causal.graphs.opened import open_graph

        graph = open_graph(path)
        targets, sources = (axis.tolist() for axis in graph.edges.nonzero(as_tuple=True))
        weights = graph.edges[targets, sources].numpy() if targets else np.zeros(0)
        ids = np.array(graph.ids, dtype=object)
        texts = [str(fields.get("clerp") or "")[:80] for fields in graph.node_fields]
        return cls(
            graph.nodes.assign(id=graph.ids, text=texts),
            pd.DataFrame({"source": ids[sources], "target": ids[targets], "weight": weights}),
            graph.tokens,
            str(graph.metadata.get("scan") or ""),
            float(graph.completeness),
        )


def grouped(graph: GraphView) -> GraphView:
    """Return the graph with all features of one layer and position as one node, and their edges added up."""
    nodes = graph.nodes
    is_feature = nodes["type"] == "feature"
    group = "G_" + nodes["layer"].astype(str) + "_" + nodes["position"].astype(str)
    names = dict(zip(nodes["id"], np.where(is_feature, group, nodes["id"]), strict=True))
    counts = nodes[is_feature].groupby(group[is_feature]).size().to_dict()
    merged = nodes.assign(id=nodes["id"].map(names)).groupby("id", sort=False, as_index=False)
    table = merged.agg(
        {
            "type": "first",
            "layer": "first",
            "position": "first",
            "feature": "first",
            "influence": "sum",
            "text": "first",
        }
    )
    table["text"] = [f"{counts[row.id]} features" if row.id in counts else row.text for row in table.itertuples()]
    edges = graph.edges.assign(source=graph.edges["source"].map(names), target=graph.edges["target"].map(names))
    edges = edges[edges["source"] != edges["target"]].groupby(["source", "target"], as_index=False)["weight"].sum()
    return GraphView(table, edges, graph.tokens, graph.scan, graph.completeness)


def kept_nodes(graph: GraphView, top: int, chosen: str, pins: Sequence[str]) -> set[str]:
    """Return the nodes to draw: the logits, the most influential, the pinned ones, and the neighbours of the chosen one.

    Args:
        graph: The graph.
        top: How many of the most influential.
        chosen: Id of the chosen node; empty for none.
        pins: Ids of pinned nodes.
    """
    nodes, edges = graph.nodes, graph.edges
    kept = set(nodes.loc[nodes["type"] == "logit", "id"]) | set(pins)
    kept |= set(nodes.nlargest(top, "influence")["id"])
    if chosen:
        kept.add(chosen)
        for end, other in (("source", "target"), ("target", "source")):
            of = edges[edges[end] == chosen]
            kept |= set(of.loc[of["weight"].abs().nlargest(_NEIGHBOURS).index, other])
    return kept


def node_label(row: Any, tokens: Sequence[str]) -> str:
    """Return what a node is, in words."""
    position = int(row["position"])
    at = f"{tokens[position]!r} ({position})" if position < len(tokens) else f"position {position}"
    kind, text = str(row["type"]), str(row["text"])
    if kind == "embedding":
        return f"token {at}"
    if kind == "logit":
        return text or "output"
    if kind == "error":
        return f"error, block {int(row['layer'])} at {at}"
    name = text if text.endswith(" features") else f"feature {int(row['feature'])}"
    return f"{name}, block {int(row['layer'])} at {at}" + (f": {text}" if text and text != name else "")


def figure_of(graph: GraphView, kept: set[str], chosen: str, pins: Sequence[str]) -> go.Figure:
    """Return the figure.

    Args:
        graph: The graph.
        kept: Ids of the nodes to draw.
        chosen: Id of the chosen node, whose edges are drawn; those among pinned nodes are drawn too.
        pins: Ids of pinned nodes, which are named.
    """
    nodes = _placed(graph.nodes[graph.nodes["id"].isin(kept)])
    at = nodes.set_index("id")[["x", "y"]].to_dict("index")
    figure = go.Figure()
    marked = {chosen, *pins} - {""}
    edges = graph.edges[graph.edges["source"].isin(kept) & graph.edges["target"].isin(kept)]
    if marked:
        edges = edges[edges["source"].isin(marked) | edges["target"].isin(marked)]
    else:
        edges = edges.loc[edges["weight"].abs().nlargest(40).index]
    _add_edges(figure, edges, at)
    largest = max(float(nodes["influence"].max()), 1e-12)
    for kind, part in nodes.groupby("type", sort=False):
        figure.add_scatter(
            x=part["x"],
            y=part["y"],
            mode="markers",
            name=str(kind),
            customdata=part["id"],
            text=[escape(node_label(row, graph.tokens)) for _, row in part.iterrows()],
            hovertemplate="%{text}<extra></extra>",
            marker={
                "symbol": _SYMBOLS[str(kind)],
                "color": _COLOURS[str(kind)],
                "size": 9 + 13 * np.sqrt(part["influence"].clip(lower=0) / largest),
                "line": {"width": [3 if name in marked else 0.5 for name in part["id"]], "color": palette.GREY},
            },
            selected={"marker": {"opacity": 1}},
            unselected={"marker": {"opacity": 1}},
        )
    for name in sorted(marked & set(at)):
        row = graph.nodes.set_index("id").loc[name]
        figure.add_annotation(
            x=at[name]["x"],
            y=at[name]["y"],
            text=("📌 " if name in pins else "") + escape(node_label(row, graph.tokens))[:60],
            showarrow=True,
            arrowhead=0,
            ay=-28,
            font={"size": 12},
        )
    _axes(figure, nodes, graph)
    return figure


def _placed(nodes: pd.DataFrame) -> pd.DataFrame:
    """Return the nodes with x and y: those of one layer and position side by side, the most influential in the middle."""
    order = nodes.sort_values("influence", ascending=False)
    rank = order.groupby(["layer", "position"]).cumcount()
    count = order.groupby(["layer", "position"])["id"].transform("size")
    side = np.where(rank % 2, 1, -1) * ((rank + 1) // 2) / np.maximum(count, 3)
    return order.assign(x=order["position"] + 0.8 * side, y=order["layer"])


def _add_edges(figure: go.Figure, edges: pd.DataFrame, at: dict[Any, dict[Any, Any]]) -> None:
    """Add the edges, in a few widths for each sign, because a line of Plotly has one width."""
    if edges.empty:
        return
    size = edges["weight"].abs() / max(float(edges["weight"].abs().max()), 1e-12)
    for sign, colour in ((1, palette.BLUE), (-1, palette.ORANGE)):
        for low, high, width in ((0.5, 1.01, 4.0), (0.2, 0.5, 2.2), (0.0, 0.2, 1.0)):
            part = edges[(np.sign(edges["weight"]) == sign) & (size >= low) & (size < high)]
            x: list[float | None] = []
            y: list[float | None] = []
            for edge in part.itertuples():
                x += [at[edge.source]["x"], at[edge.target]["x"], None]
                y += [at[edge.source]["y"], at[edge.target]["y"], None]
            if x:
                figure.add_scatter(
                    x=x,
                    y=y,
                    mode="lines",
                    line={"color": colour, "width": width},
                    opacity=0.45,
                    hoverinfo="skip",
                    showlegend=False,
                )


def _axes(figure: go.Figure, nodes: pd.DataFrame, graph: GraphView) -> None:
    positions = sorted(nodes["position"].unique())
    layers = sorted(nodes["layer"].unique())
    last = layers[-1]
    names = ["tokens" if layer < 0 else "output" if layer == last else f"block {layer}" for layer in layers]
    texts = [escape(graph.tokens[p])[:14] if p < len(graph.tokens) else str(p) for p in positions]
    figure.update_layout(
        template="plotly_white",
        height=560,
        margin={"l": 70, "r": 20, "t": 30, "b": 60},
        legend={"orientation": "h", "y": -0.14},
        clickmode="event+select",
        dragmode="pan",
    )
    figure.update_xaxes(tickvals=positions, ticktext=texts, title="token", zeroline=False)
    figure.update_yaxes(tickvals=layers, ticktext=names, zeroline=False)
