"""Below the grid of the trace explorer: the means of the reading and of its control, and the code for the same."""

from __future__ import annotations

import shlex
from typing import Any

import streamlit as st

from dashboards.artifacts.finding import Artifact
from dashboards.components.drawn import is_drawn
from dashboards.explore import opening
from dashboards.explore.choosing import Choice, identity, sources_of
from dashboards.explore.controls import SAMPLE, by_row
from dashboards.explore.read_outs import Pair
from dashboards.explore.screen import row_label
from dashboards.explore.windows import Window
from dashboards.views import opened, shared
from dashboards.views.shared import as_text


# Its table and code take the browser longer than the grid, which therefore comes first. What a fragment is given is kept
# as long as the page is open, so the model is not among it.
@st.fragment
def draw_below(artifact: Artifact, choice: Choice, needs_model: bool, part: Window) -> None:
    """Draw what is measured beside the grid, once the browser has drawn the grid.

    Args:
        artifact: What is open.
        choice: What the controls chose.
        needs_model: Whether the read-out needs the model.
        part: The window.
    """
    if not is_drawn():
        return

    def draw_part() -> None:
        store = choice.material.store
        model = opening.model_of(store) if needs_model and store is not None else None
        _compared(choice, sources_of(choice, model), part)
        _code(artifact, choice)

    opened.guarded(artifact, draw_part)


def _compared(choice: Choice, pair: Pair, part: Window) -> None:
    """Draw the mean of the reading and of its control at each row."""
    st.header("Beside its control" if choice.other is None else "Beside the other read-out")
    if pair.other is None:
        st.caption("There is no other trace in this file, so this read-out has no control here.")
        return
    frame = _means(identity(choice, part), pair, part)
    better = frame[(frame["low"] > 0) | (frame["high"] < 0)]
    worse = frame[frame["difference"] < 0]
    if choice.read_out.unit == "probability" and len(worse) == len(frame) and len(frame):
        st.warning(
            as_text(f"What it is compared with ({pair.label}) has higher values at every row."),
            icon=":material/balance:",
        )
    st.caption(
        as_text(
            f"{choice.read_out.label} against {pair.label}: means over the positions on screen (at most {SAMPLE}, evenly "
            f"spread); intervals are of the difference, 95 %, over positions of this one trace. At {len(better)} of "
            f"{len(frame)} rows the interval leaves zero out."
        )
    )
    shown = frame.assign(row=[row_label(name) for name in frame["row"]])
    shared.table(shown, "by-row", alt="Means of the reading and of its control at each row, with intervals")


@st.cache_resource(max_entries=16, show_spinner=False)
def _means(identity: tuple[Any, ...], _pair: Pair, _part: Window) -> Any:
    return by_row(_pair, _part.positions)


def _code(artifact: Artifact, choice: Choice) -> None:
    store, row = choice.material.store, choice.material.row
    python = f"import cotlens\n\ntrace = cotlens.TraceSet.part({str(choice.material.file.path)!r}, {row}, {row + 1})[0]"
    if store is not None:
        python += f"\nstore = cotlens.Store({store.name!r})\nacts = store.trace_acts({row})"
    st.header("Code")
    shared.copy_as(python, shlex.join(["cotlens", "dash", str(artifact.path)]))
