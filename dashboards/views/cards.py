"""HTML cards of a problem and its thoughts. All text of a model is escaped, and a guess looks like a guess."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd
import streamlit as st

from dashboards.readings import is_guess, percent
from dashboards.runs import Run
from dashboards.views.shared import number
from interp.runtime import palette
from interp.traces import Trace

_STYLE = f"""<style>
.cot-row {{ display: flex; flex-wrap: wrap; gap: 12px; align-items: stretch; }}
.cot-card {{ border: 1px solid rgba(128,128,128,.4); border-left: 5px solid {palette.BLUE}; border-radius: 8px;
  padding: 10px 14px; flex: 1 1 165px; min-width: 0; max-width: 320px; font-size: 14px; line-height: 1.45; overflow-wrap: anywhere; }}
.cot-card.cot-wrong {{ border-left: 7px double {palette.VERMILLION}; }}
.cot-card.cot-guess {{ border-left-style: dashed;
  background: repeating-linear-gradient(135deg, rgba(128,128,128,.16) 0 3px, transparent 3px 10px); }}
.cot-guess .cot-said {{ opacity: .62; font-weight: 400; }} .cot-guess .cot-meter i {{ opacity: .4; }}
.cot-said {{ font-size: 30px; font-weight: 650; line-height: 1.2; }}
.cot-said small {{ font-size: 15px; font-weight: 500; }}
.cot-soft {{ opacity: .72; }} .cot-part {{ border-top: 1px solid rgba(128,128,128,.25); margin-top: 7px; padding-top: 6px; }}
.cot-yes {{ color: #00664b; font-weight: 600; }} .cot-no {{ color: #a84300; font-weight: 600; }}
.cot-dark .cot-yes {{ color: #4fd3ab; }} .cot-dark .cot-no {{ color: #ff9a5c; }}
.cot-meter {{ height: 6px; background: rgba(128,128,128,.25); border-radius: 3px; margin: 3px 0 4px; }}
.cot-meter i {{ display: block; height: 6px; border-radius: 3px; background: {palette.BLUE}; }}
.cot-head {{ font-size: 20px; font-weight: 600; line-height: 1.4; overflow-wrap: anywhere; }}
.cot-picture {{ font-family: monospace; font-size: 14px; line-height: 1.2; margin: 6px 0 10px; overflow-x: auto; }}
.cot-card code, .cot-head code, .cot-line code {{ background: rgba(128,128,128,.15); padding: 1px 6px; border-radius: 4px; }}
.cot-wrote {{ white-space: pre-wrap; overflow-wrap: anywhere; max-height: 420px; overflow-y: auto; font-size: 15px;
  border: 1px solid rgba(128,128,128,.4); border-radius: 8px; padding: 10px 14px; }}
.cot-scroll {{ overflow-x: auto; }}
.cot-edit {{ border-collapse: collapse; width: 100%; font-size: 15px; }} .cot-edit small {{ opacity: .75; font-size: 12.5px; }}
.cot-edit th, .cot-edit td {{ border: 1px solid rgba(128,128,128,.35); padding: 6px 10px; text-align: left; vertical-align: top;
  overflow-wrap: anywhere; }}
.cot-edit thead th {{ font-weight: 600; white-space: nowrap; }} .cot-edit tbody th {{ font-weight: 500; min-width: 170px; }}
.cot-edit td > span {{ font-size: 20px; }} .cot-answer b {{ font-size: 20px; }}
.cot-chosen th {{ border-left: 5px solid {palette.BLUE} !important; font-weight: 650 !important; }}
.cot-set {{ outline: 2px solid {palette.BLUE}; outline-offset: -3px; }} .cot-set b {{ font-size: 20px; }}
.cot-moved > span {{ font-weight: 700; text-decoration: underline; text-underline-offset: 4px; }}
.cot-unsure, .cot-edit .cot-unsure {{ background: repeating-linear-gradient(135deg, rgba(128,128,128,.16) 0 3px, transparent 3px 10px); }}
.cot-unsure > span {{ opacity: .62; }} .cot-misread {{ border-left: 4px double {palette.VERMILLION} !important; }}
.cot-edit code {{ background: rgba(128,128,128,.15); padding: 1px 6px; border-radius: 4px; }}
.cot-line {{ font-size: 15px; margin: 4px 0; overflow-wrap: anywhere; }}
</style>"""


@dataclass(frozen=True)
class Read:
    """One thought as one decoder reads it.

    Attributes:
        row: The read-out and the other-value edit (a row of `Run.thoughts`).
        operation: The operation of this step, where the task has one.
        score: Held-out scores of the decoder at this step.
        edits: Every edit of this thought, by name.
    """

    row: dict[str, Any]
    operation: str
    score: dict[str, Any]
    edits: dict[str, dict[str, Any]]


def reads_of(run: Run, thoughts: pd.DataFrame, trace: int, method: str) -> list[Read]:
    """Return the thoughts of one trace in order.

    Args:
        run: The run.
        thoughts: `run.thoughts(method)`.
        trace: Number of the trace.
        method: The decoder.
    """
    edits = run.interchange[run.interchange["trace"] == trace]
    scores = run.scores[run.scores["method"] == method].set_index("step").to_dict("index")
    operations = run.traces[trace].problem.meta.get("operations", [])
    return [
        Read(
            row,
            str(operations[row["step"] - 1]) if row["step"] <= len(operations) else "",
            scores.get(row["step"], {}),
            {e["edit"]: e for e in edits[edits["step"] == row["step"]].to_dict("records")},
        )
        for row in thoughts[thoughts["trace"] == trace].sort_values("step").to_dict("records")
    ]


def question_html(trace: Trace) -> str:
    """Return HTML with the question for people, the question for the model, and the model's answer."""
    problem = trace.problem
    answer = f"answers <b>{escape(trace.answer or 'nothing')}</b> "
    verdict = (
        f"{answer}<span class='cot-yes'>✓ right</span>"
        if trace.correct
        else f"{answer}<span class='cot-no'>✗ wrong, should be {escape(problem.answer)}</span>"
    )
    # Below its first line, a question of several lines is a picture, such as a maze.
    words, _, picture = problem.readable.partition("\n")
    drawn = f"<pre class='cot-picture' tabindex='0'>{escape(picture)}</pre>" if picture else ""
    return themed(
        f"<div class='cot-head'>{escape(words)}</div>{drawn}"
        f"<div class='cot-line'>The model reads <code>{escape(problem.question)}</code> and {verdict}</div>"
    )


def thoughts_html(reads: list[Read], method: str, *, detail: bool = True) -> str:
    """Return HTML with one card for each thought.

    Args:
        reads: The thoughts.
        method: The decoder that read them.
        detail: Also show the next best values and the control edits.
    """
    return themed(f"<div class='cot-row'>{''.join(_card(read, method, detail) for read in reads)}</div>")


def themed(html: str) -> str:
    """Return HTML with its style, in the colours of the reader's theme.

    Args:
        html: HTML with the classes of cards, whose texts are escaped.
    """
    dark = st.context.theme.type == "dark"
    return f"{_STYLE}<div class='{'cot-dark' if dark else 'cot-light'}'>{html}</div>"


def _card(read: Read, method: str, detail: bool) -> str:
    row, right = read.row, bool(read.row["right"])
    guess = is_guess(float(row["confidence"]), read.score)
    operation = f" · <code>{escape(read.operation)}</code>" if read.operation else ""
    verdict = "<span class='cot-yes'>✓ right</span>" if right else "<span class='cot-no'>✗ misread</span>"
    verdict += " · a guess" if guess else ""
    confidence = min(max(float(row["confidence"]), 0.0), 1.0)
    parts = [
        f"<span class='cot-soft'>thought {row['step']}{operation}</span>",
        f"<div class='cot-said'>{escape(str(row['text']))} <small>{verdict}</small></div>",
        f"true value <b>{escape(str(row['gold']))}</b> · confidence {percent(confidence)}",
        f"<div class='cot-meter'><i style='width:{100 * confidence:.0f}%'></i></div>",
    ]
    if detail:
        others = [str(text) for text in row["top_k"]][1:]
        parts.append(f"<span class='cot-soft'>next best: {escape(', '.join(others)) or 'none kept'}</span>")
    parts.append(_part(_baseline(read, method)))
    parts.append(_part(_edits(read, detail)))
    return f"<div class='cot-card{'' if right else ' cot-wrong'}{' cot-guess' if guess else ''}'>{''.join(parts)}</div>"


def _part(html: str) -> str:
    return f"<div class='cot-part'>{html}</div>"


def _baseline(read: Read, method: str) -> str:
    score = read.score
    return (
        f"control: another problem's thought reads <b>{escape(str(read.row['other_problem']))}</b>"
        f"<br><span class='cot-soft'>{escape(palette.label(method))} at this step: {number(score.get('top1'))} right, "
        f"control {number(score.get('other_problem'))}, chance {number(score.get('chance'))}</span>"
    )


def _edits(read: Read, detail: bool) -> str:
    if not read.edits:
        return "<span class='cot-soft'>not edited</span>"
    lines = []
    other, same, noise = (read.edits.get(edit) for edit in ("other value", "same value", "random vector"))
    if other is None:
        lines.append("<span class='cot-soft'>no donor with another value</span>")
    else:
        followed = (
            "<span class='cot-yes'>✓ as predicted</span>"
            if other["followed"]
            else "<span class='cot-no'>✗ not as predicted</span>"
        )
        lines.append(
            f"edited to a donor's <b>{_value(other['donor_value'])}</b>: answer predicted "
            f"{_value(other['predicted'])}, got <b>{_value(other['answer_after'])}</b> {followed}"
        )
    if detail:
        for name, edit in (("donor with the same value", same), ("random vector", noise)):
            if edit is not None:
                after = f"answer {'changed to' if edit['changed'] else 'stays'} {_value(edit['answer_after'])}"
                lines.append(f"<span class='cot-soft'>control, {name}: {after}</span>")
    return "<br>".join(lines)


def _value(value: Any) -> str:
    """Return a value as escaped text, or a word where there is none."""
    return "unknown" if value is None or value != value else escape(str(value)) or "nothing"
