"""Pictures of a sweep, as Plotly figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from interp.activations.store import place_key
from interp.errors import UsageError
from probes.controls import CONTROLS

if TYPE_CHECKING:
    import plotly.graph_objects as go


def sweep_heatmap(frame: pd.DataFrame, target: str) -> go.Figure:
    """Held-out accuracy of one target over place (across) and depth (up); hovering shows interval and controls."""
    import plotly.graph_objects as go

    cells = frame[frame["target"] == target]
    if cells.empty:
        raise UsageError(f"this sweep has no target {target!r}; it has {', '.join(dict.fromkeys(frame['target']))}.")
    places = sorted(cells["place"].unique(), key=place_key)
    addresses = cells.sort_values("depth")["label"].drop_duplicates().tolist()
    grid = cells.pivot(index="label", columns="place", values="accuracy").loc[addresses, places]
    hover = cells.assign(said=[_hover(row) for row in cells.to_dict("records")])
    said = hover.pivot(index="label", columns="place", values="said").loc[addresses, places]
    figure = go.Figure(
        go.Heatmap(
            z=grid.to_numpy(),
            x=places,
            y=addresses,
            text=[[f"{v:.2f}" if v == v else "" for v in row] for row in grid.to_numpy()],
            texttemplate="%{text}",
            customdata=said.to_numpy(),
            hovertemplate="%{customdata}<extra></extra>",
            colorscale="Cividis",
            zmin=0,
            zmax=1,
            colorbar={"title": "top-1"},
        )
    )
    figure.update_layout(
        title=f"Where {target.replace('_', ' ')} can be read (held-out top-1; majority {cells['majority'].mean():.2f})"
        if "majority" in cells
        else f"Where {target.replace('_', ' ')} can be read (held-out top-1)",
        xaxis_title="place in the trace",
        yaxis_title="place in the network",
        template="plotly_white",
        height=90 + 44 * len(addresses) + 90,
    )
    return figure


def _hover(row: dict) -> str:
    lines = [
        f"<b>{row['target']}</b> at {row['place']}, {row['label']}",
        f"top-1 {row['accuracy']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}], n = {row['n']}, q = {row['q']:.2g}",
    ]
    lines += [f"{c.replace('_', ' ')}: {row[c]:.3f}" for c in CONTROLS if c in row and row[c] == row[c]]
    return "<br>".join(lines)
