"""Write a run as one HTML file that needs no network: thoughts first, then figures and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from dashboards import charts
from dashboards.runs import Run
from interp.runtime import palette
from interp.runtime.files import commit

SHOWN = 40  # problems with their thoughts


def build_report(run: Path | str, out: Path | None = None) -> Path:
    """Write the report of a run.

    Args:
        run: Folder of a finished run.
        out: File to write; RUN/report.html by default.

    Returns:
        The path of the file.

    Raises:
        StoreError: The run is missing or unfinished.
    """
    from jinja2 import Environment, PackageLoader, select_autoescape
    from plotly.offline import get_plotlyjs

    opened = Run(run)
    out = out or opened.path / "report.html"
    page = Environment(
        loader=PackageLoader("dashboards"), autoescape=select_autoescape(default=True, default_for_string=True)
    ).get_template("report.html.j2")
    cards, n_held_out = _cards(opened)
    html = page.render(
        run=opened.info,
        cards=cards,
        n_held_out=n_held_out,
        figures=[figure.to_html(full_html=False, include_plotlyjs=False) for figure in _figures(opened)],
        label=palette.label,
        plotlyjs=get_plotlyjs(),
    )
    commit(out, html.encode())
    return out


def _figures(run: Run) -> list[Any]:
    """Return the Plotly figures of the report."""
    info = run.info
    return [
        charts.decoders_by_step(info["steps"], info["chance"]),
        charts.held_values(run.sweep.table(), info["steps"][0]["address"]),
        charts.edits_by_step(info["interchange"]["by_step"]),
        charts.organisms_compared(info),
    ]


def _cards(run: Run) -> tuple[list[dict[str, Any]], int]:
    """Return the problems to show, failures first and then evenly over lengths, and the number of held-out ones."""
    thoughts = run.thoughts("probe")
    others: dict[str, pd.Series] = {
        m: run.thoughts(m).set_index(["trace", "step"])["text"] for m in ("logit_lens", "sae") if m in run.methods
    }
    good = thoughts.groupby("trace").agg(right=("right", "all"), followed=("followed", _all_followed))
    good["answer"] = [run.traces[t].correct for t in good.index]
    good["n_steps"] = [run.traces[t].problem.n_steps for t in good.index]
    failures = good[~(good["right"] & good["followed"] & good["answer"])].index.tolist()
    others_right = good.drop(failures)
    turn = others_right.groupby("n_steps").cumcount()
    chosen = (
        failures[: SHOWN // 2]
        + others_right.assign(turn=turn).sort_values(["turn", "n_steps"], ascending=[True, False]).index.tolist()
    )
    by_trace = dict(tuple(thoughts.groupby("trace")))
    return [_card(run, t, by_trace[t], others) for t in chosen[:SHOWN]], len(good)


def _all_followed(values: pd.Series) -> bool:
    return bool(values.fillna(True).astype(bool).all())


def _card(run: Run, trace: int, thoughts: pd.DataFrame, others: dict[str, pd.Series]) -> dict[str, Any]:
    shown = run.traces[trace]
    return {
        "trace": trace,
        "question": shown.problem.question,
        "readable": shown.problem.readable,
        "operations": shown.problem.meta.get("operations", []),
        "answer": shown.answer,
        "gold": shown.problem.answer,
        "correct": shown.correct,
        "thoughts": [
            {
                **row,
                "edited": row["donor_value"] is not None and row["donor_value"] == row["donor_value"],
                "also": {m: texts.get((trace, row["step"]), "–") for m, texts in others.items()},
            }
            for row in thoughts.sort_values("step").to_dict("records")
        ],
    }
