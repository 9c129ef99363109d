"""Traces: filter, sort and search all that a model wrote, and open one."""

from __future__ import annotations

import shlex
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboards.artifacts.finding import Artifact
from dashboards.artifacts.trace_file import TraceFile
from dashboards.views import opened, shared
from dashboards.views.cards import question_html
from dashboards.views.shared import as_text
from dashboards.views.trace_filters import FILTERS, filtered
from dashboards.views.url import View, go, page_link
from interp.errors import counted

SHOWN = 500  # rows that the browser gets; filters reach the others
_LONG = 20_000  # characters of a text that are shown


def show() -> None:
    """Draw the page."""
    st.title("Traces")
    view = View()
    opened.with_artifact(view, "traces", lambda artifact: _page(artifact, view))


def _page(artifact: Artifact, view: View) -> None:
    file = opened.traces_of(artifact)
    table = file.table
    st.caption(as_text(f"{counted(len(table), 'trace')} of {file.reasoner} · {file.path}"))
    kept = filtered(artifact, file, table, view)
    st.caption(
        as_text(
            f"{len(kept):,} of {counted(len(table), 'trace')} match; {int(kept['correct'].sum()):,} of these answer right."
            + (f" Shown: the first {SHOWN} of them." if len(kept) > SHOWN else "")
        )
    )
    if kept.empty:
        view.ignore("trace")
        st.info("No trace matches these filters.")
        st.button("Show all traces", on_click=_clear)
    else:
        _list(kept.head(SHOWN))
        shared.csv_button(kept, "traces")
        _chosen(artifact, file, table, kept, view)
    view.check_rest()
    st.header("Code")
    shared.copy_as(
        f"import cotlens\n\ntraces = cotlens.TraceSet.from_parquet({str(file.path)!r})\ntraces.table()",
        shlex.join(["cotlens", "dash", str(artifact.path)]),
    )


def _clear() -> None:
    for key in (*FILTERS, "trace"):
        go(key, None)


def _list(kept: pd.DataFrame) -> None:
    """Draw the list; a click on a row opens its trace."""
    key = "trace_list"
    shown = kept.assign(correct=np.where(kept["correct"], "✓", "✗"))
    columns = ["trace", "question", "wrote", "answer", "gold", "correct", "n_steps", "tokens", "thoughts", "entropy"]
    st.dataframe(
        shown[columns],
        key=key,
        hide_index=True,
        placeholder="–",
        height=min(360, 36 * (len(kept) + 1)),
        on_select=lambda: _select(key, kept["trace"]),
        selection_mode="single-row",
        alt="Traces with their questions, what the model wrote, and whether the answer is right",
        column_config={
            # In pixels, so that all of them fit in a window of 1280.
            "trace": st.column_config.NumberColumn(width=60),
            "question": st.column_config.TextColumn(width=350),
            "wrote": st.column_config.TextColumn("the model wrote", width=170),
            "answer": st.column_config.TextColumn(width=65),
            "gold": st.column_config.TextColumn(width=65),
            "correct": st.column_config.TextColumn("right", width=55),
            "n_steps": st.column_config.NumberColumn("steps", width=60),
            "tokens": st.column_config.NumberColumn(width=65),
            "thoughts": st.column_config.NumberColumn(width=75),
            "entropy": st.column_config.NumberColumn("entropy (nats)", format="%.3f", width=110),
        },
    )


def _select(key: str, traces: pd.Series) -> None:
    rows = st.session_state[key].selection.rows
    go("trace", str(traces.iloc[rows[0]]) if rows and rows[0] < len(traces) else None)


def _chosen(artifact: Artifact, file: TraceFile, table: pd.DataFrame, kept: pd.DataFrame, view: View) -> None:
    """Draw the trace of the URL; without one, the first of the list."""
    numbers = set(map(str, table["trace"]))
    number = view.valid("trace", str(kept["trace"].iloc[0]), lambda text: text in numbers, why_not="no trace here")
    row = int(np.flatnonzero(table["trace"].to_numpy() == int(number))[0])
    trace = file.trace(row)
    st.header(f"Trace {number}")
    st.html(question_html(trace))
    wrote = str(table["wrote"].iloc[row])
    if wrote and wrote != trace.answer:
        cut = f"\n… {len(wrote) - _LONG:,} more characters are in the file" if len(wrote) > _LONG else ""
        st.html(f"<div class='cot-wrote' tabindex='0'>{escape(wrote[:_LONG] + cut)}</div>")
    else:
        st.caption("The model writes nothing but its answer.")
    page_link("explorer", artifact.name, "Every layer of it, in the trace explorer", trace=number)
    if artifact.kind == "run":
        page_link("latents", artifact.name, "What can be read in its thoughts", problem=number)
    with st.expander(f"Its {counted(len(trace), 'position')}", icon=":material/table_rows:"):
        shared.table(_positions(trace), f"trace-{number}", alt="Every position of the trace with its token and entropy")


def _positions(trace: Any) -> pd.DataFrame:
    """Return one row for each position of a trace."""
    return pd.DataFrame(
        {
            "position": range(len(trace)),
            "token": trace.tokens,
            "place": trace.places,
            "channel": trace.channel,
            "step": trace.step,
            "entropy": trace.entropy,
            "logprob": trace.logprob,
        }
    )
