"""Trace explorer: the transcript of one trace beside a grid of layers by positions, and a card of the locked cell."""

from __future__ import annotations

import streamlit as st

from dashboards.artifacts.finding import Artifact
from dashboards.explore import choosing, drawing
from dashboards.views import opened
from dashboards.views.shared import as_text
from dashboards.views.url import View
from interp.errors import counted


def show() -> None:
    """Draw the page."""
    st.title("Trace explorer")
    view = View()
    opened.with_artifact(view, "explorer", lambda artifact: _page(artifact, view))


def _page(artifact: Artifact, view: View) -> None:
    file = opened.traces_of(artifact)
    st.caption(as_text(f"{counted(len(file), 'trace')} of {file.reasoner} · {file.path}"))
    choice = choosing.choose(artifact, view)
    drawing.draw(artifact, choice, view)
