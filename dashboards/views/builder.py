"""Report builder: what was pinned on any page, as one HTML file, as CSV, and as a notebook."""

from __future__ import annotations

import shlex
from pathlib import Path

import streamlit as st

from dashboards.launch import roots_of_environment
from dashboards.pins.export import html_of, notebook_of
from dashboards.pins.panels import FOLDER, Panel, panels_of, remove_panel, swap_order
from dashboards.views import shared
from dashboards.views.shared import as_text
from dashboards.views.url import View

_UNTITLED = "What was found"


def show() -> None:
    """Draw the page."""
    st.title("Report builder")
    view = View()
    view.ignore("open")
    roots = roots_of_environment()
    root = next((root for root in roots if root.is_dir()), None)
    panels: dict[Path, Panel] = {}
    if root is None:
        st.info("Panels are kept in a folder, and this dashboard shows single files. Start it over a folder:")
        st.code("cotlens dash runs", language="bash", wrap_lines=True)
        view.ignore("title")
    else:
        panels, notes = panels_of(root)
        for note in notes:
            st.warning(as_text(note), icon=":material/broken_image:")
        title = view.text("Title of the report", "title", placeholder=_UNTITLED) or _UNTITLED
        _downloads(list(panels.values()), title, shlex.join(["cotlens", "dash", *map(str, roots)]), root)
    view.check_rest()
    for number, (path, panel) in enumerate(panels.items()):
        _panel(number, path, panel, list(panels))


def _downloads(panels: list[Panel], title: str, command: str, root: Path) -> None:
    if not panels:
        st.info(
            as_text(
                f"Nothing is pinned yet. Below each chart and table of the other pages is a button that pins it; panels are "
                f"kept in {root / FOLDER}. A finished run has a report of its own:"
            )
        )
        st.code("cotlens report build RUN", language="bash", wrap_lines=True)
        return
    with st.container(horizontal=True):
        st.download_button(
            f"Report: HTML, {len(panels)} panels",
            lambda: html_of(panels, title, command),
            file_name="report.html",
            mime="text/html",
            icon=":material/download:",
            type="primary",
            on_click="ignore",
        )
        st.download_button(
            "Notebook: a cell for each",
            lambda: notebook_of(panels, title),
            file_name="report.ipynb",
            mime="application/x-ipynb+json",
            icon=":material/download:",
            on_click="ignore",
        )
    st.caption(
        "The HTML needs no network, and prints on upright pages. A chart as PNG: the camera in the bar above it, here or "
        "in the report."
    )


def _panel(number: int, path: Path, panel: Panel, paths: list[Path]) -> None:
    """Draw one panel and what can be done with it."""
    st.header(as_text(f"{number + 1}. {panel.title}"))
    st.caption(as_text(f"{panel.alt}. Pinned {panel.made}, cotlens {panel.version}, from {panel.link}"))
    frame = panel.frame
    if panel.kind == "chart":
        import plotly.io

        figure = plotly.io.from_json(panel.content, skip_invalid=True)
        shared.chart(figure, key=f"panel-{path.stem}", alt=panel.alt, pinned=True)
        shared.csv_button(frame, f"panel-{number + 1}")
    else:
        shared.table(frame, f"panel-{number + 1}", alt=panel.alt, pinned=True)
        if panel.left_out:
            st.caption(f"{panel.left_out} more rows were not kept.")
    with st.container(horizontal=True):
        st.button(
            f"Move {number + 1} up",
            key=f"up_{path.stem}",
            disabled=number == 0,
            on_click=swap_order,
            args=(paths[number - 1 : number + 1],),
            icon=":material/arrow_upward:",
        )
        st.button(
            f"Remove {number + 1}",
            key=f"remove_{path.stem}",
            on_click=remove_panel,
            args=(path,),
            icon=":material/delete:",
        )
    if panel.python or panel.command:
        with st.expander("As a notebook cell and as a command", icon=":material/code:"):
            shared.copy_as(panel.python, panel.command)
