"""An attribution graph to walk through: click a node to see what it reads and writes, pin nodes, group features."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from dashboards.artifacts.finding import last_written
from dashboards.views import shared
from dashboards.views.effects.graph_figure import GraphView, figure_of, grouped, kept_nodes, node_label
from dashboards.views.shared import as_text
from dashboards.views.url import View, go
from interp.errors import counted

_TOPS = ("15", "30", "60", "120")
_NO_NODE = ""


def show_graph(path: Path, view: View) -> None:
    """Draw a graph file of circuit-tracer, or of `cotlens causal attribute`.

    Args:
        path: The file.
        view: The page's controls.
    """
    whole = _graph(str(path), last_written(path))
    st.caption(as_text(f"{whole.scan or 'model not named'} · {' '.join(whole.tokens[-40:])} · {path}"))
    error = whole.error_share
    text = (
        f"{whole.completeness:.3f} of the influence on the output comes from tokens; {error:.3f} ends in error nodes, which "
        "stand for what the features do not explain."
    )
    if error > whole.completeness:
        st.warning(as_text(f"The features explain less than they miss. {text}"), icon=":material/warning:")
    else:
        st.markdown(f"**{as_text(text)}**")
    first, second, third = st.columns([2, 3, 3], vertical_alignment="bottom")
    with first:
        top = view.choice("Nodes by influence", _TOPS, "top", default="30", why_not="no such number")
    with second:
        by_group = view.flag("Group features of one layer and position", "group", help="Their edges are added up.")
    shown = grouped(whole) if by_group else whole
    names = set(shown.nodes["id"])
    chosen = view.valid(
        "node", _NO_NODE, lambda name: name in names, why_not="no node of this graph", shown="no single node"
    )
    pins = _pins(view, names)
    with third:
        _pin_buttons(chosen, pins)
    kept = kept_nodes(shown, int(top), chosen, pins)
    figure = figure_of(shown, kept, chosen, pins)
    clicked = st.plotly_chart(
        figure,
        key=f"graph-{by_group}-{top}",
        on_select="rerun",
        selection_mode="points",
        alt="Nodes by position and layer; edges into and out of the chosen node",
        config={"displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "select2d"]},
    )
    _follow(clicked, chosen)
    hidden = len(shown.nodes) - len(kept)
    st.caption(
        as_text(
            f"Shown: {len(kept)} of {counted(len(shown.nodes), 'node')}, those of most influence, those that are pinned, and what the "
            f"chosen one reads from and writes to; {hidden} are left out. Click a node to expand it. Crosses are error nodes. "
            "Lines: blue adds, orange subtracts; their width is the weight."
        )
    )
    _edges(shown, chosen)
    st.header("Code")
    shared.copy_as(
        f"from interp import causal\n\ngraph = causal.open_graph({str(path)!r})\ngraph.completeness, graph.nodes\n"
        "causal.top_paths(graph, 5)",
        shlex.join(["cotlens", "causal", "graph", str(path), "--paths", "10"]),
    )
    st.caption("One graph is of one answer. This tests the paths of many by intervention, beside random paths:")
    shared.command(["cotlens", "causal", "attribute", whole.scan or "MODEL", "--prompts", "10"])


@st.cache_resource(max_entries=4, show_spinner="Opening the graph …")
def _graph(path: str, written: int) -> GraphView:
    return GraphView.open(Path(path))


def _pins(view: View, names: set[str]) -> list[str]:
    """Return the pinned nodes in the URL; those that are not there are left out, with a warning."""

    def is_valid(text: str) -> bool:
        return all(name in names for name in text.split(",") if name)

    text = view.valid("pins", "", is_valid, why_not="not all nodes of this graph", shown="no pins")
    return [name for name in text.split(",") if name]


def _pin_buttons(chosen: str, pins: list[str]) -> None:
    with st.container(horizontal=True):
        is_pinned = chosen in pins
        others = [name for name in pins if name != chosen]
        after = ",".join(others if is_pinned else [*pins, chosen])
        st.button("Unpin" if is_pinned else "Pin", disabled=not chosen, on_click=go, args=("pins", after or None))
        st.button("Clear choice", disabled=not chosen, on_click=go, args=("node", None))
        st.button("Clear pins", disabled=not pins, on_click=go, args=("pins", None))


def _follow(clicked: Any, chosen: str) -> None:
    """Write a click on a node to the URL."""
    points = clicked.selection.points if clicked and clicked.selection else []
    names = [point.get("customdata") for point in points]
    name = next((n[0] if isinstance(n, (list, tuple)) else n for n in names if n), None)
    seen = st.session_state.get("graph_clicked")
    if name and name != seen:
        st.session_state["graph_clicked"] = name
        if name != chosen:
            go("node", str(name))
            st.rerun()
    elif not name:
        st.session_state["graph_clicked"] = None


def _edges(graph: GraphView, chosen: str) -> None:
    """Draw the edges of the chosen node as a table; of all nodes where none is chosen."""
    table = graph.edges
    if chosen:
        table = table[(table["source"] == chosen) | (table["target"] == chosen)]
        row = graph.nodes.set_index("id").loc[chosen]
        st.subheader(as_text(f"{node_label(row, graph.tokens)}"))
    table = table.reindex(table["weight"].abs().sort_values(ascending=False).index)
    labels = {str(row["id"]): node_label(row, graph.tokens) for _, row in graph.nodes.iterrows()}
    shown = table.head(200)
    frame = pd.DataFrame(
        {
            "reads from": [labels[name] for name in shown["source"]],
            "writes to": [labels[name] for name in shown["target"]],
            "weight": shown["weight"].to_numpy(),
            "id of source": shown["source"].to_numpy(),
            "id of target": shown["target"].to_numpy(),
        }
    )
    st.caption(
        f"{len(frame)} of {counted(len(table), 'edge')}{' of this node' if chosen else ''}, the strongest first."
    )
    if len(frame):
        shared.table(frame, "edges", alt="Edges with their weights")
    else:
        st.caption("It has no edges in this file.")
