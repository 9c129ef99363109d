"""Overview of a run: its three main figures beside their controls, one problem, charts, and the state of its stores."""

from __future__ import annotations

import shlex
from typing import Any

import pandas as pd
import streamlit as st

from dashboards import charts
from dashboards.describe import how_it_thinks, problems_of, run_command, title_of
from dashboards.headline import interval, location_in_words
from dashboards.runs import Run
from dashboards.views import opened, shared
from dashboards.views.cards import question_html, reads_of, thoughts_html
from dashboards.views.shared import as_text, capital, cut, number
from dashboards.views.url import View
from interp.activations import Store
from interp.errors import CotlensError
from interp.runtime import palette


def show() -> None:
    """Draw the page."""
    st.title("Overview")
    view = View()
    opened.with_run(view, "overview", lambda run: _page(run, view))


def _page(run: Run, view: View) -> None:
    view.check_rest()
    info = run.info
    st.header(as_text(title_of(info)))
    st.write(
        as_text(
            f"{problems_of(info)}. {how_it_thinks(info)} All scores are on problems that no decoder was fitted or "
            "selected on; intervals are 95 %, resampled by problem structure."
        )
    )
    _figures(info)
    shared.skipped_stages(info)
    _example(run)
    _measures(info)
    _made(run)
    _health(run)
    _charts(run)


def _charts(run: Run) -> None:
    """Draw the charts; last, because text is read while they load."""
    info = run.info
    many = len(info["steps"]) > charts.FEW_STEPS
    left, right = (st.container(), st.container()) if many else st.columns([5, 4])
    with left:
        if info["steps"]:
            figure = charts.decoders_by_step(info["steps"], info["chance"])
            shared.chart(
                figure,
                key="decoders",
                alt="Held-out top-1 of every decoder at each step, with controls and chance",
                height=figure.layout.height if many else 500,
            )
        else:
            st.info(as_text(f"No step was read: {run.skipped('scores') or 'the run has no scores.'}"))
    with right:
        shared.chart(
            charts.organisms_compared(info),
            key="organisms",
            alt="Share of answers right, by organism, with chance",
            height=500,
        )


def _figures(info: dict[str, Any]) -> None:
    """Draw the headline: three figures, each with where it was measured and what stands beside it."""
    for column, figure in zip(st.columns(3), info["headline"].values(), strict=True):
        with column.container(border=True, height="stretch"):
            # The label of a metric is cut off after one line.
            st.markdown(as_text(capital(figure["what"])))
            st.metric(as_text(figure["what"]), number(figure["value"]), label_visibility="collapsed")
            if figure["value"] is None:
                st.caption(as_text(f"not measured: {figure['note']}"))
                continue
            where = f"; {location_in_words(figure['where'])}" if figure["where"] else ""
            st.caption(as_text(f"{interval(figure['ci'])}, {figure['n']} {figure['unit']}{where}"))
            beside = ", ".join(f"{palette.label(name)} {number(value)}" for name, value in figure["beside"].items())
            if beside:
                st.markdown(f"**Beside it:** {as_text(beside)}")
            if figure["beaten_by"]:
                st.markdown(f":material/warning: **{as_text(capital(figure['note']))}**")
            elif figure["note"]:
                st.caption(as_text(figure["note"]))


def _example(run: Run) -> None:
    """Draw one problem with its thoughts."""
    thoughts = run.thoughts("probe")
    if thoughts.empty:
        _unread_example(run)
        return
    trace = int(thoughts["trace"].iloc[0])
    st.header("One problem, thought by thought")
    st.html(question_html(run.traces[trace]))
    st.html(thoughts_html(reads_of(run, thoughts, trace, "probe"), "probe", detail=False))
    st.caption(f"Shown: 1 of {thoughts['trace'].nunique()} held-out problems, read by a linear probe.")


def _unread_example(run: Run) -> None:
    """Draw one problem with what the model wrote, where nothing was read."""
    trace = next((trace for trace in run.traces if trace.correct), run.traces[0])
    st.header("One problem")
    st.html(question_html(trace))
    if trace.text and trace.text != trace.answer:
        st.caption(as_text(f"It writes: {cut(trace.text, 400)}"))


def _measures(info: dict[str, Any]) -> None:
    """Draw the table of measures with targets and verdicts; only a demo has them."""
    rows = info.get("measures") or []
    if not rows:
        return
    st.header("Targets")
    verdicts = {True: "✓ met", False: "✗ not met", None: "– not measured"}
    frame = pd.DataFrame(
        {
            "met": [verdicts[row["met"]] for row in rows],
            "what": [row["says"] for row in rows],
            "value": [row["value"] for row in rows],
            "95 %": [interval(row["ci"]) for row in rows],
            "target": [f"{row['op']} {row['target']} {row['unit']}".strip() for row in rows],
            "beside it": [row["peer"] or row["note"] for row in rows],
            "measure": [row["id"] for row in rows],
        }
    )
    counts = {verdict: int((frame["met"] == verdict).sum()) for verdict in verdicts.values()}
    st.write(", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n) + f", of {len(frame)} measures.")
    shared.table(
        frame,
        "measures",
        alt="Every measure of the run with its value, target and verdict",
        config={
            "what": st.column_config.TextColumn(width="large"),
            "beside it": st.column_config.TextColumn(width="medium"),
        },
    )


def _made(run: Run) -> None:
    """Draw the commands and versions that made the run."""
    st.header("How this run was made")
    folder = str(run.path)
    commands = [
        run_command(run.path, run.info),
        shlex.join(["cotlens", "report", "build", folder]),
        shlex.join(["cotlens", "dash", folder]),
    ]
    shared.copy_as(
        shared.opening(run)
        + "run.info['headline']\nrun.info['steps'], run.info['interchange']\nrun.scores\nrun.interchange",
        "\n".join(commands),
    )
    made = ", ".join(f"{package} {version}" for package, version in run.info.get("versions", {}).items())
    seconds = run.info.get("seconds")
    st.caption(as_text(f"Made with {made}" + (f" in {seconds:.0f} s." if seconds else ".")))


def _health(run: Run) -> None:
    """Draw the stores of the run, and a button that checks them."""
    st.header("State of the stores")
    paths = sorted(meta.parent for meta in run.path.glob("**/meta.json"))
    if not paths:
        st.warning("This run has no activation store, so it cannot be probed again.")
        return
    rows: list[tuple[Any, ...]] = []
    stores: list[tuple[str, Store]] = []
    for path in paths:
        name = str(path.relative_to(run.path))
        try:
            store = Store(path)
            shards = store.index["shard"].nunique()
            done = f"{len(store.committed)} of {shards}"
            state = "✓ complete" if store.complete else "✗ unfinished"
            rows.append((name, store.meta["reasoner"]["name"], done, state, len(store.index), store.meta["dtype"]))
            stores.append((name, store))
        except CotlensError as error:
            rows.append((name, "–", "–", f"✗ {error}", None, "–"))
    frame = pd.DataFrame(rows, columns=["store", "reasoner", "shards committed", "state", "positions", "dtype"])
    shared.table(frame, "stores", alt="The activation stores of this run and whether their shards are committed")
    if st.button("Check every file against its hash", icon=":material/fact_check:"):
        with st.spinner("Hashing …"):
            wrong = [f"{name}: {line}" for name, store in stores for line in store.validate()]
        if wrong:
            st.error(as_text(f"{len(wrong)} files are damaged. " + "; ".join(wrong[:20])))
            if len(wrong) > 20:
                st.caption(f"{len(wrong) - 20} more are not shown.")
        else:
            st.success(f"Every file of {len(stores)} stores is as it was committed.", icon=":material/check:")
