"""One panel for each causal test: its headline, figure, controls and table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboards.headline import interval
from dashboards.views import shared
from dashboards.views.effects import figures
from dashboards.views.shared import as_text, number
from dashboards.views.url import View
from interp.causal.interchanges.results import InterchangeResult
from interp.runtime import palette

Record = Mapping[str, Any]


def headline(text: str, *, warns: bool = False) -> None:
    """Draw the sentence that a panel comes down to; with a sign where a control beats the reading."""
    if warns:
        st.warning(as_text(text), icon=":material/warning:")
    else:
        st.markdown(f"**{as_text(text)}**")


class Chart(NamedTuple):
    """A figure of a panel.

    Attributes:
        figure: The figure.
        key: Name of the element in Streamlit.
        alt: Description for screen readers.
    """

    figure: go.Figure
    key: str
    alt: str


def charts_in_pairs(charts: Sequence[Chart]) -> None:
    """Draw figures side by side, two in a row."""
    for first in range(0, len(charts), 2):
        for column, chart in zip(st.columns(2), charts[first : first + 2], strict=False):
            with column:
                shared.chart(chart.figure, key=chart.key, alt=chart.alt)


def rates_of(result: InterchangeResult) -> dict[str, Any]:
    """Return an interchange in the form of `cotlens causal interchange`."""
    rows = [
        {
            "edit": row["edit"],
            "step": row["step"],
            "followed": row["follow_rate"],
            "followed_ci": [row["ci_low"], row["ci_high"]],
            "chance": row["chance"],
            "changed": row["change_rate"],
            "changed_ci": [row["change_low"], row["change_high"]],
            "n": row["n"],
        }
        for row in result.summary().to_dict("records")
    ]
    verdict = result.verdict()
    return {"rates": rows, "verdict": verdict.name, "why": verdict.why, "claim": verdict.claim}


def interchange(record: Record, view: View) -> None:
    """Draw the rates of an interchange by edit, and by step."""
    # With the same value the implied answer is the one that was given, so there is nothing to follow.
    every = [
        row | ({"followed": None} if row["edit"] == "same value" else {}) for row in record["rates"] if row["step"] == 0
    ]
    by_name = {row["edit"]: row for row in every}
    other = by_name.get("other value", {})
    value = other.get("followed")
    beaten = [
        f"{row['edit']} {row['followed']:.3f}"
        for name, row in by_name.items()
        if name in ("wrong site", "wrong step") and None not in (row["followed"], value) and row["followed"] >= value
    ]
    same = by_name.get("same value", {}).get("changed")
    if same is not None and value is not None and same >= value > 0:
        beaten.append(f"a donor of the same value changes {same:.3f}")
    verdict = f"{record.get('verdict', '')}: {record.get('claim') or record.get('why', '')}"
    if beaten:
        headline(f"A control is as good as the edit, which {number(value)} follow: {', '.join(beaten)}.", warns=True)
    headline(
        f"{number(value)} {interval(other.get('followed_ci'))} of answers follow the donor's value (n = {other.get('n', 0)}). "
        f"{verdict[:1].upper()}{verdict[1:]}."
    )
    steps = sorted({int(row["step"]) for row in record["rates"]} - {0})
    by_edit = figures.bars(
        every,
        "edit",
        [
            ("followed", "followed_ci", "answer follows the donor's value", palette.BLUE),
            ("changed", "changed_ci", "answer changes", palette.ORANGE),
        ],
        "What each edit does to the answer",
        "fraction of edits",
    )
    by_step = figures.bars(
        [_at_step(record["rates"], step) for step in steps],
        "step",
        [
            ("followed", "followed_ci", "another value: answer follows", palette.BLUE),
            ("changed", "changed_ci", "same value: answer changes (control)", palette.ORANGE),
        ],
        "By step",
        "fraction of edits",
    )
    charts_in_pairs(
        [
            Chart(
                by_edit,
                "interchange-edits",
                "Share of answers that follow and that change, for each edit, with intervals",
            ),
            Chart(
                by_step,
                "interchange-by-step",
                "Share of answers that follow another value, and that change with the same value, by step",
            ),
        ]
    )
    st.caption(
        "Controls: a donor of the same value should change nothing, a wrong place should not be followed, and a random vector "
        "of the same length shows whether the thought is needed at all. Intervals are 95 %, resampled by problem structure."
    )
    rates = [row | {"step": str(row["step"] or "all")} for row in record["rates"]]
    table(rates, "interchange", "Every edit and step with its rates and intervals")


def _at_step(rates: Sequence[Record], step: int) -> dict[str, Any]:
    of = {row["edit"]: row for row in rates if row["step"] == step}
    other, same = of.get("other value", {}), of.get("same value", {})
    return {
        "step": f"step {step}",
        "followed": other.get("followed"),
        "followed_ci": other.get("followed_ci"),
        "changed": same.get("changed"),
        "changed_ci": same.get("changed_ci"),
        "n": other.get("n"),
    }


def layer_map(record: Record, view: View) -> None:
    """Draw where an exchanged state is followed, beside the same-value control."""
    cells = pd.DataFrame(record["cells"])
    cells["place"] = ["thought k" + (f"{k:+d}" if k else "") for k in cells["offset"]]
    gain = cells["followed"] - cells["same_value_changed"].fillna(0)
    best = cells.loc[gain.idxmax()].to_dict()
    beaten = bool(best["same_value_changed"] >= best["followed"])
    headline(
        f"Most answers follow at {best['label']}, {best['place']}: {best['followed']:.3f} {interval(best['followed_ci'])}; "
        f"with the same value {number(best['same_value_changed'])} {interval(best['same_value_ci'])} change, chance "
        f"{best['chance']:.3f} (n = {best['n']}).",
        warns=beaten,
    )
    charts_in_pairs(
        [
            Chart(
                figures.grid(cells, "place", "label", value, title, x_title="position that is edited"),
                f"layer-map-{value}".replace("_", "-"),
                f"{title}, by address and position",
            )
            for value, title in (
                ("followed", "Another value: answers follow"),
                ("same_value_changed", "Control, same value: answers change"),
            )
        ]
    )
    st.caption("`everything` is the whole residual stream of the position, `cache` its keys and values in every block.")
    columns = ["label", "place", "followed", "followed_ci", "chance", "same_value_changed", "same_value_ci", "n"]
    table(cells[columns].to_dict("records"), "layer-map", "Every address and position with rates and intervals")


def used_map(record: Record, view: View) -> None:
    """Draw which thought carries which step's value."""
    cells = pd.DataFrame(record["cells"])
    lengths = [str(n) for n in sorted(cells["n_steps"].unique())]
    length = view.choice("Problems with this many steps", lengths, "length", why_not="no such length here")
    part = cells[cells["n_steps"] == int(length)].sort_values(["step", "thought"], ascending=[False, True])
    part = part.assign(
        of=[f"value of step {s}" for s in part["step"]],
        at=[f"thought {t}" for t in part["thought"]],
        shown=part["follow"].clip(lower=0),
    )
    counts = part["verdict"].value_counts().to_dict()
    used = part[part["verdict"] == "used"]
    where = ", ".join(
        f"step {row['step']} at thought {row['thought']}"
        for row in used.sort_values(["step", "thought"]).to_dict("records")
    )
    headline(f"Used: {where or 'no value at any single thought'}. {counts.get('undecided', 0)} cells are undecided.")
    shared.chart(
        figures.grid(
            part, "at", "of", "shown", "Answers that follow, above chance", x_title="thought", notes="verdict"
        ),
        key="used-map-chart",
        alt="Share of answers that follow each step's value when each thought is exchanged, with a verdict",
    )
    st.caption(
        "The share is corrected for answers that follow by chance: (followed − chance) / (1 − chance). Its one-sided 95 % "
        "Wilson bounds decide: used above 0.25, unused below. A value elsewhere on the diagonal's row is the control: the "
        "same exchange at another thought."
    )
    table(
        part[["step", "thought", "follow", "low", "high", "verdict", "n"]].to_dict("records"), "used-map", "Every cell"
    )


def ablation(record: Record, view: View) -> None:
    """Draw accuracy under each arm of the battery, and the verdict."""
    arms, content = record["arms"], record.get("content")
    own = next((arm for arm in arms if arm["arm"] == "own"), None)
    if content:
        headline(f"{content['verdict'][:1].upper()}{content['verdict'][1:]}: {content['claim'] or content['why']}.")
    broken = own is not None and (own.get("changed") or 0) > 0.05
    if broken and own is not None:
        headline(
            f"The control changed too: with its own thoughts put back, {own['changed']:.3f} of answers change.",
            warns=True,
        )
    shared.chart(
        figures.bars(
            arms,
            "arm",
            [("accuracy", "ci", "answers right", palette.BLUE)],
            "Answers right under each ablation",
            "accuracy",
        ),
        key="ablation-chart",
        alt="Accuracy under each arm of the ablation battery, with intervals",
    )
    st.caption("Control: `own` puts a problem's own thoughts back and should cost nothing. Intervals are 95 %.")
    table(arms, "ablation", "Every arm with accuracy, what it costs, and intervals")


def steering(record: Record, view: View) -> None:
    """Draw the dose-response of steering beside a random direction."""
    doses = record["doses"]
    chosen = next((row for row in doses if row.get("chosen")), doses[0])
    random, success = chosen.get("random direction"), chosen.get("success")
    beaten = None not in (random, success) and random >= success
    headline(
        f"At dose {record['best']:g}, chosen on other problems, {number(success)} {interval(chosen.get('success_ci'))} of answers "
        f"follow; a random direction of the same length gives {number(random)} {interval(chosen.get('random_ci'))}.",
        warns=beaten,
    )
    shared.chart(
        figures.lines(
            doses,
            "dose",
            [
                ("success", "success_ci", "answer follows the value", palette.BLUE, "solid"),
                ("random direction", "random_ci", "control: random direction", palette.BLACK, "dot"),
                (
                    "changed where already there",
                    "already_ci",
                    "collateral: changed where already there",
                    palette.ORANGE,
                    "dash",
                ),
                ("malformed", None, "collateral: no answer any more", palette.PURPLE, "dashdot"),
            ],
            "Dose and response",
            "dose, in multiples of the direction",
        ),
        key="dose-response",
        alt="Share of answers that follow at each dose, beside a random direction and collateral damage",
    )
    st.caption(
        "Control: a random direction of the same length at every dose. Collateral: answers that change where the thought holds "
        "the value already, and answers that are none. Intervals are 95 %, resampled by problem structure."
    )
    table(doses, "doses", "Every dose with success, control and collateral")


def swaps(records: Sequence[Record], view: View) -> None:
    """Draw who reads whose reasoning, as one matrix for each arm."""
    arms = list(dict.fromkeys(arm["arm"] for record in records for arm in record["arms"]))
    rows = [
        {
            "reader": record["reasoner"],
            "writer": record["writer"] + (" (latents)" if record.get("latents") else ""),
            **arm,
        }
        for record in records
        for arm in record["arms"]
    ]
    frame = pd.DataFrame(rows)
    first = frame[frame["arm"] == arms[0]]
    controls = frame[frame["arm"].isin(arms[1:])]
    strongest = controls["correct"].max() if len(controls) else None
    headline(
        f"With {arms[0]}: {first['correct'].min():.3f} to {first['correct'].max():.3f} of answers are right; the best control "
        f"gives {number(strongest)}.",
        warns=bool(strongest is not None and strongest >= first["correct"].max()),
    )
    st.caption(
        "Controls: the other arms, such as another problem's reasoning and the question only. Intervals are in the table."
    )
    charts_in_pairs(
        [
            Chart(
                figures.grid(
                    frame[frame["arm"] == arm], "writer", "reader", "correct", f"Answers right: {arm}", x_title="writer"
                ),
                f"swap-{arm}",
                f"Share of right answers by reader and writer: {arm}",
            )
            for arm in arms
        ]
    )
    table(frame.to_dict("records"), "swaps", "Every reader, writer and arm")


# Titles of columns that a table has beside their values.
_TITLES = {
    "followed_ci": "95 % of followed",
    "changed_ci": "95 % of changed",
    "same_value_ci": "95 % of same value",
    "same_value_changed": "same value changed",
    "ci": "95 %",
    "lost_ci": "95 % of lost",
    "success_ci": "95 % of success",
    "random_ci": "95 % of random",
    "already_ci": "95 % of already there",
    "correct_ci": "95 % of correct",
    "agrees_ci": "95 % of agrees",
}


def table(rows: Sequence[Record], name: str, alt: str) -> None:
    """Draw the numbers of a panel as a table that can be downloaded.

    Args:
        rows: One entry for each row. Intervals are lists of two numbers.
        name: Name of the element and of the file.
        alt: Description for screen readers.
    """
    frame = pd.DataFrame(rows)
    for column in frame.columns:
        if frame[column].map(lambda value: isinstance(value, list)).any():
            frame[column] = frame[column].map(interval)
    shared.table(frame.rename(columns=_TITLES), name, alt=alt)
