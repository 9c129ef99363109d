"""The app that Streamlit runs: pages over everything below some folders. Start it with `cotlens dash`."""

from __future__ import annotations

import streamlit as st

from dashboards.serving.page_paths import PAGES as PAGE_TITLES
from dashboards.views import home, latents, opened, overview, probes, traces
from dashboards.views.url import OPEN, page_link, register

st.set_page_config(page_title="cotlens", layout="wide")
# Pages have no icons, because browsers would fetch them from another host as the picture of the tab.
PAGES = {
    name: st.Page(module.show, title=PAGE_TITLES[name], url_path=name)
    for name, module in {"overview": overview, "traces": traces, "latents": latents, "probes": probes}.items()
}
HOME = st.Page(home.show, title="Home", url_path="home", default=True)
chosen = st.navigation([HOME, *PAGES.values()], position="hidden")
register({"home": HOME, **PAGES})
# Links of one's own, because those of `st.navigation` lose what the page shows.
with st.container(horizontal=True, key="pages"):
    for name, page in {"home": HOME, **PAGES}.items():
        page_link(name, opened.showable(name, st.query_params.get(OPEN)), page.title)
chosen.run()
