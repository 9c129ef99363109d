"""Panels of results about visible thoughts: edits of the text, the deciding step, and what the choice of words says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboards.headline import interval
from dashboards.views import shared
from dashboards.views.effects import figures
from dashboards.views.effects.panels import Chart, charts_in_pairs, headline, table
from dashboards.views.effects.results import Result
from dashboards.views.shared import number
from dashboards.views.url import View
from interp.runtime import palette

_THRESHOLDS = ("0.01", "0.02", "0.05", "0.1", "0.2", "0.5")


def faithfulness(result: Result, view: View) -> None:
    """Draw the battery of edits, early answering and thought anchors."""
    record = result.record
    tests = [row for row in record["tests"] if row["n"]]
    headline(record["says"][:1].upper() + record["says"][1:])
    rows = [row | {"ci": [row["ci_low"], row["ci_high"]], "name": _expected(row)} for row in tests]
    shared.chart(
        figures.bars(
            rows,
            "name",
            [("share", "ci", "answers that stay", palette.BLUE)],
            "Answers that stay after each edit of the text",
            "fraction",
        ),
        key="battery-chart",
        alt="Share of answers that stay after each edit, with intervals",
    )
    st.caption(
        "A faithful text keeps its answer under a paraphrase and loses it otherwise. Controls: its own text forced back must "
        "keep the answers, and another problem's thought must lose them. Intervals are 95 %, by problem structure."
    )
    for sentence in record.get("left_out") or []:
        st.caption(shared.as_text(sentence))
    table(record["tests"], "battery", "Every edit with the share of answers that stay")
    early, anchors = record["early_answering"], record.get("anchors")
    length = _length(sorted({row["steps"] for row in early}), view)
    answered_early = figures.lines(
        [_with_ci(row) for row in early if row["steps"] == length],
        "shown",
        [
            ("share", "ci", "answer is already the final one", palette.BLUE, "solid"),
            ("accuracy", None, "answer is right", palette.GREEN, "dot"),
        ],
        "Answered early",
        "steps shown",
    )
    charts = [
        Chart(answered_early, "early-answers", "Share of early answers that are the final one, by steps shown"),
    ]
    if anchors:
        resampled = figures.lines(
            [_with_ci(row) for row in anchors if row["steps"] == length],
            "step",
            [
                ("moved", "ci", "answers move at this step", palette.BLUE, "solid"),
                ("chance", None, "control: two halves of the same samples", palette.BLACK, "dot"),
            ],
            "Resampled before and after each step",
            "step",
        )
        charts.append(Chart(resampled, "thought-anchors", "How far each step moves the answers, beside chance"))
    charts_in_pairs(charts)
    if not anchors:
        st.info("Thought anchors were not measured; `--anchors 20` measures them too.")

    metrics = record.get("metrics")
    if metrics:
        _metrics(metrics)
        hints(result, view)


def _metrics(metrics: dict[str, Any]) -> None:
    """Draw what each metric of faithfulness says, and the verdicts."""
    st.header("Metrics of faithfulness")
    for sentence in metrics["says"]:
        st.markdown(shared.as_text(f"{sentence[:1].upper()}{sentence[1:]}"))
    st.caption(
        "1 is a chain or a step that a metric calls faithful, 0 one that it does not. They do not agree with one another; "
        "the page on faithfulness in the documentation says what each is worth where the truth is known."
    )
    table(metrics["table"], "metrics", "Every metric with its mean over chains and steps, or why it was not run")


def hints(result: Result, view: View) -> None:
    """Draw which hints at another answer were followed, and which of these the text does not mention."""
    st.header("Hints followed, and not mentioned")
    shares = (result.record.get("metrics") or {}).get("hints")
    if not shares:
        st.info(
            "No hint was put into the questions of this result: the metrics biased context and cue acknowledgement do "
            "that, where a question has lettered options or a number as its answer."
        )
        view.ignore("unmentioned")
        return
    by_name = {row["outcome"]: row for row in shares}
    silent, control = by_name["followed, not mentioned"], by_name["control: moved to another answer"]
    sentence = (
        f"Of {silent['n']} questions with a hint at another answer, {silent['share']:.3f} "
        f"{interval([silent['ci_low'], silent['ci_high']])} are answered as the hint says and do not mention it. "
        f"Control: {control['share']:.3f} {interval([control['ci_low'], control['ci_high']])} move to another answer than "
        "the hinted one."
    )
    headline(sentence, warns=0 < silent["share"] <= control["share"])
    shared.chart(
        figures.bars(
            [_with_ci(row) for row in shares],
            "outcome",
            [("share", "ci", "share of the hinted questions", palette.BLUE)],
            "What hints at another answer do",
            "fraction",
        ),
        key="hints-chart",
        alt="Shares of hinted questions that follow the hint with and without saying so, beside the control",
    )
    st.caption(
        "Without a hint none of these questions has the hinted answer. Whether a text mentions the hint is decided by rules: "
        "words such as hint, suggested or metadata. Intervals are 95 %, by problem structure."
    )
    only = view.flag("Only hints that are followed and not mentioned", "unmentioned")
    frame = pd.DataFrame(result.details.get("hints", []))
    if len(frame):
        frame = frame[frame["followed"] & ~frame["acknowledged"]] if only else frame
        st.caption(f"{len(frame)} of {len(result.details['hints'])} questions.")
        shared.table(
            frame.drop(columns="structure"), "hints", alt="Each hinted question with its answers and what was written"
        )


def _expected(row: dict[str, Any]) -> str:
    wanted = {"kept": " (should stay)", "lost": " (should change)"}.get(str(row["if_faithful"]), "")
    return f"{row['test']}{wanted}"


def commitment(result: Result, view: View) -> None:
    """Draw the commitment curve: forced and read answers by step, and what later steps still change."""
    record = result.record
    headline(record["says"][:1].upper() + record["says"][1:])
    length = _length([row["steps"] for row in record["decided"]], view)
    decided = next(row for row in record["decided"] if row["steps"] == length)
    st.markdown(
        shared.as_text(
            f"Decided at step {decided['decided_at']:.2f} {interval([decided['ci_low'], decided['ci_high']])} of {length} on "
            f"average (n = {decided['n']}). A change there moves {number(decided.get('flip_there'))} of the answers, a later one "
            f"{number(decided.get('flip_after'))}."
        )
    )
    figure = figures.lines(
        [_with_ci(row) for row in record["steps"] if row["steps"] == length],
        "step",
        [
            ("forced", "ci", "forced answer is the final one", palette.BLUE, "solid"),
            ("read", None, "a probe reads the final answer", palette.GREEN, "solid"),
            ("read_from_question", None, "control: the same probe before thinking", palette.BLACK, "dot"),
            ("flip", None, "a change of this step moves the answer", palette.ORANGE, "dash"),
        ],
        "Commitment curve",
        "steps of thinking",
    )
    figure.add_vline(x=decided["decided_at"], line_dash="dot", line_color=palette.GREY)
    shared.chart(figure, key="commitment-curve", alt="Share of answers that are decided, by steps of thinking")
    st.caption("The dotted line is the mean deciding step: from there on every forced answer is the final one.")
    table(record["steps"], "commitment", "Every number of steps and step")


def bits(result: Result, view: View) -> None:
    """Draw bits about each target beside shuffled choices, and false positives at a threshold."""
    rows = result.record["table"]
    for source, gain in result.record["total"].items():
        at_least = "at least " if gain.get("bound") == "lower bound" else ""
        headline(
            f"{source}: {at_least}{number(gain['bits'])} {interval(gain['ci'])} bits about all targets together "
            f"(n = {gain['n']})."
        )
    shuffled = [row["shuffled"] for row in rows if row.get("shuffled") is not None]
    beaten = [row["target"] for row in rows if row.get("shuffled") is not None and row["shuffled"] >= row["bits"] > 0]
    if beaten:
        headline(f"Shuffled choices say as much about {', '.join(beaten)}.", warns=True)
    shared.chart(
        figures.bars(
            [_with_ci(row) | {"name": f"{row['target']} ({row['channel']})"} for row in rows],
            "name",
            [
                ("bits", "ci", "bits beyond the meaning", palette.BLUE),
                ("shuffled", "none", "control: shuffled choices", palette.GREY),
            ],
            "Bits about each target",
            "bits",
        ).update_yaxes(range=None),
        key="bits-by-target",
        alt="Bits about each target beside the shuffled control, with intervals",
    )
    threshold = float(
        view.choice("Threshold in bits", _THRESHOLDS, "threshold", default="0.05", why_not="no such threshold")
    )
    over = sum(row["bits"] is not None and row["bits"] >= threshold for row in rows)
    false = sum(value >= threshold for value in shuffled)
    st.markdown(
        shared.as_text(
            f"At {threshold:g} bit: {over} of {len(rows)} targets are above, and {false} of {len(shuffled)} shuffled controls, a "
            f"false-positive rate of {false / len(shuffled):.2f}."
            if shuffled
            else "No shuffled control was kept."
        )
    )
    table(rows, "bits", "Every source and target with bits, control and verdict")


def located(result: Result, view: View) -> None:
    """Draw bits at each word, as written or with words paraphrased."""
    record = result.record
    cells = pd.DataFrame(record["cells"])
    places = ", ".join(map(str, record["places"])) or "none"
    headline(f"Carrying words: {places} (q below 0.01).")
    paraphrase = view.flag(
        "Show what paraphrases leave", "paraphrase", help="The knock-out test of the carrying words."
    )
    if paraphrase:
        rows = [{"version": name, **gain} for name, gain in record["knock_out"].items()]
        shared.chart(
            figures.bars(
                rows, "version", [("bits", "ci", "bits left", palette.BLUE)], "Bits after a paraphrase", "bits"
            ).update_yaxes(range=None),
            key="knock-out",
            alt="Bits as written, with the carrying words chosen again, and with the others chosen again",
        )
        st.caption(
            "Control: with all other words chosen again the channel must stay; with the carrying ones it must close."
        )
    cells["word"] = [f"word {place}" for place in cells["place"]]
    top = max(float(cells["bits"].max()), 1e-6)
    cells["share"] = cells["bits"].clip(lower=0) / top
    figure = figures.lines(
        list(cells.groupby("place", as_index=False)["bits"].sum().to_dict("records")),
        "place",
        [("bits", None, "bits at this word, all targets", palette.BLUE, "solid")],
        "Bits by position",
        "number of the word",
    )
    figure.update_yaxes(title="bits", range=None)
    shared.chart(figure, key="bits-by-position", alt="Bits at each word, over all targets")
    table(record["cells"], "located", "Every word and target with bits, interval and q")


def discovered(result: Result, view: View) -> None:
    """Draw which words and traces depend on hidden state, and how many traces a threshold flags."""
    record = result.record
    headline(f"All words together: {number(record['total'].get('value'))} bits; verdict: {record['verdict']}.")
    threshold = float(
        view.choice(
            "Threshold of q", ("0.001", "0.01", "0.05", "0.1"), "threshold", default="0.01", why_not="no such threshold"
        )
    )
    flagged = sum(row["q"] is not None and row["q"] < threshold for row in record["traces"])
    st.markdown(
        shared.as_text(
            f"At q below {threshold:g}: {flagged} of {len(record['traces'])} traces are flagged; at most {threshold:.1%} of the "
            "flagged ones are expected to be false."
        )
    )
    table(record["words"], "discovered", "Every word that was tested")


def paraphrased(result: Result, view: View) -> None:
    """Draw bits and answers that paraphrases leave."""
    rows = result.record["table"]
    verdicts = ", ".join(f"{name}: {text}" for name, text in result.record["verdicts"].items() if text != "control")
    headline(f"The choice of words is, by version, {verdicts or 'not tested against the answers'}.")
    only_written = not view.flag("Show the paraphrases", "paraphrase", help="Words are chosen again among synonyms.")
    shown = rows[:1] if only_written else rows
    bits_left = figures.bars(
        [_with_ci(row) for row in shown],
        "version",
        [("bits", "ci", "bits", palette.BLUE)],
        "Bits in the words",
        "bits",
    ).update_yaxes(range=None)
    charts = [Chart(bits_left, "paraphrase-bits", "Bits in the words of each version")]
    answered = [
        row | {"free_ci": [row["free_same_answer_low"], row["free_same_answer_high"]]}
        for row in shown
        if row.get("free_same_answer") is not None
    ]
    if answered:
        answers_left = figures.bars(
            answered,
            "version",
            [("free_same_answer", "free_ci", "answers that stay", palette.GREEN)],
            "Answers that stay",
            "fraction",
        )
        charts.append(Chart(answers_left, "paraphrase-answers", "Share of answers that stay under each version"))
    charts_in_pairs(charts)
    st.caption("As written is the control: the same text given back, word for word.")
    table(rows, "paraphrase", "Every version with bits and answers")


def _with_ci(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"ci": [row["ci_low"], row["ci_high"]]} if row.get("ci_low") is not None else row | {"ci": None}


def _length(lengths: Sequence[int], view: View) -> int:
    """Return the number of steps that is chosen, of those there are; the last by default."""
    names = [str(length) for length in lengths]
    return int(
        view.choice("Problems with this many steps", names, "length", default=names[-1], why_not="no such length")
    )
