"""Plotly figures of trajectory probes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.errors import unknown
from interp.runtime import palette

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MOST_TRACES = 40


def heat_map(positions: pd.DataFrame, traces: pd.DataFrame, target: str) -> go.Figure:
    """Return the scores of held-out traces over positions: those with the event first, half of the rows at most.

    Args:
        positions: The table `positions` of a result.
        traces: Its table `traces`.
        target: The target.

    Returns:
        The figure. A circle marks the first firing, a cross where the truth is set.
    """
    import plotly.graph_objects as go

    table = positions
    has = traces[traces["positive"]]["trace"].drop_duplicates().tolist()
    lacks = [trace for trace in table["trace"].drop_duplicates() if trace not in set(has)]
    n_lacks = min(len(lacks), max(_MOST_TRACES // 2, _MOST_TRACES - len(has)))
    shown = [*has[: _MOST_TRACES - n_lacks], *lacks[:n_lacks]]
    cells = {
        int(trace): part.reset_index(drop=True) for trace, part in table[table["trace"].isin(shown)].groupby("trace")
    }
    width = max(len(part) for part in cells.values())
    grid, texts = np.full((len(shown), width), np.nan), np.full((len(shown), width), "", object)
    fired: list[tuple[int, int]] = []
    true: list[tuple[int, int]] = []
    for k, trace in enumerate(shown):
        part = cells[int(trace)]
        grid[k, : len(part)] = part["score"].to_numpy().clip(-50, 50)
        texts[k, : len(part)] = part["token"].astype(str) + ", " + part["place"] + ", step " + part["step"].astype(str)
        if part["fired"].any():
            fired.append((int(part["fired"].to_numpy().argmax()), k))
        for column in np.flatnonzero(part["truth"].to_numpy()):
            true.append((int(column), k))
    top = float(np.nanmax(np.abs(grid))) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=grid,
            customdata=texts,
            colorscale="RdBu_r",
            zmid=0,
            zmin=-top,
            zmax=top,
            colorbar={"title": "score"},
            hovertemplate="%{customdata}<br>%{z:.2f}<extra></extra>",
        )
    )
    for name, cells_of, symbol in (("truth", true, "x"), ("first firing", fired, "circle-open")):
        figure.add_scatter(
            x=[x for x, _ in cells_of],
            y=[y for _, y in cells_of],
            mode="markers",
            name=name,
            marker={"symbol": symbol, "size": 9, "color": palette.BLACK},
        )
    labels = [f"{trace}: {'event' if trace in set(has) else 'none'}" for trace in shown]
    figure.update_layout(
        title=f"Scores over positions: {target} (0 is the threshold)",
        xaxis_title="position of the thought",
        yaxis={
            "title": "held-out trace",
            "tickvals": list(range(len(shown))),
            "ticktext": labels,
            "autorange": "reversed",
        },
        template="plotly_white",
        height=180 + 16 * len(shown),
        legend={"orientation": "h"},
    )
    return figure


def trace_curve(positions: pd.DataFrame, trace: int, target: str, truth: str) -> go.Figure:
    """Return the score at each token of one held-out trace, with the threshold.

    Args:
        positions: The table `positions` of a result.
        trace: Number of the trace.
        target: The target.
        truth: What the column `truth` marks.

    Raises:
        UsageError: The trace was not held out.
    """
    import plotly.graph_objects as go

    part = positions[positions["trace"] == trace].reset_index(drop=True)
    if part.empty:
        raise unknown("held-out trace", trace, positions["trace"].drop_duplicates().tolist())
    x = list(range(len(part)))
    figure = go.Figure(
        go.Scatter(x=x, y=part["score"], mode="lines+markers", name="score", line={"color": palette.BLUE})
    )
    true = np.flatnonzero(part["truth"].to_numpy())
    figure.add_scatter(
        x=true,
        y=part["score"].to_numpy()[true],
        mode="markers",
        name=f"truth: {truth}" if truth else "truth",
        marker={"color": palette.VERMILLION, "size": 12, "symbol": "x"},
    )
    figure.add_hline(y=0, line={"dash": "dot", "color": palette.GREY}, annotation_text="threshold")
    figure.update_layout(
        title=f"{target}: {part['event'].iloc[0]}, trace {trace}, {part['address'].iloc[0]}",
        xaxis={"title": "token", "tickvals": x, "ticktext": part["token"].astype(str)},
        yaxis_title="score (standard deviations from the threshold)",
        template="plotly_white",
    )
    return figure
