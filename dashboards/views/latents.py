"""Thoughts: what each decoder reads in each thought of a problem, and whether the model uses it."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboards import charts
from dashboards.describe import how_it_thinks, run_command
from dashboards.runs import Run
from dashboards.views import opened, shared
from dashboards.views.cards import question_html, reads_of, thoughts_html
from dashboards.views.shared import as_text, capital
from dashboards.views.thoughts.grid import LAYERS, every_decoder, layer_grid
from dashboards.views.thoughts.live import live_edit
from dashboards.views.thoughts.problems import (
    ANY,
    EDIT,
    choose_problem,
    clear_filters,
    count_left_out,
    kept_problems,
    none_left,
    problems_of,
    thoughts_of,
)
from dashboards.views.url import View
from interp.errors import counted
from interp.runtime import palette


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
    read = run.info["headline"]["read"]
    if read["beaten_by"]:
        st.warning(as_text(capital(read["note"])), icon=":material/balance:")
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
    thoughts, problems = thoughts_of(run, method), problems_of(run, method)
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
    kept = kept_problems(problems, steps, search, failures)
    count_left_out(run, problems, kept)
    shown = ""
    if kept.empty:
        view.ignore("problem")
        view.ignore(EDIT)
        view.ignore(LAYERS)
        st.info(none_left(len(problems), method, steps, search, failures))
        st.button("Show all problems", on_click=clear_filters)
    else:
        trace = choose_problem(view, kept)
        _problem(run, thoughts, trace, method)
        live_edit(run, view, trace, method)
        layer_grid(run, view, trace, method)
        every_decoder(run, trace)
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
    st.caption(f"{len(table)} of {counted(len(run.traces), 'problem')}.")
    columns = ["trace", "question", "text", "answer", "gold", "right"]
    shown = table.assign(right=table["correct"].map({True: "✓", False: "✗"}))
    shared.table(shown[columns], "traces", alt="What the model wrote about each problem, and whether it is right")
    shared.copy_as(f"{shared.opening(run)}run.traces.table()", run_command(run.path, run.info))


def _usual(methods: list[str]) -> str:
    return "probe" if "probe" in methods else methods[0]


def _value_words(target: str) -> str:
    return f"value after step {target.removeprefix('value_')}"


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
