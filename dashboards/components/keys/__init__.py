"""Keys that work on every page: `/` goes to the search field, and `?` lists the keys."""

from __future__ import annotations

from importlib.resources import files

import streamlit as st

#: What each key does, in the order of the list.
KEYS = (
    ("/", "go to the search field of the page"),
    ("?", "show or hide this list"),
    ("Tab, Shift + Tab", "go to the next or the previous control"),
    ("Enter, Space", "press a button, follow a link, open a list"),
    ("← → ↑ ↓", "move in a grid, a table, a list or a slider"),
    ("Esc", "leave a list, a grid cell or this window"),
    ("Alt + ←", "go back to the view before"),
)


def _text(name: str) -> str:
    return files("dashboards.components.keys").joinpath(name).read_text(encoding="utf-8")


_component = st.components.v2.component(
    "cotlens_keys", html=_text("keys.html"), css=_text("keys.css"), js=_text("keys.js")
)


def draw_keys() -> None:
    """Draw the button that lists the keys, make them work, and draw the page again when its theme changes."""
    keys = [list(pair) for pair in KEYS]
    _component(key="keys", data={"keys": keys}, height="content", on_theme_change=lambda: None)
