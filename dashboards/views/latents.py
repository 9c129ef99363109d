"""Thoughts: what each decoder reads in each thought of a problem, and whether the model uses it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboards import charts
from dashboards.artifacts.finding import last_written
from dashboards.describe import how_it_thinks, run_command
from dashboards.readings import is_guess, percent
from dashboards.runs import Run
from dashboards.views import opened, shared
from dashboards.views.cards import question_html, reads_of, thoughts_html
from dashboards.views.shared import as_text, cut
from dashboards.views.url import View, go
from interp.runtime import palette

ANY = "any"
_FILTERS = ("steps", "failures", "search")


def show() -> None:
    """Draw the page."""
    st.title("Thoughts")
    view = View()
    opened.with_run(view, "latents", lambda run: _page(run, view))


def _page(run: Run, view: View) -> None:
    shared.run_caption(run)
    st.write(as_text(how_it_thinks(run.info)))
    if not len(run.readouts) or not run.methods:
        _unread(run, view)
        return
    first, second, third, fourth = st.columns([3, 2, 3, 2], vertical_alignment="bottom")
    with first:
        method = view.choice(
            "Decoder",
            run.methods,
            "method",
            default=_usual(run.methods),
            label_of=palette.label,
            why_not="no decoder here",
        )
    thoughts, problems = _thoughts(run, method), _problems(run, method)
    with second:
        steps = view.choice(
            "Steps",
            [ANY, *sorted({str(n) for n in problems["n_steps"]}, key=int)],
            "steps",
            why_not="no number of steps here",
        )
    with third:
        search = view.text("Search the questions", "search", placeholder="add 3, or *7")
    with fourth:
        failures = view.flag(
            "Only failures",
            "failures",
            help="Problems with a thought that this decoder misreads, an edit that the answer does not follow, or a wrong answer.",
        )
    kept = _kept(problems, steps, search, failures)
    _counted(run, problems, kept)
    shown = ""
    if kept.empty:
        view.ignore("problem")
        st.info(_none_left(len(problems), method, steps, search, failures))
        st.button("Show all problems", on_click=_clear)
    else:
        trace = _choose(view, kept)
        _problem(run, thoughts, trace, method)
        _every_decoder(run, trace)
        shown = f"\nthoughts[thoughts['trace'] == {trace}]"
    figures = st.container()
    with figures:
        target = _value(run, view)
    view.check_rest()
    st.header("Download and code")
    buttons = st.container(horizontal=True)
    with buttons:
        shared.csv_button(thoughts, f"thoughts-{method}")
        shared.csv_button(run.interchange, "edits")
    heatmap = f"\nrun.sweep.heatmap({target!r})" if target else ""
    shared.copy_as(
        f"{shared.opening(run)}thoughts = run.thoughts({method!r}){shown}{heatmap}",
        run_command(run.path, run.info),
    )
    # Charts last, because text is read while they load.
    with figures:
        _below(run, target)


def _unread(run: Run, view: View) -> None:
    """Draw what the model wrote about each problem, where no step was read."""
    st.info(as_text(f"No step was read: {run.skipped('readouts') or 'this run has no read-outs.'}"))
    search = view.text("Search the questions", "search", placeholder="apples")
    view.check_rest()
    table = run.traces.table()
    if search:
        table = table[table["question"].str.contains(search, case=False, regex=False)]
    st.caption(f"{len(table)} of {len(run.traces)} problems.")
    columns = ["trace", "question", "text", "answer", "gold", "correct"]
    shared.table(table[columns], "traces", alt="What the model wrote about each problem, and whether it is right")
    shared.copy_as(f"{shared.opening(run)}run.traces.table()", run_command(run.path, run.info))


def _usual(methods: list[str]) -> str:
    return "probe" if "probe" in methods else methods[0]


def _thoughts(run: Run, method: str) -> pd.DataFrame:
    return _cached_thoughts(str(run.path), last_written(run.path), method, run)


def _problems(run: Run, method: str) -> pd.DataFrame:
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


def _kept(problems: pd.DataFrame, steps: str, search: str, failures: bool) -> pd.DataFrame:
    kept = problems
    if steps != ANY:
        kept = kept[kept["n_steps"] == int(steps)]
    if failures:
        kept = kept[kept["failed"]]
    if search:
        matches = kept["question"].str.contains(search, case=False, regex=False)
        kept = kept[matches | kept["readable"].str.contains(search, case=False, regex=False)]
    return kept


def _counted(run: Run, problems: pd.DataFrame, kept: pd.DataFrame) -> None:
    others = run.info["n_problems"] - len(problems)
    st.caption(
        f"{len(kept)} of {len(problems)} held-out problems match; {int(problems['failed'].sum())} of the {len(problems)} "
        f"show a failure. Left out: the {others} problems that decoders were fitted or selected on."
    )


def _none_left(n: int, method: str, steps: str, search: str, failures: bool) -> str:
    if failures and not search and steps == ANY:
        return (
            f"No failures: in all {n} held-out problems the {palette.label(method)} reads every thought right, every "
            "edit is followed, and every answer is right."
        )
    return f"None of the {n} held-out problems matches these filters."


def _clear() -> None:
    for key in _FILTERS:
        go(key, None)


def _value_words(target: str) -> str:
    return f"value after step {target.removeprefix('value_')}"


def _choose(view: View, kept: pd.DataFrame) -> int:
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
        )
    number = options.index(chosen)
    with left:
        st.button(
            "Previous",
            disabled=number == 0,
            on_click=go,
            args=("problem", options[max(number - 1, 0)]),
            width="stretch",
        )
    with right:
        last = len(options) - 1
        st.button(
            "Next",
            disabled=number == last,
            on_click=go,
            args=("problem", options[min(number + 1, last)]),
            width="stretch",
        )
    return int(chosen)


def _failure(row: dict[Any, Any]) -> str:
    failures = [
        f"{row['misread']} misread" if row["misread"] else "",
        f"{row['unfollowed']} not followed" if row["unfollowed"] else "",
        "wrong answer" if row["wrong"] else "",
    ]
    return f" ✗ {', '.join(s for s in failures if s)}" if row["failed"] else ""


def _problem(run: Run, thoughts: pd.DataFrame, trace: int, method: str) -> None:
    reads = reads_of(run, thoughts, trace, method)
    st.html(question_html(run.traces[trace]))
    st.html(thoughts_html(reads, method))
    edited = run.info["interchange"]
    site = next((read.score.get("site") for read in reads if read.score), None)
    edits = (
        f"Edits were made at {edited['site']}, with values that the {palette.label(edited['method'])} read. Predictions "
        "were made before the model ran."
        if edited
        else f"No thought was edited: {run.skipped('interchange') or 'this run has no edits.'}"
    )
    st.caption(as_text(f"The {palette.label(method)} reads at {site}. {edits}"))


def _every_decoder(run: Run, trace: int) -> None:
    st.header("The same thoughts, read by every decoder")
    st.caption(
        "What each decoder reads, whether it is right, its confidence, and whether that is hardly more than a guess. Below: "
        "held-out top-1 at the decoder's worst step, and the control at that step, which reads another problem's thought."
    )
    at_step = {(row["method"], row["step"]): row for row in run.scores.to_dict("records")}
    read = run.readouts[(run.readouts["trace"] == trace) & (run.readouts["split"] == "test")]
    scores = run.scores.groupby("method")[["top1", "other_problem"]].min()
    rows: dict[str, dict[str, str]] = {}
    for method in run.methods:
        for row in read[read["method"] == method].sort_values("step").to_dict("records"):
            cells = rows.setdefault(f"thought {row['step']}", {"true value": str(row["gold"])})
            guess = is_guess(float(row["confidence"]), at_step.get((method, row["step"]), {}))
            mark = "✓" if row["right"] else "✗"
            cells[palette.label(method)] = (
                f"{row['text']} {mark} {percent(row['confidence'])}{' guess' if guess else ''}"
            )
    for title, value_of in (
        ("held-out top-1, worst step", lambda method: scores.loc[method, "top1"]),
        ("control there", lambda method: _control_at_worst(run, method)),
    ):
        rows[title] = {palette.label(method): f"{value_of(method):.3f}" for method in run.methods}
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("thought").reset_index()
    shared.table(frame, f"problem-{trace}", alt="What every decoder reads in each thought, with its confidence")


def _control_at_worst(run: Run, method: str) -> float:
    part = run.scores[run.scores["method"] == method]
    return float(part.loc[part["top1"].idxmin(), "other_problem"])


def _value(run: Run, view: View) -> str | None:
    """Draw the choice of the value whose layers are shown, and return its target."""
    st.header("Where a value can be read, and whether it is used")
    swept = run.skipped("sweep") is None
    targets = [t for t in run.sweep.targets if t.startswith("value_")] if swept else []
    if not targets:
        return None
    return view.choice("Value", targets, "target", label_of=_value_words, why_not="not in the sweep")


def _below(run: Run, target: str | None) -> None:
    """Draw the figures over all problems."""
    left, right = st.columns([3, 2])
    with left:
        if target:
            shared.chart(
                run.sweep.heatmap(target), key="heatmap", alt=f"Held-out accuracy for {target} over place and layer"
            )
        else:
            st.info("This run has no probes of values after steps.")
    with right:
        by_step = (run.info["interchange"] or {}).get("by_step")
        if by_step:
            shared.chart(charts.edits_by_step(by_step), key="edits", alt="What editing each thought does to the answer")
        else:
            st.info("This run has no edits of thoughts.")
