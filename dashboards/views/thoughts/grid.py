"""One problem in full: what is read at every layer beside the true steps, and by every decoder."""

from __future__ import annotations

from html import escape
from typing import Any

import pandas as pd
import streamlit as st

from dashboards.artifacts.finding import last_written
from dashboards.live.reading import ThoughtReader, quick_method, why_not_again
from dashboards.readings import is_guess, percent
from dashboards.runs import Run
from dashboards.views import shared
from dashboards.views.cards import themed
from dashboards.views.loaded import models
from dashboards.views.shared import as_text
from dashboards.views.url import View
from interp.runtime import palette

LAYERS = "layers"


def layer_grid(run: Run, view: View, trace: int, method: str) -> None:
    """Draw what a decoder reads in each thought of a problem at every layer, beside the true steps.

    Args:
        run: The run.
        view: The page's controls.
        trace: Index of the trace.
        method: The decoder of the page.
    """
    st.header("Every layer")
    method = quick_method(run, method)
    reason = why_not_again(run, method)
    if reason:
        view.ignore(LAYERS)
        st.info(as_text(f"Thoughts cannot be read at every layer: {reason}."))
        return
    if not view.flag(
        f"Read each thought at every layer with the {palette.label(method)}",
        LAYERS,
        help="Fitted at each layer on the run's training problems; this takes seconds the first time.",
    ):
        return
    frame = _reader(run, method).layers(trace)
    scores = _scores(run)
    steps = run.traces[trace].problem.steps
    st.html(themed(_grid(frame, scores, [step.value for step in steps])))
    st.caption(
        as_text(
            "From the last layer down to the first. Below each value: the decoder's own score, and how often a linear probe "
            "reads this step there on held-out problems, with its strongest control. Hatched and faded: no better than "
            "that control there. A double border marks a misread value."
        )
    )
    shared.csv_button(frame, f"layers-{trace}")


def _reader(run: Run, method: str) -> ThoughtReader:
    """Return the decoder that reads at every layer; one that needs the model is kept with it."""
    about = (str(run.path), last_written(run.path), method)
    if method == "probe":
        return _fitted(*about, run)
    with st.spinner("Fitting the decoder at every layer …"):
        return models().part(run.store, ("layers", *about), lambda reasoner: ThoughtReader(run, method, reasoner))


@st.cache_resource(max_entries=2, show_spinner="Fitting the decoder at every layer …")
def _fitted(path: str, written: int, method: str, _run: Run) -> ThoughtReader:
    return ThoughtReader(_run, method)


def _scores(run: Run) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the sweep's held-out scores by address and step, at the step's own thought."""
    if run.skipped("sweep") is not None:
        return {}
    cells = run.sweep.table()
    at = {}
    for cell in cells.to_dict("records"):
        name, _, number = str(cell["target"]).rpartition("_")
        if name == "value" and cell["place"] in (f"thought {number}", f"step {number}"):
            at[str(cell["address"]), int(number)] = cell
    return at


def _grid(frame: pd.DataFrame, scores: dict[tuple[str, int], dict[str, Any]], gold: list[str]) -> str:
    """Return HTML: layers as rows, the last first, and thoughts as columns."""
    steps = sorted(int(step) for step in frame["step"].unique())
    head = "".join(
        f"<th scope='col'>thought {step}<br><small>true value {escape(gold[step - 1])}</small></th>" for step in steps
    )
    by_cell = {(row["label"], row["step"]): row for row in frame.to_dict("records")}
    rows = []
    for label in reversed(list(dict.fromkeys(frame["label"]))):
        cells = "".join(_cell(by_cell.get((label, step)), scores, gold) for step in steps)
        rows.append(f"<tr><th scope='row'>{escape(str(label))}</th>{cells}</tr>")
    return (
        f"<div class='cot-scroll'><table class='cot-edit'><thead><tr><th scope='col'>layer</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(row: dict[Any, Any] | None, scores: dict[tuple[str, int], dict[str, Any]], gold: list[str]) -> str:
    if row is None:
        return "<td>–</td>"
    held_out = scores.get((str(row["address"]), int(row["step"])), {})
    controls = {name: held_out[name] for name in _CONTROLS if held_out.get(name) == held_out.get(name, 0.5)}
    known = {name: value for name, value in controls.items() if value is not None and name in held_out}
    named = max(known, key=lambda name: known[name], default=None)
    strongest = None if named is None else known[named]
    accuracy = held_out.get("accuracy")
    guess = accuracy is not None and (strongest is None or held_out["ci_low"] <= strongest)
    right = row["text"] == gold[int(row["step"]) - 1]
    note = "" if accuracy is None else f"<br>{accuracy:.2f} held out{_beside(named, strongest)}"
    classes = " ".join(filter(None, ("cot-unsure" if guess else "", "" if right else "cot-misread")))
    mark = "<span class='cot-yes'>✓</span>" if right else "<span class='cot-no'>✗</span>"
    return (
        f"<td class='{classes}'><span>{escape(str(row['text']))}</span> {mark}<br><small>score {row['score']:.2f}"
        f"{note}</small></td>"
    )


def _beside(name: str | None, value: float | None) -> str:
    return "" if name is None or value is None else f"<br>control, {escape(palette.label(name))}: {value:.2f}"


_CONTROLS = ("question_only", "before_thinking", "other_problem", "text_only", "random_init", "majority")


def every_decoder(run: Run, trace: int) -> None:
    """Draw a table of what every decoder reads in each thought of a problem."""
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
