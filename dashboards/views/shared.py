"""What every page shares: the run, empty states, tables with CSV, and code to copy."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from dashboards.launch import RUN_VARIABLE
from dashboards.runs import RUN_FILE, Run, newest_run
from interp.errors import CotlensError, StoreError

HOW_IT_THINKS = {
    "continuous": "Between question and answer the model writes nothing: each step is one hidden state, fed back as "
    "the next input.",
    "pause": "Between question and answer the model writes nothing: each step has a pause token, and nothing is fed "
    "back.",
    "text": "The model writes its steps as text, so its thoughts can also be read by anyone.",
}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~:$&])")


def as_text(text: object) -> str:
    """`text` for Streamlit's Markdown, so that it shows as it is: no links, images, colours or formulas."""
    return _MARKDOWN.sub(r"\\\1", str(text))


def with_run(body: Callable[[Run], None], *, heading: str = "") -> None:
    """Call `body` with the run, or say what is wrong with it and which command helps, under `heading`."""
    folder: Path | None = None
    try:
        folder = _folder()
        body(_open(str(folder), stamp(folder)))
    except CotlensError as error:
        _empty(heading, str(error), folder, unusable=isinstance(error, StoreError))
    except Exception as error:
        if os.environ.get("COTLENS_DEBUG"):
            raise
        detail = str(error).strip().splitlines()[0] if str(error).strip() else ""
        _empty(
            heading,
            f"this page cannot be made from the run ({type(error).__name__}: {detail}). Another version may have "
            "made it, or it is damaged. Set COTLENS_DEBUG=1 to see where.",
            folder,
            unusable=True,
        )


def _folder() -> Path:
    given = os.environ.get(RUN_VARIABLE)
    return Path(given) if given else newest_run()


def stamp(folder: Path) -> int:
    """When the run was last written, so that a run made again is read again."""
    try:
        return (folder / RUN_FILE).stat().st_mtime_ns
    except OSError:
        return 0


@st.cache_resource(max_entries=4, show_spinner="Opening the run …")
def _open(folder: str, stamp: int) -> Run:
    """One `Run` for all sessions: its tables are read once, and pages must not change them."""
    return Run(folder)


def _empty(heading: str, said: str, folder: Path | None, *, unusable: bool) -> None:
    if heading:
        st.title(heading)
    st.error(as_text(said), icon=":material/folder_off:")
    if unusable:
        st.write("This fills the page:")
        st.code(demo_command(folder, _asked(folder)), language="bash")


def _asked(folder: Path | None) -> dict[str, Any]:
    """What `run.json` says was asked for, as far as it can be read."""
    try:
        found = json.loads((folder / RUN_FILE).read_text()) if folder else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def demo_command(folder: Path | None, asked: dict[str, Any]) -> str:
    """The command that makes this run, or goes on with it."""
    parts = ["cotlens", "demo"]
    if folder is not None:
        parts += ["--out", str(folder)]
    for option, key in (("--organism", "organism"), ("--n", "n_problems"), ("--seed", "seed")):
        if asked.get(key) is not None:
            parts += [option, str(asked[key])]
    return shlex.join(parts)


def table(
    frame: pd.DataFrame,
    name: str,
    *,
    alt: str,
    config: dict[str, Any] | None = None,
    height: int | None = None,
) -> None:
    """A sortable table with its CSV; numbers show three digits unless `config` says otherwise."""
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
    """A button that downloads `frame` as NAME.csv with all its digits; lists become words with blanks between."""
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
    """The same in Python and on the command line, each with a button that copies it."""
    left, right = st.columns(2)
    with left:
        st.caption("Copy as Python")
        st.code(python, language="python", wrap_lines=True)
    with right:
        st.caption("Copy as command")
        st.code(command, language="bash", wrap_lines=True)


def opening(run: Run) -> str:
    """The lines of Python that open this run."""
    return f"from dashboards.runs import Run\n\nrun = Run({str(run.path)!r})\n"


def number(value: Any, digits: int = 3) -> str:
    """`value` with three digits, or a dash where there is none."""
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def interval(pair: Any) -> str:
    """A 95 % interval in brackets, or nothing."""
    return f"[{pair[0]:.3f}, {pair[1]:.3f}]" if pair and pair[0] is not None else ""


def cut(text: str, width: int = 90) -> str:
    """`text` on one line of at most `width` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def whose(run: Run) -> None:
    """One line that says which run a page is about."""
    info = run.info
    st.caption(as_text(f"{info['organism']} · {info['n_problems']} problems of task {info['task']} · {run.path}"))


def chart(figure: Any, *, key: str, alt: str, height: int | None = None) -> None:
    """A Plotly figure as wide as its place, without buttons that a viewer does not need."""
    # The word at a line stands right of the plot, where no bar hides it.
    figure.update_annotations(x=1, xanchor="left", yanchor="middle")
    figure.update_layout(margin={"r": 60}, **({"height": height} if height else {}))
    st.plotly_chart(figure, key=key, alt=alt, config={"displaylogo": False, "modeBarButtonsToRemove": ["lasso2d"]})
