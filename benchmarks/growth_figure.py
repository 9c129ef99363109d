"""One picture of what a unit of work costs as the whole grows: flat lines are what is hoped for."""

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
    """The dearest less the cheapest, over the median."""
    return float((cost.max() - cost.min()) / cost.median())


def figure(grown: pd.DataFrame, size: str, parts: Sequence[str], title: str, *, logarithmic: bool = False) -> go.Figure:
    """Each part's cost over `size`; a part named `X, PEER` is what a peer takes for X, dotted in X's colour."""
    import plotly.graph_objects as go

    made = go.Figure()
    ours = [part for part in parts if "," not in part]
    colors = dict(zip(ours, _MARKS, strict=False))
    for part in parts:
        line = {"color": colors[part.partition(",")[0]], "dash": "solid" if part in ours else "dot"}
        made.add_scatter(x=grown[size].tolist(), y=grown[part].tolist(), name=part, mode="lines+markers", line=line)
    ticks = grown[size].tolist()
    made.update_xaxes(type="log", title=size, tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks])
    made.update_yaxes(title="microseconds for each", rangemode="tozero")
    if logarithmic:
        made.update_yaxes(type="log", dtick=1, minor={"ticks": "outside", "dtick": "D1"})
    return made.update_layout(title=title, template="plotly_white", height=430, width=860)


def keep(made: go.Figure, out: Path) -> None:
    """The figure as one HTML file that needs no network."""
    commit(out, made.to_html(include_plotlyjs=True).encode())
