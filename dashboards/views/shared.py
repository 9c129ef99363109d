"""Parts of every page: text, tables with CSV, charts, and code to copy."""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from dashboards.describe import model_name, problems_of
from dashboards.runs import Run
from dashboards.views.pin import CODE, pin_button
from interp.errors import counted
from interp.runtime import palette

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~:$&])")
# What Streamlit replaces after Markdown is read, so that no backslash helps: bare addresses, icons, arrows and dashes.
_REPLACED = re.compile(r":(?=\S)|@|w(?=ww\.)|-(?=[->])|<(?=-)|[<>!~=](?==)", re.IGNORECASE)
_WHOLE = 30  # rows of a table that is drawn whole
_LIGHT = "#e6e6e6"
_JOINER = "\u2060"  # has no width, and no line breaks there


def as_text(text: object) -> str:
    """Escape `text` for Streamlit's Markdown: it then shows as it is, without links, images, colours or formulas."""
    return _MARKDOWN.sub(r"\\\1", _REPLACED.sub(rf"\g<0>{_JOINER}", str(text)))


def capital(text: str) -> str:
    """Return a text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def skipped_stages(info: dict[str, Any]) -> None:
    """Draw the stages of the study that could not be done, and why."""
    for entry in info.get("skipped", []):
        st.info(as_text(f"No {entry['stage']}: {entry['why']}"), icon=":material/block:")


def table(
    frame: pd.DataFrame,
    name: str,
    *,
    alt: str,
    config: dict[str, Any] | None = None,
    pinned: bool = False,
) -> None:
    """Draw a table with a button for its CSV: a short one whole, a long one sortable.

    Args:
        frame: Rows to show. Floats have three decimals by default.
        name: Name of the CSV file.
        alt: Description for screen readers.
        config: Streamlit's configuration of columns.
        pinned: Whether it is pinned already, and so needs no button for that.
    """
    if len(frame) <= _WHOLE:
        # Its words wrap, so that nothing is cut off on a narrow screen or in print.
        st.table(_as_words(frame, config or {}), hide_index=True)
    else:
        columns: dict[str, Any] = {
            str(c): st.column_config.NumberColumn(format="%.3f", width="small")
            for c in frame.columns
            if pd.api.types.is_float_dtype(frame[c])
        }
        st.dataframe(frame, hide_index=True, placeholder="–", column_config=columns | (config or {}), alt=alt)
    with st.container(horizontal=True):
        csv_button(frame, name)
        if not pinned:
            pin_button(name, alt, frame)


def _as_words(frame: pd.DataFrame, config: dict[str, Any]) -> pd.DataFrame:
    """Return a table of texts that Streamlit shows as they are, with the labels of its columns."""
    words = frame.astype(object).map(lambda value: as_text(number(value) if isinstance(value, float) else value))
    labels = {column: (config.get(str(column)) or {}).get("label") or str(column) for column in frame.columns}
    return words.rename(columns={column: as_text(label) for column, label in labels.items()})


def csv_button(frame: pd.DataFrame, name: str) -> None:
    """Draw a button that downloads `frame` as NAME.csv with all digits. Lists are joined with blanks."""

    def content() -> str:
        lists = [c for c in frame if frame[c].map(lambda v: hasattr(v, "tolist") and hasattr(v, "__len__")).any()]
        return frame.assign(**{c: frame[c].map(lambda v: " ".join(map(str, v))) for c in lists}).to_csv(index=False)

    # Written when the button is pressed, because a list of many traces takes seconds.
    st.download_button(
        f"CSV: {name}, {counted(len(frame), 'row')}",
        content,
        file_name=f"{name}.csv",
        mime="text/csv",
        key=f"csv_{name}",
        icon=":material/download:",
        on_click="ignore",
    )


def copy_as(python: str, command: str) -> None:
    """Draw the same in Python and as a command, each with a button that copies it."""
    st.session_state[CODE] = (python, command)
    left, right = st.columns(2)
    with left:
        st.caption("Copy as Python")
        st.code(python, language="python", wrap_lines=True)
    with right:
        st.caption("Copy as command")
        st.code(command, language="bash", wrap_lines=True)


def command(words: Sequence[str | Path]) -> None:
    """Draw a command to copy, quoted for a shell."""
    st.code(shlex.join(map(str, words)), language="bash", wrap_lines=True)


def opening(run: Run) -> str:
    """Return the lines of Python that open this run."""
    return f"import cotlens\n\nrun = cotlens.Run({str(run.path)!r})\n"


def number(value: Any, digits: int = 3) -> str:
    """Return `value` with three decimals, or a dash where there is none."""
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def cut(text: str, width: int = 90) -> str:
    """Return `text` on one line of at most `width` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def run_caption(run: Run) -> None:
    """Draw a line with model, problems and folder of the run."""
    info = run.info
    st.caption(as_text(f"{model_name(info)} · {problems_of(info)} · {run.path}"))


def _light_marks(figure: Any) -> None:
    """Draw the black marks and lines of a figure, and intervals without a colour, in a light grey, for a dark page."""
    for trace in figure.data:
        # Plotly draws those of bars in a dark blue.
        if trace.type == "bar" and trace.error_y.color is None:
            trace.error_y.color = _LIGHT
        for part in (getattr(trace, "marker", None), getattr(trace, "line", None)):
            # A colour may be one for each point.
            if part is not None and isinstance(part.color, str) and part.color == palette.BLACK:
                part.color = _LIGHT
        outline = getattr(getattr(trace, "marker", None), "line", None)
        if outline is not None and isinstance(outline.color, str) and outline.color == palette.WHITE:
            outline.color = palette.BLACK


def chart(
    figure: Any,
    *,
    key: str,
    alt: str,
    height: int | None = None,
    on_select: Callable[[], None] | None = None,
    pinned: bool = False,
) -> None:
    """Draw a Plotly figure over the whole width.

    Args:
        figure: The figure.
        key: Name of the element in Streamlit.
        alt: Description for screen readers.
        height: In pixels; the figure's own by default.
        on_select: Called after a click on a point, with the points in the element's state.
        pinned: Whether it is pinned already, and so needs no button for that.
    """
    # The label of a line over the whole plot is right of it, where no bar hides it.
    figure.update_annotations(x=1, xanchor="left", yanchor="middle", selector={"xref": "x domain"})
    figure.update_layout(margin={"r": 60}, **({"height": height} if height else {}))
    original = figure
    if st.context.theme.type == "dark":
        figure = copy.deepcopy(figure)
        _light_marks(figure)
    config = {"displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "select2d"]}
    if on_select is None:
        st.plotly_chart(figure, key=key, alt=alt, config=config)
    else:
        st.plotly_chart(figure, key=key, alt=alt, config=config, on_select=on_select, selection_mode="points")
    if not pinned:
        pin_button(key, alt, original)
