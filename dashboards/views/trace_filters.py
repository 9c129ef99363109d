"""The filters of the page of traces: what the model wrote, how long and how unsure it is, and what a probe reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from dashboards.artifacts.finding import Artifact, last_written
from dashboards.artifacts.trace_file import TraceFile
from dashboards.views import opened
from dashboards.views.effects.one_trace import unsaid
from dashboards.views.url import View
from interp.errors import StoreError, UsageError

ANY = "any"
#: Parameters of the URL that leave traces out.
FILTERS = ("search", "answers", "steps", "tokens", "task", "channel", "entropy", "script", "probe")
_RIGHT = {ANY: None, "right": True, "wrong": False}
_ORDERS = {
    "trace": "number of the trace",
    "tokens": "most tokens first",
    "thoughts": "most thoughts first",
    "entropy": "highest entropy first",
    "n_steps": "most steps first",
}
_CHANNELS = {
    ANY: ANY,
    "thought": "a visible thought",
    "latent": "a latent thought",
    "answer": "an answer",
    "special": "a marker",
}
_SEVERAL = "several"
_PROBE = {
    ANY: ANY,
    "right": "reads every step right",
    "wrong": "reads a step wrong",
    "unsaid": "reads a step that is not said",
    "seen": "was fitted or selected on it",
}


def filtered(artifact: Artifact, file: TraceFile, table: pd.DataFrame, view: View) -> pd.DataFrame:
    """Draw the filters and return the rows of a table of traces that they keep, in the chosen order.

    Args:
        artifact: What is open.
        file: Its traces.
        table: `file.table`.
        view: The page's controls.
    """
    columns = st.columns([4, 2, 2, 2, 3], vertical_alignment="bottom")
    with columns[0]:
        search = view.text("Search all text", "search", placeholder="a word of a question, a thought or an answer")
    with columns[1]:
        answers = view.choice("Answers", list(_RIGHT), "answers", why_not="neither any, right nor wrong")
    with columns[2]:
        numbers = sorted({int(n) for n in table["n_steps"]})
        steps = view.choice("Steps", [ANY, *map(str, numbers)], "steps", why_not="no number of steps here")
    with columns[3]:
        at_least = view.text("Tokens, at least", "tokens", placeholder="0")
    with columns[4]:
        order = view.choice("Order", list(_ORDERS), "order", label_of=_ORDERS.__getitem__, why_not="no order here")
    mask = _of_text_and_task(file, table, view) & _of_readings(artifact, table, view)
    if search:
        mask &= file.search(search)
    if _RIGHT[answers] is not None:
        mask &= table["correct"].to_numpy() == _RIGHT[answers]
    if steps != ANY:
        mask &= table["n_steps"].to_numpy() == int(steps)
    if at_least:
        if not at_least.isdecimal():
            raise UsageError(f"expected a number of tokens, got {at_least}; clear the field, or write digits.")
        mask &= table["tokens"].to_numpy() >= int(at_least)
    kept = table[mask]
    return kept if order == "trace" else kept.sort_values(order, ascending=False, kind="stable")


def _of_text_and_task(file: TraceFile, table: pd.DataFrame, view: View) -> np.ndarray:
    """Draw the filters of task, channel and script and return the rows that they keep."""
    left, middle, right = st.columns(3)
    tasks = list(dict.fromkeys(map(str, table["task"])))
    with left:
        task = view.choice("Task", [ANY, *(t for t in tasks if t != ANY)], "task", why_not="no task of these traces")
    with middle:
        channel = view.choice(
            "With a position that is",
            list(_CHANNELS),
            "channel",
            label_of=_CHANNELS.__getitem__,
            why_not="no channel",
        )
    with right:
        names = sorted(set().union(*file.scripts))
        script = view.choice(
            "Written in letters that are",
            [ANY, *names, *([_SEVERAL] if len(names) > 1 else [])],
            "script",
            label_of=lambda name: {ANY: ANY, _SEVERAL: "of several scripts"}.get(name, name.capitalize()),
            why_not="no script of these traces",
        )
    mask = np.ones(len(table), dtype=bool)
    if task != ANY:
        mask &= table["task"].to_numpy() == task
    if channel != ANY:
        mask &= file.has_channel(channel)
    if script != ANY:
        holds: Callable[[frozenset[str]], bool]
        holds = (lambda own: len(own) > 1) if script == _SEVERAL else (lambda own: script in own)
        mask &= np.fromiter(map(holds, file.scripts), bool, len(table))
    return mask


def _of_readings(artifact: Artifact, table: pd.DataFrame, view: View) -> np.ndarray:
    """Draw the filters of entropy and, for a run, of what its probe reads; return the rows that they keep."""
    left, right, _ = st.columns(3)
    with left:
        entropy = view.text("Mean entropy in nats, at least", "entropy", placeholder="0")
    mask = np.ones(len(table), dtype=bool)
    if entropy:
        try:
            least = float(entropy)
        except ValueError:
            raise UsageError(
                f"expected an entropy in nats, got {entropy}; clear the field, or write a number."
            ) from None
        mask &= table["entropy"].to_numpy() >= least
    readings = _probe_readings(artifact) if artifact.kind == "run" else pd.DataFrame()
    if readings.empty:
        view.ignore("probe")
        return mask
    with right:
        probe = view.choice(
            "The linear probe",
            list(_PROBE),
            "probe",
            label_of=_PROBE.__getitem__,
            why_not="nothing that the probe does",
            help="What it reads in the thoughts of held-out problems. The page of thoughts has its controls.",
        )
    if probe == ANY:
        return mask
    numbers = table["trace"].to_numpy()
    if probe == "unsaid":
        return mask & np.isin(numbers, _unsaid(str(artifact.path), last_written(artifact.path)))
    if probe == "seen":
        return mask & ~np.isin(numbers, readings["trace"])
    right_of = readings.groupby("trace")["right"].all()
    return mask & np.isin(numbers, right_of.index[right_of.to_numpy(bool) == (probe == "right")])


def _probe_readings(artifact: Artifact) -> pd.DataFrame:
    """Return what the probe of a run reads in held-out problems; empty where it has none."""
    try:
        read = opened.run_of(artifact.path).readouts
    except StoreError:  # it is not finished, or its table is lost; its traces can be seen all the same
        return pd.DataFrame()
    return read[(read["method"] == "probe") & (read["split"] == "test")] if len(read) else read


@st.cache_resource(max_entries=4, show_spinner="Comparing what is said and what is read …")
def _unsaid(path: str, written: int) -> list[int]:
    return unsaid(opened.run_of(Path(path)))
