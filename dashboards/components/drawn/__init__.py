"""Whether a browser has drawn what comes first, so that text and grids need not wait for charts, tables and code.

The browser loads the code for tables, charts and highlighting when it is told to draw the first of them. That takes it
longer than drawing the rest of a page.
"""

from __future__ import annotations

from importlib.resources import files

import streamlit as st

_DRAWN = "is_drawn"  # in the session: a browser that has drawn one page has the code
_component = st.components.v2.component(
    "cotlens_drawn", js=files("dashboards.components.drawn").joinpath("drawn.js").read_text(encoding="utf-8")
)


def is_drawn() -> bool:
    """Return whether the browser has drawn what comes before; where not, the fragment around is drawn again then.

    Call it in a fragment of its own, and draw nothing there where it has not.
    """
    # Without a browser, nothing would tell.
    if st.session_state.get(_DRAWN) or not st.context.headers:
        return True
    _component(key="drawn", height=1, on_drawn_change=_keep)
    return False


def _keep() -> None:
    st.session_state[_DRAWN] = True
