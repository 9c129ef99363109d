"""A page of the dashboard in another package: how many tokens each trace has."""

from __future__ import annotations

import plotly.express as px
import streamlit as st

from dashboards.artifacts.finding import Artifact
from dashboards.pages import Page
from dashboards.views import opened, shared
from dashboards.views.url import View

PAGE = Page("lengths", "Lengths", ("traces", "run"), module="cotlens_example.page")


def show() -> None:
    """Draw the page."""
    st.title("Lengths")
    view = View()

    def body(artifact: Artifact) -> None:
        table = opened.traces_of(artifact).table
        st.caption(f"{len(table)} traces, {table['tokens'].median():.0f} tokens in the median.")
        shared.chart(px.histogram(table, x="tokens"), key="lengths", alt="How many traces have how many tokens")

    opened.with_artifact(view, "lengths", body)
    view.check_rest()
