"""Faithfulness and subtext: what a trace says, what is decoded from it, when its answer is decided, and what its words hide."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import streamlit as st

from dashboards.artifacts.finding import TEXT, Artifact
from dashboards.runs import Run
from dashboards.views import opened, shared
from dashboards.views.effects import words
from dashboards.views.effects.one_trace import said_and_decoded
from dashboards.views.effects.results import (
    Result,
    ResultsOfRun,
    choose_result,
    command_for,
    missing,
    note_foreign,
    result_of,
    results_of,
)
from dashboards.views.shared import as_text
from dashboards.views.url import View
from interp.traces import Channel

#: What draws the result of each command.
_DRAW: dict[str, Callable[[Result, View], None]] = {
    "causal faithfulness": words.faithfulness,
    "subtext commitment": words.commitment,
    "subtext measure": words.bits,
    "subtext locate": words.located,
    "subtext discover": words.discovered,
    "subtext paraphrase": words.paraphrased,
}
_PARTS = {
    "said": "Said and decoded, step by step",
    "decided": "When the answer is decided",
    "edits": "What edits of the text change",
    "hints": "Hints that are followed, and whether the text says so",
    "bits": "What the choice of words says beyond its meaning",
}
_ALL_KEYS = ("result", "trace", "paraphrase", "threshold", "length", "unmentioned")


def show() -> None:
    """Draw the page."""
    st.title("Faithfulness and subtext")
    view = View()
    opened.with_artifact(view, "faithfulness", partial(_page, view=view))


def _page(artifact: Artifact, view: View) -> None:
    if artifact.kind == TEXT:
        result = result_of(artifact)
        st.caption(as_text(f"{result.model} · {result.name} · {artifact.path}"))
        _drawn(result, view)
        view.check_rest()
        return
    run = opened.run_of(artifact.path)
    shared.run_caption(run)
    results = results_of(run, artifact, TEXT)
    part = view.choice(
        "Show", list(_PARTS), "show", label_of=lambda key: _PARTS.get(key, key), why_not="no part of this page"
    )
    for key in _ALL_KEYS:
        view.ignore(key)
    note_foreign(results)
    if part == "said":
        said_and_decoded(run, results, view)
    elif part == "bits":
        _bits(run, results, view)
    elif part == "hints":
        _hints(run, results, view)
    elif part == "edits" and not results.of("causal faithfulness") and not _writes(run):
        _writes_nothing()
    else:
        name, file, what = _COMMANDS[part]
        _one(run, results.of(name), view, what, command_for(run, file, *name.split(" "), *_MORE.get(part, ())))
    view.check_rest()


_COMMANDS = {
    "decided": ("subtext commitment", "commitment", "When answers are decided"),
    "edits": ("causal faithfulness", "faithfulness", "What edits of the text change"),
}
_MORE = {"edits": ("--anchors", "20")}


def _one(run: Run, results: list[Result], view: View, what: str, command: str) -> None:
    if not results:
        missing(what, command)
        return
    _drawn(choose_result(view, results), view)


def _writes(run: Run) -> bool:
    """Return whether a run's model writes what it thinks."""
    return Channel.THOUGHT in run.traces[0].channel


def _writes_nothing() -> None:
    st.info(
        "This model writes nothing while it thinks, so there is no text to edit; the page Causal edits its thoughts."
    )


def _hints(run: Run, results: ResultsOfRun, view: View) -> None:
    """Draw what hints do, from the results whose metrics put some into the questions; else the command for it."""
    hinted = [
        result for result in results.of("causal faithfulness") if (result.record.get("metrics") or {}).get("hints")
    ]
    if not hinted and not _writes(run):
        _writes_nothing()
        return
    if not hinted:
        metrics = ("--metrics", "biased context,cue acknowledgement")
        missing("What hints do", command_for(run, "hints", "causal", "faithfulness", *metrics))
        return
    chosen = choose_result(view, hinted)
    words.hints(chosen, view)
    _code(chosen)


def _bits(run: Run, results: ResultsOfRun, view: View) -> None:
    """Draw the results about the choice of words, and the commands for those that are missing."""
    names = ("subtext measure", "subtext locate", "subtext paraphrase", "subtext discover")
    measured = results.of(*names)
    if measured:
        _drawn(choose_result(view, measured), view)
    done = {result.name for result in measured}
    for name in names:
        if name not in done:
            verb = name.split(" ")[1]
            missing(_WHAT[verb], command_for(run, verb, *name.split(" ")))


_WHAT = {
    "measure": "How many bits the choice of words says beyond its meaning",
    "locate": "Which words carry them",
    "paraphrase": "What a paraphrase leaves of the bits and the answers",
    "discover": "Which words depend on hidden state",
}


def _drawn(result: Result, view: View) -> None:
    draw: Any = _DRAW.get(result.name)
    if draw is None:
        st.info(as_text(f"No panel draws the result of {result.name}; its file holds all of it."))
    else:
        draw(result, view)
    _code(result)


def _code(result: Result) -> None:
    """Draw what opens the result, and the command that made it."""
    st.header("Code")
    shared.copy_as(
        "from pathlib import Path\n\nfrom interp.runtime.results import read_result\n\n"
        f"read_result(Path({str(result.artifact.path)!r}))['result']",
        result.command,
    )
