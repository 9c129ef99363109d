"""Parts of every page: the run, empty states, tables with CSV, and code to copy."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from dashboards.describe import model_name, problems_of, run_command, study_of
from dashboards.launch import roots_of_environment
from dashboards.record import RUN_FILE
from dashboards.run_info import read_info
from dashboards.runs import Run, newest_run
from interp.errors import CotlensError, StoreError

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~:$&])")
# What Streamlit replaces after Markdown is read, so that no backslash helps: bare addresses, icons, arrows and dashes.
_REPLACED = re.compile(r":(?=\S)|@|w(?=ww\.)|-(?=[->])|<(?=-)|[<>!~=](?==)", re.IGNORECASE)
_JOINER = "\u2060"  # has no width, and no line breaks there


def as_text(text: object) -> str:
    """Escape `text` for Streamlit's Markdown: it then shows as it is, without links, images, colours or formulas."""
    return _MARKDOWN.sub(r"\\\1", _REPLACED.sub(rf"\g<0>{_JOINER}", str(text)))


def with_run(body: Callable[[Run], None], *, heading: str = "") -> None:
    """Call `body` with the run; where that fails, show the error and the command that helps.

    Args:
        body: Draws the page.
        heading: Title of the page in case of an error; for pages that draw none before.
    """
    folder: Path | None = None
    try:
        folder = _folder()
        body(_open(str(folder), last_written(folder)))
    except CotlensError as error:
        _empty(heading, str(error), folder, unusable=isinstance(error, StoreError))
    except Exception as error:
        if os.environ.get("COTLENS_DEBUG"):
            raise
        detail = str(error).strip().splitlines()[0] if str(error).strip() else ""
        _empty(
            heading,
            f"this page cannot be drawn from the run ({type(error).__name__}: {detail}). The run is damaged, or another "
            "version made it. Set COTLENS_DEBUG=1 to see where.",
            folder,
            unusable=True,
        )


def _folder() -> Path:
    """Return the folder of the run to show."""
    root = roots_of_environment()[0]
    return root if (root / RUN_FILE).exists() or not root.is_dir() else newest_run(root)


def last_written(folder: Path) -> int:
    """Return when the run was last written, so that a run that is made again is read again."""
    try:
        return (folder / RUN_FILE).stat().st_mtime_ns
    except OSError:
        return 0


@st.cache_resource(max_entries=4, show_spinner="Opening the run …")
def _open(folder: str, stamp: int) -> Run:
    """Open a run once for all sessions. Pages must not change its tables."""
    return Run(folder)


def _empty(heading: str, message: str, folder: Path | None, *, unusable: bool) -> None:
    """Draw an error, and the command that makes the run."""
    if heading:
        st.title(heading)
    st.error(as_text(message), icon=":material/folder_off:")
    if unusable:
        st.write("Make the run with:")
        st.code(_command(folder), language="bash")


def _command(folder: Path | None) -> str:
    """Return the command that makes the run, or a run of the store or the traces that are there instead."""
    return (study_of(folder) if folder is not None else None) or run_command(folder, _options(folder))


def _options(folder: Path | None) -> dict[str, Any]:
    """Return the options in `run.json`; none where it cannot be read."""
    try:
        return read_info(folder) if folder else {}
    except (StoreError, FileNotFoundError):
        return {}


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
    height: int | None = None,
) -> None:
    """Draw a sortable table with a button for its CSV.

    Args:
        frame: Rows to show. Floats have three decimals by default.
        name: Name of the CSV file.
        alt: Description for screen readers.
        config: Streamlit's configuration of columns.
        height: In pixels; chosen by Streamlit by default.
    """
    columns: dict[str, Any] = {
        str(c): st.column_config.NumberColumn(format="%.3f")
        for c in frame.columns
        if pd.api.types.is_float_dtype(frame[c])
    }
    st.dataframe(
        frame,
        hide_index=True,
        placeholder="–",
        column_config=columns | (config or {}),
        alt=alt,
        height=height if height else "auto",
    )
    csv_button(frame, name)


def csv_button(frame: pd.DataFrame, name: str) -> None:
    """Draw a button that downloads `frame` as NAME.csv with all digits. Lists are joined with blanks."""
    lists = [c for c in frame.columns if frame[c].map(lambda v: hasattr(v, "tolist") and hasattr(v, "__len__")).any()]
    flat = frame.assign(**{c: frame[c].map(lambda v: " ".join(map(str, v))) for c in lists})
    st.download_button(
        f"CSV: {name}, {len(frame)} rows",
        flat.to_csv(index=False),
        file_name=f"{name}.csv",
        mime="text/csv",
        key=f"csv_{name}",
        icon=":material/download:",
        on_click="ignore",
    )


def copy_as(python: str, command: str) -> None:
    """Draw the same in Python and as a command, each with a button that copies it."""
    left, right = st.columns(2)
    with left:
        st.caption("Copy as Python")
        st.code(python, language="python", wrap_lines=True)
    with right:
        st.caption("Copy as command")
        st.code(command, language="bash", wrap_lines=True)


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


def chart(figure: Any, *, key: str, alt: str, height: int | None = None) -> None:
    """Draw a Plotly figure over the whole width.

    Args:
        figure: The figure.
        key: Name of the element in Streamlit.
        alt: Description for screen readers.
        height: In pixels; the figure's own by default.
    """
    # The label of a line is right of the plot, where no bar hides it.
    figure.update_annotations(x=1, xanchor="left", yanchor="middle")
    figure.update_layout(margin={"r": 60}, **({"height": height} if height else {}))
    st.plotly_chart(figure, key=key, alt=alt, config={"displaylogo": False, "modeBarButtonsToRemove": ["lasso2d"]})
