"""What pinned panels become: one HTML file that needs no network, and a notebook."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from dashboards.pins.panels import Panel, machine

# Fits an upright page of A4 or Letter with margins, so that print cuts nothing off.
_WIDTH = 680
_SHOWN = 200  # rows of a table in the HTML


def html_of(panels: Sequence[Panel], title: str, command: str) -> str:
    """Return the report.

    Args:
        panels: What it shows, in order.
        title: Its title.
        command: The command that opens the dashboard that they were pinned in.
    """
    from jinja2 import Environment, PackageLoader, select_autoescape
    from plotly.offline import get_plotlyjs

    template = Environment(
        loader=PackageLoader("dashboards"), autoescape=select_autoescape(default=True, default_for_string=True)
    ).get_template("panels.html.j2")
    return template.render(
        title=title,
        command=command,
        version=version("cotlens"),
        machine=machine(),
        date=datetime.datetime.now().isoformat(sep=" ", timespec="minutes"),
        panels=[_panel(panel) for panel in panels],
        plotlyjs=get_plotlyjs() if any(panel.kind == "chart" for panel in panels) else "",
    )


def _panel(panel: Panel) -> dict[str, Any]:
    """Return what the template shows of a panel."""
    frame = panel.frame
    shown = frame.head(_SHOWN)
    return {
        "panel": panel,
        "figure": _figure(panel.content) if panel.kind == "chart" else "",
        "columns": [str(column) for column in frame.columns],
        "rows": [[_text(value) for value in row] for row in shown.itertuples(index=False, name=None)],
        "left_out": panel.left_out + len(frame) - len(shown),
    }


def _text(value: Any) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _figure(content: str) -> str:
    import plotly.io

    figure = plotly.io.from_json(content, skip_invalid=True)
    figure.update_layout(width=_WIDTH, template="plotly_white", paper_bgcolor="#ffffff", plot_bgcolor="#ffffff")
    return str(
        figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "displayModeBar": True})
    )


def notebook_of(panels: Sequence[Panel], title: str) -> str:
    """Return a Jupyter notebook with a cell for each panel."""
    cells: list[dict[str, Any]] = [_cell("markdown", f"# {title}")]
    for panel in panels:
        cells.append(_cell("markdown", f"## {panel.title}\n\n{panel.alt}. Pinned {panel.made}.\n\n    {panel.command}"))
        cells.append(_cell("code", panel.python))
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}, indent=1)


def _cell(kind: str, source: str) -> dict[str, Any]:
    import uuid

    cell: dict[str, Any] = {"cell_type": kind, "id": uuid.uuid4().hex[:8], "metadata": {}, "source": source}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})
