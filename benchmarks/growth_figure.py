"""One picture of what a unit of work costs as the whole grows: flat lines are what is hoped for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from interp import palette
from interp.files import commit

_MARKS = (palette.BLACK, palette.BLUE, palette.VERMILLION, palette.GREEN, palette.PURPLE)


def relative_spread(cost: pd.Series) -> float:
    """The dearest less the cheapest, over the median."""
    return float((cost.max() - cost.min()) / cost.median())


def draw(grown: pd.DataFrame, size: str, parts: Sequence[str], title: str, unit: str, out: Path) -> None:
    """Each part's cost over `size`, as one HTML file that needs no network."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for color, part in zip(_MARKS, parts, strict=False):
        figure.add_scatter(x=grown[size], y=grown[part], name=part, mode="lines+markers", line={"color": color})
    figure.update_xaxes(type="log", title=size).update_yaxes(title=unit, rangemode="tozero")
    figure.update_layout(title=title, template="plotly_white", height=430)
    commit(out, figure.to_html(include_plotlyjs=True).encode())
