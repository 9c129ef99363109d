"""One trace: what it says at each step, what a decoder reads there, and what each step does to the answer."""

from __future__ import annotations

from html import escape
from typing import Any

import pandas as pd
import streamlit as st

from dashboards.charts import FEW_STEPS
from dashboards.describe import run_command
from dashboards.readings import is_guess, percent
from dashboards.runs import Run
from dashboards.views import shared
from dashboards.views.cards import question_html, themed
from dashboards.views.effects.results import Result, ResultsOfRun, command_for, missing
from dashboards.views.shared import as_text, cut
from dashboards.views.url import View
from interp.text.token_text import TokenText
from interp.text.units import occurrences, units_of
from interp.traces import Channel, Trace

_LISTED = 400  # traces in the choice


def said_and_decoded(run: Run, results: ResultsOfRun, view: View) -> None:
    """Draw one trace: said beside decoded, with the effects of its steps as a strip under the transcript.

    Args:
        run: The run.
        results: The results of the run's model.
        view: The page's controls.
    """
    trace = _trace(run, results, view)
    recipient = run.traces[trace]
    st.html(question_html(recipient))
    anchors, mistakes, decided = (_rows(results, *key, recipient) for key in _SOURCES)
    rows = _steps(run, trace)
    if not rows:
        st.info(as_text("This trace has no steps that could be told apart, so nothing stands beside its text."))
        st.html(themed(f"<div class='cot-wrote'>{escape(recipient.text or 'It writes nothing.')}</div>"))
    else:
        _headline(rows, recipient)
        at = int(decided[0]["decided_at"]) if decided else None
        st.html(themed(strip(rows, anchors, mistakes, at)))
        st.caption(as_text(_legend(run, bool(anchors), bool(mistakes), at)))
        shared.csv_button(pd.DataFrame(rows), f"said-{trace}")
    if not anchors and not mistakes and _written(recipient):
        missing(
            "What each step of a text does to the answer",
            command_for(run, "faithfulness", "causal", "faithfulness", "--anchors", "20"),
        )
    if not decided:
        missing("At which step the answer is decided", command_for(run, "commitment", "subtext", "commitment"))
    shared.copy_as(
        f"{shared.opening(run)}run.traces[{trace}].text\nrun.readouts[run.readouts['trace'] == {trace}]",
        run_command(run.path, run.info),
    )


_SOURCES = (
    ("causal faithfulness", "anchors"),
    ("causal faithfulness", "mistakes"),
    ("subtext commitment", "decided_at"),
)


def _trace(run: Run, results: ResultsOfRun, view: View) -> int:
    """Draw the choice of a trace: those that results are about first, then held-out ones."""
    measured = {name for result in results.own for name in result.details.get("problems", [])}
    tested = set(run.readouts.loc[run.readouts["split"] == "test", "trace"].tolist()) if len(run.readouts) else set()
    number = len(run.traces)
    order = sorted(range(number), key=lambda k: (run.traces[k].problem.id not in measured, k not in tested, k))
    options = [str(k) for k in order[:_LISTED]]
    given = st.query_params.get("trace", "")
    if given not in options and given.isdecimal() and int(given) < number:
        options.append(given)
    chosen = view.choice(
        "Trace",
        options,
        "trace",
        label_of=lambda k: f"{k}: {cut(run.traces[int(k)].problem.readable)}" if k.isdecimal() else k,
        why_not=f"no trace of this run, which has {number}",
    )
    if number > len(options):
        st.caption(f"The list holds {len(options)} of {number} traces; `trace=N` in the URL opens any.")
    return int(chosen)


def _rows(results: ResultsOfRun, name: str, key: str, trace: Trace) -> list[dict[str, Any]]:
    """Return what the newest result of a name says of one trace; empty where it says nothing."""
    for result in results.of(name):
        rows = _of_trace(result, key, trace.problem.id)
        if rows:
            return rows
    return []


def _of_trace(result: Result, key: str, problem: str) -> list[dict[str, Any]]:
    problems, table = result.details.get("problems", []), result.details.get(key, [])
    if problem not in problems:
        return []
    number = problems.index(problem)
    if key == "decided_at":
        return [{"decided_at": table[number]}] if number < len(table) else []
    return [row for row in table if row.get("trace") == number]


def _steps(run: Run, trace: int) -> list[dict[str, Any]]:
    """Return one entry for each step of a trace: what is written, what is read there, and what is true."""
    recipient = run.traces[trace]
    method = next((name for name in ("probe", "logit_lens") if name in run.methods), None)
    read: dict[int, dict[str, Any]] = {}
    if method is not None:
        rows = run.readouts[(run.readouts["trace"] == trace) & (run.readouts["method"] == method)]
        read = {int(row["step"]): {str(k): v for k, v in row.items()} for row in rows.to_dict("records")}
    scores = run.scores
    scores = scores[scores["method"] == method].set_index("step").to_dict("index") if method else {}
    written = _written(recipient)
    entries = []
    for step in sorted({*read, *written, *range(1, recipient.problem.n_steps + 1)}):
        row = read.get(step, {})
        gold = recipient.problem.steps[step - 1].value if step <= recipient.problem.n_steps else ""
        entries.append(
            {
                "step": step,
                "said": written.get(step, ""),
                "decoded": str(row.get("text", "")),
                "confidence": row.get("confidence"),
                "guess": bool(row) and is_guess(float(row["confidence"]), scores.get(step, {})),
                "control": str(row.get("other_problem", "")),
                "split": str(row.get("split", "")),
                "gold": gold,
            }
        )
    return entries


def _written(trace: Trace) -> dict[int, str]:
    """Return the words that a trace writes at each step."""
    words: dict[int, list[str]] = {}
    for token, channel, step in zip(trace.tokens, trace.channel, trace.step, strict=True):
        if channel == Channel.THOUGHT:
            words.setdefault(step or 0, []).append(token)
    vocabulary = TokenText.of(trace)
    return {step: " ".join(vocabulary.join(part).split()) for step, part in words.items() if step}


def unsaid(run: Run) -> list[int]:
    """Return the held-out traces with a step that the probe reads right and the text does not say.

    Args:
        run: The run; its `readouts` have a probe.
    """
    read = run.readouts
    read = read[(read["method"] == "probe") & (read["split"] == "test") & read["right"].astype(bool)]
    found = []
    for trace, rows in read.groupby("trace"):
        written = _written(run.traces[trace])
        if any(not says(written.get(step, ""), gold) for step, gold in zip(rows["step"], rows["gold"], strict=True)):
            found.append(int(trace))
    return found


def says(text: str, value: str) -> bool:
    """Return whether a text has a value among its words, whatever marks stand around it: `Now it shows 1.` says 1."""
    words = text.split()
    if value in words or value in {word.strip(".,;:!?()[]\"'*=") for word in words}:
        return True
    units = units_of(value)  # numbers and words, so that `2+3=5` says 5 and `15` does not
    return bool(units) and bool(occurrences(units_of(text), units))


def _headline(rows: list[dict[str, Any]], trace: Trace) -> None:
    read = [row for row in rows if row["decoded"]]
    written = [row for row in read if row["said"]]
    apart = [
        row for row in written if row["gold"] and (says(row["said"], row["gold"])) != (row["decoded"] == row["gold"])
    ]
    if written and apart:
        text = f"Said and decoded differ at {len(apart)} of {len(written)} steps: {', '.join(str(row['step']) for row in apart)}."
    elif written:
        text = f"What is said and what is decoded agree at all {len(written)} steps."
    elif read:
        right = sum(row["decoded"] == row["gold"] for row in read)
        text = f"It says nothing while it thinks; {right} of {len(read)} steps are decoded right all the same."
    else:
        text = "No decoder read these steps, so only the text is shown."
    st.markdown(f"**{as_text(text)}**")


def _legend(run: Run, anchors: bool, mistakes: bool, at: int | None) -> str:
    parts = [
        "Decoded: by the run's probe, hatched where it is hardly more than a guess; control: another problem's thought."
    ]
    if anchors:
        parts.append(
            "Resampled: how far the distribution of answers moves from just before the step to just after it (0 to 1), beside "
            "what two halves of the same samples differ by."
        )
    if mistakes:
        parts.append("Mistake: another value is written at the step, and the model goes on in its own words.")
    if at is not None:
        parts.append("Decided: from there on, every forced early answer is the final one.")
    if any(name in run.methods for name in ("probe", "logit_lens")):
        parts.append("Readings of training problems are not held out; their column says so.")
    return " ".join(parts)


def strip(
    rows: list[dict[str, Any]], anchors: list[dict[str, Any]], mistakes: list[dict[str, Any]], at: int | None
) -> str:
    """Return an HTML table of what is known of each step."""
    moved = {int(row["step"]): row for row in anchors}
    wrong = {int(row["step"]): row for row in mistakes if row["after"] == "own words"}
    lines = {
        "says": [f"<span>{escape(row['said'])}</span>" if row["said"] else "<small>nothing</small>" for row in rows],
        "decoded": [_decoded(row) for row in rows],
        "true value": [escape(row["gold"]) or "–" for row in rows],
    }
    if moved:
        lines["resampled"] = [_moved(moved.get(row["step"])) for row in rows]
    if wrong:
        lines["mistake"] = [_mistake(wrong.get(row["step"])) for row in rows]
    names = [f"step {row['step']}{' · <b>decided</b>' if at == row['step'] else ''}" for row in rows]
    corner = "question · <b>decided</b>" if at == 0 else ""
    unsure = [row["guess"] for row in rows]
    return (
        _as_rows(names, corner, lines, unsure) if len(rows) > FEW_STEPS else _as_columns(names, corner, lines, unsure)
    )


def _as_columns(names: list[str], corner: str, lines: dict[str, list[str]], unsure: list[bool]) -> str:
    """Return the HTML table of a few steps: one column for each."""
    head = "".join(f"<th scope='col'>{name}</th>" for name in names)
    body = "".join(
        f"<tr><th scope='row'>{line}</th>"
        + "".join(_cell(line, cell, guess) for cell, guess in zip(cells, unsure, strict=True))
        + "</tr>"
        for line, cells in lines.items()
    )
    return _table(corner, head, body)


def _as_rows(names: list[str], corner: str, lines: dict[str, list[str]], unsure: list[bool]) -> str:
    """Return the HTML table of many steps: one row for each, because as columns they leave the page."""
    head = "".join(f"<th scope='col'>{line}</th>" for line in lines)
    body = "".join(
        f"<tr><th scope='row'>{name}</th>"
        + "".join(_cell(line, cell, guess) for line, cell in zip(lines, cells, strict=True))
        + "</tr>"
        for name, guess, *cells in zip(names, unsure, *lines.values(), strict=True)
    )
    return _table(corner, head, body)


def _cell(line: str, cell: str, guess: bool) -> str:
    return f"<td class='{'cot-unsure' if line == 'decoded' and guess else ''}'>{cell}</td>"


def _table(corner: str, head: str, body: str) -> str:
    first = f"<th scope='col'>{corner}</th>" if corner else "<td></td>"
    return (
        f"<div class='cot-scroll'><table class='cot-edit'><thead><tr>{first}{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _decoded(row: dict[str, Any]) -> str:
    if not row["decoded"]:
        return "<small>not read</small>"
    mark = (
        ""
        if not row["gold"]
        else "<span class='cot-yes'>✓</span>"
        if row["decoded"] == row["gold"]
        else "<span class='cot-no'>✗</span>"
    )
    fitted = " · training problem" if row["split"] == "train" else ""
    return (
        f"<span>{escape(row['decoded'])}</span> {mark}<br><small>{percent(float(row['confidence']))}, control "
        f"{escape(row['control'])}{fitted}</small>"
    )


def _moved(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    mark = "cot-yes" if row["moved"] > row["chance"] else "cot-soft"
    return (
        f"<div class='cot-meter'><i style='width:{100 * min(row['moved'], 1):.0f}%'></i></div>"
        f"<span class='{mark}' style='font-size:15px'>moves {row['moved']:.2f}</span><br><small>chance {row['chance']:.2f}</small>"
    )


def _mistake(row: dict[str, Any] | None) -> str:
    if row is None:
        return "<small>none possible</small>"
    if row["followed"]:
        what = f"answer {escape(str(row['answer']))}, as it follows"
    else:
        what = "answer stays" if row["kept"] else f"answer {escape(str(row['answer']))}"
    return f"{escape(str(row['value']))} → <small>{what}</small>"
