"""A map of a sweep that can be clicked: one square for each layer and place."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from interp.activations.source import place_key
from interp.runtime import palette


def squares(cells: pd.DataFrame, controls: Sequence[str], chosen: tuple[str, str]) -> go.Figure:
    """Return a map of the held-out accuracy of one target; cells that a control matches are hatched with a cross.

    Args:
        cells: The cells of one target.
        controls: Names of the controls.
        chosen: Place and label of the cell that is chosen, which gets a frame.
    """
    places = sorted(cells["place"].unique(), key=place_key)
    labels = cells.sort_values("depth")["label"].drop_duplicates().tolist()
    known = [name for name in controls if name in cells and cells[name].notna().any()]
    strongest = cells[known].max(axis=1) if known else pd.Series(float("nan"), cells.index)
    is_beaten = strongest >= cells["accuracy"]
    frame = cells.assign(strongest=strongest)
    size = max(14, min(40, 900 // max(len(places), 1)))
    figure = go.Figure(
        go.Scatter(
            x=frame["place"],
            y=frame["label"],
            mode="markers",
            name="cells",
            marker={
                "symbol": "square",
                "size": size,
                "color": frame["accuracy"],
                "colorscale": "Cividis",
                "cmin": 0,
                "cmax": 1,
                "colorbar": {"title": "top-1"},
                "line": {
                    "color": [
                        palette.VERMILLION if (place, label) == chosen else palette.GREY
                        for place, label in zip(frame["place"], frame["label"], strict=True)
                    ],
                    "width": [
                        4 if (place, label) == chosen else 0.5
                        for place, label in zip(frame["place"], frame["label"], strict=True)
                    ],
                },
            },
            customdata=frame[["place", "address", "ci_low", "ci_high", "strongest", "n"]],
            hovertemplate="%{customdata[0]}, %{y}: %{marker.color:.3f} [%{customdata[2]:.3f}, %{customdata[3]:.3f}], "
            "n = %{customdata[5]}<br>strongest control %{customdata[4]:.3f}<extra></extra>",
            # A click chooses a cell; the others are not faded by it.
            selected={"marker": {"opacity": 1}},
            unselected={"marker": {"opacity": 1}},
        )
    )
    beaten = frame[is_beaten]
    if len(beaten):
        figure.add_scatter(
            x=beaten["place"],
            y=beaten["label"],
            mode="markers",
            name="a control reads as well",
            marker={"symbol": "x-thin", "size": size * 0.6, "line": {"color": "#ffffff", "width": 2}},
            hoverinfo="skip",
        )
    figure.update_xaxes(categoryorder="array", categoryarray=places, title="place")
    figure.update_yaxes(categoryorder="array", categoryarray=labels, title="layer")
    figure.update_layout(
        title="Held-out top-1 by layer and place (× : a control reads as well)",
        template="plotly_white",
        height=140 + (size + 8) * len(labels),
        margin={"t": 60, "b": 60},  # so that squares of neighbouring layers do not cover one another
        showlegend=False,
        clickmode="event+select",
        dragmode=False,
    )
    return figure
