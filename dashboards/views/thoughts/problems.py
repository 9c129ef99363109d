"""The held-out problems of a run: filters, the choice of one, and how many are left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboards.artifacts.finding import last_written
from dashboards.runs import Run
from dashboards.views.shared import cut
from dashboards.views.url import View, go
from interp.runtime import palette

ANY = "any"
EDIT = "edit"  # the parameter of a live edit, which is of one problem
_FILTERS = ("steps", "failures", "search")


def thoughts_of(run: Run, method: str) -> pd.DataFrame:
    """Return `Run.thoughts`, read once for all sessions."""
    return _cached_thoughts(str(run.path), last_written(run.path), method, run)


def problems_of(run: Run, method: str) -> pd.DataFrame:
    """Return one row for each held-out problem, with its failures; read once for all sessions."""
    return _cached_problems(str(run.path), last_written(run.path), method, run)


@st.cache_resource(max_entries=32, show_spinner=False)
def _cached_thoughts(path: str, written: int, method: str, _run: Run) -> pd.DataFrame:
    return _run.thoughts(method)


@st.cache_resource(max_entries=32, show_spinner=False)
def _cached_problems(path: str, written: int, method: str, _run: Run) -> pd.DataFrame:
    """Return one row for each held-out problem, with its failures."""
    thoughts = _run.thoughts(method)
    followed = [value is None or value != value or bool(value) for value in thoughts["followed"]]
    frame = (
        thoughts.assign(misread=~thoughts["right"].astype(bool), unfollowed=~np.array(followed, dtype=bool))
        .groupby("trace", sort=True)[["misread", "unfollowed"]]
        .sum()
        .reset_index()
    )
    traces = [_run.traces[t] for t in frame["trace"]]
    frame["n_steps"] = [t.problem.n_steps for t in traces]
    frame["question"] = [t.problem.question for t in traces]
    frame["readable"] = [t.problem.readable for t in traces]
    frame["wrong"] = [not t.correct for t in traces]
    frame["failed"] = (frame["misread"] > 0) | (frame["unfollowed"] > 0) | frame["wrong"]
    return frame


def kept_problems(problems: pd.DataFrame, steps: str, search: str, failures: bool) -> pd.DataFrame:
    """Return the problems that the filters keep."""
    kept = problems
    if steps != ANY:
        kept = kept[kept["n_steps"] == int(steps)]
    if failures:
        kept = kept[kept["failed"]]
    if search:
        matches = kept["question"].str.contains(search, case=False, regex=False)
        kept = kept[matches | kept["readable"].str.contains(search, case=False, regex=False)]
    return kept


def count_left_out(run: Run, problems: pd.DataFrame, kept: pd.DataFrame) -> None:
    """Draw how many problems are shown, and how many are left out."""
    others = run.info["n_problems"] - len(problems)
    st.caption(
        f"{len(kept)} of {len(problems)} held-out problems match; {int(problems['failed'].sum())} of the {len(problems)} "
        f"show a failure. Left out: the {others} problems that decoders were fitted or selected on."
    )


def none_left(n: int, method: str, steps: str, search: str, failures: bool) -> str:
    """Return why the filters keep no problem."""
    if failures and not search and steps == ANY:
        return (
            f"No failures: in all {n} held-out problems the {palette.label(method)} reads every thought right, every "
            "edit is followed, and every answer is right."
        )
    return f"None of the {n} held-out problems matches these filters."


def clear_filters() -> None:
    """Remove the filters from the URL; for the callback of a button."""
    for key in _FILTERS:
        go(key, None)


def choose_problem(view: View, kept: pd.DataFrame) -> int:
    """Draw the choice of one of the kept problems, and return the index of its trace."""
    options = [str(t) for t in kept["trace"]]
    labels = {
        str(row["trace"]): f"{row['trace']}: {cut(row['readable'])}{_failure(row)}" for row in kept.to_dict("records")
    }
    left, middle, right = st.columns([1, 8, 1], vertical_alignment="bottom")
    with middle:
        chosen = view.choice(
            "Problem",
            options,
            "problem",
            label_of=lambda t: labels[t],
            why_not="no held-out problem, or one that the filters leave out",
            clears=(EDIT,),
        )
    number = options.index(chosen)
    with left:
        st.button(
            "Previous",
            disabled=number == 0,
            on_click=_go_to,
            args=(options[max(number - 1, 0)],),
            width="stretch",
        )
    with right:
        last = len(options) - 1
        st.button(
            "Next",
            disabled=number == last,
            on_click=_go_to,
            args=(options[min(number + 1, last)],),
            width="stretch",
        )
    return int(chosen)


def _go_to(trace: str) -> None:
    go(EDIT, None)
    go("problem", trace)


def _failure(row: dict[Any, Any]) -> str:
    failures = [
        f"{row['misread']} misread" if row["misread"] else "",
        f"{row['unfollowed']} not followed" if row["unfollowed"] else "",
        "wrong answer" if row["wrong"] else "",
    ]
    return f" ✗ {', '.join(s for s in failures if s)}" if row["failed"] else ""
