"""Plot the cost of a unit of work as the whole grows; flat lines are good."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from interp.runtime import palette
from interp.runtime.files import commit

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MARKS = (palette.BLACK, palette.BLUE, palette.VERMILLION, palette.GREEN, palette.PURPLE)


def relative_spread(cost: pd.Series) -> float:
    """Return the largest minus the smallest cost, over the median."""
    return float((cost.max() - cost.min()) / cost.median())


def figure(table: pd.DataFrame, size: str, parts: Sequence[str], title: str, *, logarithmic: bool = False) -> go.Figure:
    """Return the plot of each part's cost over size.

    Args:
        table: One row a size, one column a part.
        size: Column of the size.
        parts: Columns to plot. A part named `X, PEER` is a peer's cost of X; it is dotted, in X's colour.
        title: Title of the plot.
        logarithmic: Whether the cost axis is logarithmic.
    """
    import plotly.graph_objects as go

    plot = go.Figure()
    ours = [part for part in parts if "," not in part]
    colors = dict(zip(ours, _MARKS, strict=False))
    for part in parts:
        line = {"color": colors[part.partition(",")[0]], "dash": "solid" if part in ours else "dot"}
        plot.add_scatter(x=table[size].tolist(), y=table[part].tolist(), name=part, mode="lines+markers", line=line)
    ticks = table[size].tolist()
    plot.update_xaxes(type="log", title=size, tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks])
    plot.update_yaxes(title="microseconds for each", rangemode="tozero")
    if logarithmic:
        plot.update_yaxes(type="log", dtick=1, minor={"ticks": "outside", "dtick": "D1"})
    return plot.update_layout(title=title, template="plotly_white", height=430, width=860)


def keep(plot: go.Figure, out: Path) -> None:
    """Write the plot as one HTML file that needs no network."""
    commit(out, plot.to_html(include_plotlyjs=True).encode())
