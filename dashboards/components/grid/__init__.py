"""A grid of rows by positions on one canvas, with a transcript beside it and a minimap above.

The browser draws bytes (`dashboards.explore.cells.pack`) and answers with events: a cell that is locked or unlocked, a
zoom, a part of the trace to show. The page keeps all state in its URL; nothing is kept here. Text of a model is drawn as
text only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

_HERE = Path(__file__).parent
NAME = "cotlens_grid"


@cache
def _component() -> Any:
    """Return the component; Streamlit registers it when it is first drawn."""
    script = (_HERE / "grid.js").read_text(encoding="utf-8")
    style = (_HERE / "grid.css").read_text(encoding="utf-8")
    html = (_HERE / "grid.html").read_text(encoding="utf-8")
    return st.components.v2.component(NAME, html=html, css=style, js=script)


def grid(content: bytes, *, key: str, on_event: Callable[[dict[str, Any]], None]) -> None:
    """Draw a grid.

    Args:
        content: Header and cells, packed.
        key: Name of the element in Streamlit.
        on_event: Called with what the reader did before the page is drawn again: `kind` is `lock`, `unlock`, `zoom`,
            `start` or `shift`.
    """

    def answer() -> None:
        event = (st.session_state.get(key) or {}).get("event")
        if isinstance(event, dict):
            on_event(event)

    _component()(data=content, key=key, on_event_change=answer)
