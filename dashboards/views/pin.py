"""The button that pins a chart or a table for the report."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from dashboards.launch import roots_of_environment
from dashboards.pins.panels import new_panel, save_panel, table_content
from interp.errors import CotlensError

#: In the session: the page that is drawn, and the Python and command that show the same as it.
PAGE, CODE = "page_now", "code_now"


def pin_button(name: str, alt: str, content: Any) -> None:
    """Draw the button; none where there is no folder to keep panels in, or a page is drawn without the app.

    Args:
        name: Name of the element on its page.
        alt: What it shows.
        content: A Plotly figure or a table.
    """
    if PAGE not in st.session_state or not any(root.is_dir() for root in roots_of_environment()):
        return
    st.button(
        f"Pin {name}",
        key=f"pin_{name}",
        help="Keep it, as it is now, for the report builder.",
        icon=":material/keep:",
        type="tertiary",
        on_click=_pin,
        args=(name, alt, content),
    )


def _pin(name: str, alt: str, content: Any) -> None:
    is_table = isinstance(content, pd.DataFrame)
    text, left_out = table_content(content) if is_table else (content.to_json(), 0)
    title = (content.layout.title.text if not is_table else None) or name.replace("-", " ").replace("_", " ")
    page = st.session_state.get(PAGE, "")
    python, command = st.session_state.get(CODE, ("", ""))
    query = urlencode(list(st.query_params.items()))
    panel = new_panel(
        "table" if is_table else "chart",
        title,
        alt,
        text,
        link=f"/{page}?{query}" if query else f"/{page}",
        python=python,
        command=command,
        left_out=left_out,
    )
    try:
        save_panel(next(root for root in roots_of_environment() if root.is_dir()), panel)
    except CotlensError as error:
        st.toast(str(error).replace(":", "\\:"), icon=":material/error:")
        return
    st.toast("Pinned. The report builder shows it.", icon=":material/keep:")
