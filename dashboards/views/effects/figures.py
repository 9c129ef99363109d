"""Plotly figures of causal tests, each with its controls and 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboards.charts import lay_out, zeros
from interp.runtime import palette

_HEIGHT = 380  # pixels
Rows = Sequence[Mapping[str, Any]]


def bars(rows: Rows, name: str, series: Sequence[tuple[str, str, str, str]], title: str, y_title: str) -> go.Figure:
    """Return grouped bars with intervals.

    Args:
        rows: One entry for each group.
        name: The field that names the group.
        series: For each colour (field of the value, field of its interval, label, colour).
        title: Title of the figure.
        y_title: Title of the axis.
    """
    figure = go.Figure()
    names = [escape(str(row[name])) for row in rows]
    for value, interval, label, colour in series:
        values = [row.get(value) for row in rows]
        figure.add_bar(
            name=label,
            x=names,
            y=values,
            marker_color=colour,
            text=zeros(values),
            textposition="outside",
            error_y=_errors(values, [row.get(interval) for row in rows]),
            customdata=[row.get("n") for row in rows],
            hovertemplate="%{x}: %{y:.3f}, n = %{customdata}<extra>" + escape(label) + "</extra>",
        )
    return lay_out(figure, title, y_title, height=_HEIGHT)


def lines(
    rows: Rows, x: str, series: Sequence[tuple[str, str | None, str, str, str]], title: str, x_title: str
) -> go.Figure:
    """Return lines with intervals over a number.

    Args:
        rows: One entry for each point.
        x: The field of the number.
        series: For each line (field, field of its interval or None, label, colour, dash).
        title: Title of the figure.
        x_title: Title of the horizontal axis.
    """
    figure = go.Figure()
    for value, interval, label, colour, dash in series:
        values = [row.get(value) for row in rows]
        figure.add_scatter(
            name=label,
            x=[row[x] for row in rows],
            y=values,
            mode="lines+markers",
            line={"color": colour, "dash": dash},
            error_y=_errors(values, [row.get(interval) for row in rows]) if interval else None,
            hovertemplate=f"{escape(x_title)} %{{x}}: %{{y:.3f}}<extra>{escape(label)}</extra>",
        )
    figure = lay_out(figure, title, "fraction of answers", height=_HEIGHT)
    figure.update_xaxes(title=x_title)
    return figure


def grid(frame: pd.DataFrame, x: str, y: str, value: str, title: str, *, x_title: str, notes: str = "") -> go.Figure:
    """Return a heatmap with its values as text.

    Args:
        frame: One row for each cell.
        x: Column of the horizontal axis, in order.
        y: Column of the vertical axis, in order from below.
        value: Column of the value, 0 to 1.
        title: Title of the figure.
        x_title: Title of the horizontal axis.
        notes: Column of a word that stands below the value.
    """
    columns, index = list(dict.fromkeys(frame[x])), list(dict.fromkeys(frame[y]))
    cells = {(row[y], row[x]): row for row in frame.to_dict("records")}
    z = [[_number(cells.get((i, c), {}).get(value)) for c in columns] for i in index]
    text = [[_cell_text(cells.get((i, c)), value, notes) for c in columns] for i in index]
    figure = go.Figure(
        go.Heatmap(
            z=z,
            x=[str(c) for c in columns],
            y=[str(i) for i in index],
            text=text,
            texttemplate="%{text}",
            colorscale="Cividis",
            zmin=0,
            zmax=1,
            xgap=1,
            ygap=1,
            colorbar={"thickness": 12},
            hovertemplate="%{y}, %{x}: %{z:.3f}<extra></extra>",
        )
    )
    figure = lay_out(figure, title, None, height=max(260, 34 * len(index) + 150))
    figure.update_xaxes(title=x_title, type="category")
    figure.update_yaxes(type="category")
    return figure


def _cell_text(row: Mapping[Any, Any] | None, value: str, notes: str) -> str:
    if row is None or _number(row[value]) is None:
        return "–"
    return f"{row[value]:.2f}" + (f"<br>{escape(str(row[notes]))}" if notes else "")


def _number(value: Any) -> float | None:
    return None if value is None or value != value else float(value)


def _errors(values: Sequence[Any], intervals: Sequence[Any]) -> dict[str, Any]:
    pairs = [
        (0.0, 0.0) if v is None or not i or i[0] is None else (i[1] - v, v - i[0])
        for v, i in zip(values, intervals, strict=True)
    ]
    above, below = np.array(pairs).T if pairs else ((), ())
    return {
        "type": "data",
        "symmetric": False,
        "array": list(above),
        "arrayminus": list(below),
        "thickness": 1,
        "width": 3,
        "color": palette.GREY,
    }
