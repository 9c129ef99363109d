"""The app that Streamlit runs: pages over everything below some folders. Start it with `cotlens dash`."""

from __future__ import annotations

import importlib
from pathlib import Path

import streamlit as st

from dashboards.components.keys import draw_keys
from dashboards.pages import all_pages
from dashboards.serving.collecting import settle
from dashboards.views import home, opened
from dashboards.views.pin import CODE, PAGE
from dashboards.views.url import OPEN, page_link, register


@st.cache_resource(max_entries=1, show_spinner=False)
def _settle_once() -> None:
    """Leave what all pages import out of the collections after each drawing."""
    settle()


st.set_page_config(page_title="cotlens", layout="wide")
# Pages have no icons, because browsers would fetch them from another host as the picture of the tab.
# Before the browser has said which theme it shows, there is none.
if st.context.theme.type in ("light", "dark"):
    st.html(Path(__file__).with_name("static") / f"{st.context.theme.type}.css")
pages = {"home": st.Page(home.show, title="Home", url_path="home", default=True)}
for row in all_pages()[0]:
    module = importlib.import_module(row.module_name)
    pages[row.name] = st.Page(module.show, title=row.title, url_path=row.name)
_settle_once()
chosen = st.navigation(list(pages.values()), position="hidden")
register(pages)


def draw_links(key: str) -> None:
    """Draw the links to all pages; links of one's own, because those of `st.navigation` lose what the page shows."""
    with st.container(horizontal=True, key=key):
        for name, page in pages.items():
            page_link(name, opened.showable(name, st.query_params.get(OPEN)), page.title, is_menu=True)


shown = st.query_params.get(OPEN)
links, keys = st.columns([12, 1])
with links:
    place = st.empty()
with keys:
    draw_keys()
with place:
    draw_links("pages")
st.session_state[PAGE] = chosen.url_path
st.session_state.pop(CODE, None)
chosen.run()
if st.query_params.get(OPEN) != shown:  # the page has chosen what it shows
    with place:
        draw_links("pages_now")
