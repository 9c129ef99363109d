"""The app that Streamlit runs: three pages over one run. Start it with `cotlens dash`."""

from __future__ import annotations

import streamlit as st

from dashboards.views import home, latents, probes

st.set_page_config(page_title="cotlens", layout="wide")
# Pages have no icons, because browsers would fetch them from another host as the picture of the tab.
latents_page = st.Page(latents.show, title="Continuous latents", url_path="latents")
probes_page = st.Page(probes.show, title="Probes", url_path="probes")


def home_page() -> None:
    """Draw the home page, with a link to the page of latents."""
    home.show(latents_page)


st.navigation([st.Page(home_page, title="Home", default=True), latents_page, probes_page], position="top").run()
