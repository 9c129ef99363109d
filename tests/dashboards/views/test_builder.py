"""The report builder: what is pinned on a page becomes a panel, and panels become one HTML file and a notebook."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboards.launch import ROOTS_VARIABLE
from dashboards.pins.export import html_of, notebook_of
from dashboards.pins.panels import MOST_ROWS, chart_points, new_panel, panels_of, save_panel, swap_order, table_content
from dashboards.views.pin import PAGE

Open = Callable[..., AppTest]
Said = Callable[[AppTest], str]
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def pinned(tmp_path: Path) -> Path:
    """A folder with a pinned chart and a pinned table, both with hostile text."""
    figure = go.Figure(go.Scatter(x=[1, 2], y=[0.5, 0.25], name="probe"))
    frame = pd.DataFrame({"text": [EVIL, "b"], "score": [0.5, float("nan")]})
    options = {"link": "/probes?open=x", "python": f"print({EVIL!r})", "command": "cotlens dash x"}
    save_panel(tmp_path, new_panel("chart", "A chart", "alt of it", figure.to_json(), **options))
    content, left_out = table_content(frame)
    save_panel(tmp_path, new_panel("table", EVIL, "alt of the table", content, left_out=left_out, **options))
    return tmp_path


def test_without_panels_it_says_how_to_pin_one(open_view: Open, said: Said, tmp_path: Path) -> None:
    at = open_view("builder", tmp_path)
    assert "Nothing is pinned yet" in said(at) and at.code[0].value == "cotlens report build RUN"


def test_a_button_below_a_table_and_a_chart_pins_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, demo_run: Path
) -> None:
    monkeypatch.setenv(ROOTS_VARIABLE, json.dumps([str(tmp_path), str(demo_run)]))
    at = AppTest.from_string("from dashboards.views import probes\nprobes.show()", default_timeout=90)
    at.session_state[PAGE] = "probes"
    st.cache_resource.clear()
    at.run()
    for key in ("pin_map", "pin_cell-scores"):
        at.button(key=key).click().run()
        assert not at.exception, at.exception
    panels, notes = panels_of(tmp_path)
    assert not notes and [panel.kind for panel in panels.values()] == ["chart", "table"]
    chart, table = panels.values()
    assert (
        chart.link.startswith("/probes") and "import cotlens" in chart.python and chart.command.startswith("cotlens ")
    )
    assert {"x", "y"} <= set(chart.frame.columns) and "q (false-discovery rate)" in table.frame.columns


def test_the_page_shows_and_orders_what_is_pinned(open_view: Open, said: Said, pinned: Path) -> None:
    at = open_view("builder", pinned)
    assert not at.error and EVIL in said(at)
    assert [header.value.startswith(f"{k}") for k, header in enumerate(at.header, 1)] == [True, True]
    first, second = panels_of(pinned)[0]
    next(button for button in at.button if button.label == "Move 2 up").click().run()
    assert list(panels_of(pinned)[0]) == [second, first]
    next(button for button in at.button if button.label == "Remove 1").click().run()
    assert list(panels_of(pinned)[0]) == [first]


def test_the_html_needs_no_network_and_holds_text_as_text(pinned: Path) -> None:
    panels = list(panels_of(pinned)[0].values())
    html = html_of(panels, EVIL, "cotlens dash 'a b'")
    assert EVIL not in html and html.count("&lt;img src=x onerror=alert(1)&gt;") >= 3
    assert "default-src 'none'" in html and "<script src" not in html and "<link" not in html
    for words in ("cotlens 0", "cores, Python", "cotlens dash &#39;a b&#39;", "alt of the table"):
        assert words in html
    assert "nan" not in html.rpartition("<tbody>")[2].partition("</tbody>")[0]


def test_the_notebook_is_valid_and_has_a_cell_for_each(pinned: Path) -> None:
    panels = list(panels_of(pinned)[0].values())
    notebook = nbformat.reads(notebook_of(panels, "Report"), as_version=4)
    nbformat.validate(notebook)
    assert [cell.source for cell in notebook.cells if cell.cell_type == "code"] == [panel.python for panel in panels]


def test_a_long_table_says_what_was_left_out() -> None:
    content, left_out = table_content(pd.DataFrame({"n": range(MOST_ROWS + 7)}))
    assert left_out == 7 and len(json.loads(content)["data"]) == MOST_ROWS


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"kind": 3}', "[" * 100_000])
def test_a_damaged_panel_is_named_and_hides_no_other(open_view: Open, said: Said, pinned: Path, content: str) -> None:
    (pinned / "panels" / "0.json").write_text(content, encoding="utf-8")
    at = open_view("builder", pinned)
    assert not at.error and "0.json cannot be read" in said(at) and len(at.header) == 2


def test_the_points_of_a_chart_are_its_numbers() -> None:
    grid = np.arange(6.0).reshape(2, 3)
    figure = go.Figure(
        [go.Scatter(x=["a", "b", "c"], y=np.array([0.5, np.nan, 1.0]), name="p"), go.Heatmap(z=grid, x=[1, 2, 3])]
    )
    points = chart_points(figure.to_json())
    line, cells = (points[points["series"] == name] for name in ("p", "trace 2"))
    assert line["x"].tolist() == ["a", "b", "c"] and line["y"].isna().tolist() == [False, True, False]
    assert cells["z"].tolist() == grid.ravel().tolist() and cells["x"].tolist() == [1, 2, 3, 1, 2, 3]


def test_order_is_exchanged(pinned: Path) -> None:
    first, second = panels_of(pinned)[0]
    swap_order([first, second])
    assert list(panels_of(pinned)[0]) == [second, first]
