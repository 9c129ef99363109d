"""Plotly figures of sweeps and probes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.activations.source import place_key
from interp.errors import unknown
from interp.runtime import palette
from probes.sweeps.controls import control_names

if TYPE_CHECKING:
    import plotly.graph_objects as go


def sweep_heatmap(frame: pd.DataFrame, target: str) -> go.Figure:
    """Return a heatmap of the held-out accuracy of one target over places and addresses.

    Args:
        frame: The table of a sweep.
        target: Name of the target.

    Returns:
        The figure; hovering over a cell shows its interval and controls.

    Raises:
        UsageError: The sweep does not have the target.
    """
    import plotly.graph_objects as go

    cells = frame[frame["target"] == target]
    if cells.empty:
        raise unknown("target of this sweep", target, dict.fromkeys(frame["target"]))
    places = sorted(cells["place"].unique(), key=place_key)
    addresses = cells.sort_values("depth")["label"].drop_duplicates().tolist()
    grid = cells.pivot(index="label", columns="place", values="accuracy").loc[addresses, places]
    with_hover = cells.assign(hover=[_hover(row) for row in cells.to_dict("records")])
    hover = with_hover.pivot(index="label", columns="place", values="hover").loc[addresses, places]
    figure = go.Figure(
        go.Heatmap(
            z=grid.to_numpy(),
            x=places,
            y=addresses,
            text=[[f"{v:.2f}" if v == v else "" for v in row] for row in grid.to_numpy()],
            texttemplate="%{text}",
            customdata=hover.to_numpy(),
            hovertemplate="%{customdata}<extra></extra>",
            colorscale="Cividis",
            zmin=0,
            zmax=1,
            colorbar={"title": "top-1"},
        )
    )
    figure.update_layout(
        title=f"Held-out top-1 of {target.replace('_', ' ')} (majority {cells['majority'].mean():.2f})"
        if "majority" in cells
        else f"Held-out top-1 of {target.replace('_', ' ')}",
        xaxis_title="place",
        yaxis_title="address",
        template="plotly_white",
        height=90 + 44 * len(addresses) + 90,
    )
    return figure


def _hover(row: dict) -> str:
    """Return the hover text of one cell."""
    lines = [
        f"<b>{row['target']}</b> at {row['place']}, {row['label']}",
        f"top-1 {row['accuracy']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}], n = {row['n']}, q = {row['q']:.2g}",
    ]
    lines += [f"{c.replace('_', ' ')}: {row[c]:.3f}" for c in control_names() if c in row and row[c] == row[c]]
    return "<br>".join(lines)


def layer_curve(frame: pd.DataFrame, target: str, place: str, controls: Sequence[str]) -> go.Figure:
    """Return a figure of the held-out accuracy of one target at one place over the layers.

    Args:
        frame: The table of a sweep.
        target: Name of the target.
        place: Name of the place.
        controls: Controls to draw as lines.
    """
    cells = frame[(frame["target"] == target) & (frame["place"] == place)].sort_values("depth")
    layers = cells["label"].tolist()
    import plotly.graph_objects as go

    figure = go.Figure()
    band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    figure.add_scatter(x=layers, y=cells["ci_high"], showlegend=False, **band)
    figure.add_scatter(
        x=layers, y=cells["ci_low"], name="95 % interval", fill="tonexty", fillcolor="rgba(0, 114, 178, 0.2)", **band
    )
    figure.add_scatter(
        x=layers,
        y=cells["accuracy"],
        name=palette.label("probe"),
        mode="lines+markers",
        line={"color": palette.BLUE, "width": 3},
        marker={"size": 9},
        customdata=cells[["ci_low", "ci_high", "n", "q"]],
        hovertemplate="%{x}: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}], n = %{customdata[2]}, "
        "q = %{customdata[3]:.1e}<extra></extra>",
    )
    drawn = [c for c in controls if c in cells and cells[c].notna().any()]
    for control, (colour, dash, mark) in zip(drawn, itertools.cycle(_LINES)):
        figure.add_scatter(
            x=layers,
            y=cells[control],
            name=f"control: {palette.label(control)}",
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 1.5},
            marker={"symbol": mark, "size": 8},
            hovertemplate="%{customdata}, control " + palette.label(control) + ": %{y:.3f}<extra></extra>",
        )
    figure.update_layout(legend_traceorder="normal")
    return _curves(figure, f"{target.replace('_', ' ')} at {place}, layer by layer", "held-out top-1")


_LINES = (
    (palette.BLACK, "dot", "x"),
    (palette.VERMILLION, "dash", "diamond-open"),
    (palette.GREEN, "dashdot", "triangle-down-open"),
    (palette.PURPLE, "longdash", "square-open"),
    (palette.ORANGE, "dot", "circle-open"),
    (palette.SKY, "dash", "star-open"),
    (palette.GREY, "longdashdot", "cross-open"),
)


def _curves(figure: go.Figure, title: str, y_title: str) -> go.Figure:
    figure.update_layout(
        title=title,
        template="plotly_white",
        height=400,
        margin={"l": 60, "r": 60, "t": 60, "b": 50},
        legend={"orientation": "h", "y": -0.18},
    )
    figure.update_yaxes(title=y_title, range=[0, 1.08])
    return figure


def transfer_matrix(table: pd.DataFrame) -> go.Figure:
    """Return a figure of the accuracy of probes on other stores.

    Args:
        table: Columns `fitted_to`, `tested_on` and `accuracy`, one row for each pair.
    """
    import plotly.graph_objects as go

    grid = table.pivot(index="fitted_to", columns="tested_on", values="accuracy")
    order = [*dict.fromkeys(table["fitted_to"])]
    across = [name for name in order if name in grid.columns] + [c for c in grid.columns if c not in order]
    return _matrix(go, grid.loc[order, across], "Transfer: held-out top-1", "tested on", "fitted to", 0.0, "Cividis")


def cosines(directions: Mapping[str, Float[np.ndarray, " d"]]) -> go.Figure:
    """Return a figure of the cosine similarity between probe directions.

    Args:
        directions: Directions by name, each of shape (d,).
    """
    import plotly.graph_objects as go

    stacked = np.stack([np.asarray(direction, float) for direction in directions.values()])
    unit = stacked / np.linalg.norm(stacked, axis=1, keepdims=True).clip(1e-12)
    names = list(directions)
    frame = pd.DataFrame(unit @ unit.T, index=names, columns=names)
    return _matrix(go, frame, "Cosine between probe directions", "", "", -1.0, "RdBu")


def _matrix(go, frame: pd.DataFrame, title: str, x: str, y: str, least: float, colours: str) -> go.Figure:  # type: ignore[no-untyped-def]
    values = frame.to_numpy(float)
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=list(frame.columns),
            y=list(frame.index),
            text=[[f"{v:.2f}" if v == v else "" for v in row] for row in values],
            texttemplate="%{text}",
            colorscale=colours,
            zmin=least,
            zmax=1,
        )
    )
    figure.update_layout(
        title=title,
        xaxis_title=x,
        yaxis_title=y,
        yaxis_autorange="reversed",
        template="plotly_white",
        height=160 + 44 * len(frame),
    )
    return figure


def reliability(bins: pd.DataFrame) -> go.Figure:
    """Return a figure of a reliability curve: accuracy against confidence.

    Args:
        bins: Columns `confidence`, `accuracy` and `n`, one row for each bin.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", name="calibrated", line={"color": palette.GREY, "dash": "dot"})
    figure.add_scatter(
        x=bins["confidence"],
        y=bins["accuracy"],
        mode="lines+markers",
        name="probe",
        line={"color": palette.BLUE, "width": 2},
        marker={"size": 6 + 18 * np.sqrt(bins["n"] / bins["n"].max())},
        customdata=bins[["n"]],
        hovertemplate="confidence %{x:.2f}, accuracy %{y:.2f}, n = %{customdata[0]}<extra></extra>",
    )
    figure.update_xaxes(title="confidence", range=[0, 1.02])
    return _curves(figure, "Reliability", "accuracy")


def learning_curve(frame: pd.DataFrame) -> go.Figure:
    """Return a figure of held-out accuracy against the number of training problems.

    Args:
        frame: Columns `n_train`, `accuracy`, `ci_low`, `ci_high`, and any controls.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.add_scatter(
        x=frame["n_train"],
        y=frame["accuracy"],
        name="probe",
        mode="lines+markers",
        line={"color": palette.BLUE, "width": 3},
        error_y={
            "type": "data",
            "array": frame["ci_high"] - frame["accuracy"],
            "arrayminus": frame["accuracy"] - frame["ci_low"],
        },
    )
    drawn = [c for c in control_names() if c in frame and frame[c].notna().any()]
    for control, (colour, dash, mark) in zip(drawn, itertools.cycle(_LINES)):
        line = {"color": colour, "dash": dash}
        name = f"control: {palette.label(control)}"
        figure.add_scatter(
            x=frame["n_train"], y=frame[control], name=name, mode="lines+markers", line=line, marker={"symbol": mark}
        )
    figure.update_xaxes(title="training problems", type="log")
    return _curves(figure, "Learning curve", "held-out top-1")
