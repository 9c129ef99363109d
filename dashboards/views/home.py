"""Home: everything below the folders that the dashboard was started with, what shows it, and what is missing."""

from __future__ import annotations

import datetime

import pandas as pd
import streamlit as st

from dashboards.artifacts.finding import KINDS, Artifact, last_written
from dashboards.launch import roots_of_environment
from dashboards.pages import all_pages, pages_of, titles
from dashboards.questions import QUESTIONS
from dashboards.views import opened, shared
from dashboards.views.shared import as_text
from dashboards.views.url import OPEN, View, go, page_link

EVERY = "every kind"


def show() -> None:
    """Draw the page."""
    st.title("What there is")
    view = View()
    found = opened.found()
    for note in [*found.notes, *all_pages()[1]]:
        st.warning(as_text(note), icon=":material/info:")
    if found.artifacts:
        _list(view, list(found.artifacts.values()))
    else:
        view.ignore(OPEN)
        roots = roots_of_environment()
        st.info(as_text(f"There is nothing that this toolkit wrote in {', '.join(map(str, roots))} yet. Begin with:"))
        st.code("\n".join(opened.commands_for(roots)), language="bash", wrap_lines=True)
    view.check_rest()
    _questions(list(found.artifacts.values()))
    _organisms()


def _list(view: View, artifacts: list[Artifact]) -> None:
    kinds = [EVERY, *dict.fromkeys(artifact.kind for artifact in artifacts)]
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    with left:
        kind = view.choice("Kind", kinds, "kind", why_not="no kind that is here")
    with right:
        parts = view.flag("Also what is part of a run", "parts", help="Stores, sweeps and SAEs that a run consists of.")
    kept = [item for item in artifacts if kind in (EVERY, item.kind)]
    shown = [item for item in kept if parts or not item.part_of or item.kind == "run"] or kept
    shown.sort(key=lambda item: KINDS.index(item.kind))
    hidden = len(kept) - len(shown)
    st.caption(
        f"{len(shown)} of {len(artifacts)}."
        + (f" Left out: {hidden} parts of runs." if hidden else "")
        + " A click on a row shows what can be done with it."
    )
    frame = _table(shown)
    st.dataframe(
        frame,
        key="artifacts",
        hide_index=True,
        placeholder="–",
        on_select=lambda: _select([item.name for item in shown]),
        selection_mode="single-row",
        alt="Everything that was found, with its model, date, size and health",
        column_config={
            # In pixels, so that all of them fit in a window of 1280.
            "kind": st.column_config.TextColumn(width=60),
            "name": st.column_config.TextColumn(width=270),
            "model": st.column_config.TextColumn(width=155),
            "of": st.column_config.TextColumn(width=240),
            "made": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", width=130),
            "MB": st.column_config.NumberColumn(format="%.1f", width=60),
            "health": st.column_config.TextColumn(width=150),
        },
    )
    names = {item.name: item for item in artifacts}
    usual = opened.usual(shown).name
    name = view.valid(OPEN, usual, lambda text: text in names, why_not="nothing that is here")
    _selected(names[name])


def _table(artifacts: list[Artifact]) -> pd.DataFrame:
    """Return one row for each artifact."""
    rows = []
    for item in artifacts:
        facts = opened.facts(item)
        written = datetime.datetime.fromtimestamp(last_written(item.path) / 1e9)
        rows.append(
            {
                "kind": item.kind,
                "name": item.name,
                "model": facts.model,
                "of": facts.what,
                "made": written,
                "MB": opened.size(item) / 1e6,
                "health": facts.state,
            }
        )
    return pd.DataFrame(rows)


def _select(names: list[str]) -> None:
    rows = st.session_state["artifacts"].selection.rows
    go(OPEN, names[rows[0]] if rows and rows[0] < len(names) else None)


def _selected(artifact: Artifact) -> None:
    """Draw what can be done with one artifact."""
    facts = opened.facts(artifact)
    with st.container(border=True):
        st.header(as_text(f"{artifact.kind}: {artifact.name}"))
        st.caption(as_text(" · ".join(part for part in (facts.model, facts.what, facts.state) if part)))
        if artifact.part_of:
            st.caption(as_text(f"Part of the run {artifact.part_of}."))
        pages = pages_of(artifact.kind) if facts.can_be_shown else ()
        with st.container(horizontal=True):
            for page in pages:
                page_link(page, artifact.name, titles()[page])
        if not pages_of(artifact.kind):
            st.caption(as_text(f"No page shows a {artifact.kind} yet; these commands do."))
        for what, command in facts.next:
            st.caption(as_text(f"For {what}:" if not what.startswith("finish") else "To finish it:"))
            st.code(command, language="bash", wrap_lines=True)


def _questions(artifacts: list[Artifact]) -> None:
    """Draw what can be asked, with a link to the answer where there is one."""
    st.header("What can I ask here?")
    for question in QUESTIONS:
        able = [item for item in artifacts if item.kind in question.kinds and opened.facts(item).can_be_shown]
        left, right = st.columns([3, 4], vertical_alignment="center")
        with left:
            if able:  # `usual` prefers a run, which answers with controls
                page_link(question.page, opened.usual(able).name, question.text)
            else:
                st.caption(question.text)
        with right:
            st.code(question.command, language="bash", wrap_lines=True)


def _organisms() -> None:
    """Draw the shipped organisms, and the command that studies one."""
    from interp.organisms.catalog import recipe, shipped

    st.header("Models whose thoughts are known")
    st.markdown("They were trained for this toolkit, so that what a method reads can be checked. One to begin with:")
    st.code("cotlens demo", language="bash", wrap_lines=True)
    names = shipped()
    frame = pd.DataFrame(
        {
            "organism": names,
            "thinks by": [recipe(name).kind for name in names],
            "task": [recipe(name).task for name in names],
            "summary": [recipe(name).summary for name in names],
            "command": [f"cotlens study {name}" for name in names],
        }
    )
    with st.expander(f"All {len(names)} of them", icon=":material/science:"):
        shared.table(
            frame,
            "organisms",
            alt="The shipped models with the command that studies each",
            config={"summary": st.column_config.TextColumn(width="large")},
        )
