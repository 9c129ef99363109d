"""The app that Streamlit runs: pages over everything below some folders. Start it with `cotlens dash`."""

from __future__ import annotations

import importlib

import streamlit as st

from dashboards.pages import PAGES
from dashboards.views import home, opened
from dashboards.views.url import OPEN, page_link, register

st.set_page_config(page_title="cotlens", layout="wide")
# Pages have no icons, because browsers would fetch them from another host as the picture of the tab.
pages = {"home": st.Page(home.show, title="Home", url_path="home", default=True)}
for row in PAGES:
    module = importlib.import_module(f"dashboards.views.{row.name}")
    pages[row.name] = st.Page(module.show, title=row.title, url_path=row.name)
chosen = st.navigation(list(pages.values()), position="hidden")
register(pages)
# Links of one's own, because those of `st.navigation` lose what the page shows.
with st.container(horizontal=True, key="pages"):
    for name, page in pages.items():
        page_link(name, opened.showable(name, st.query_params.get(OPEN)), page.title)
chosen.run()
