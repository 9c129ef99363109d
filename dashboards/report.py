"""A run as one HTML file that needs no network: the thoughts first, then the figures behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from dashboards import charts
from dashboards.runs import Run
from interp.runtime import palette
from interp.runtime.files import commit

SHOWN = 40


def build_report(run: Path | str, out: Path | None = None) -> Path:
    """Write the report of the run folder `run`, to RUN/report.html by default, and return where it is.

    Raises `StoreError` when the run is missing or unfinished.
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
    info = run.info
    return [
        charts.decoders_by_step(info["steps"], info["chance"]),
        charts.held_values(run.sweep.table(), info["steps"][0]["address"]),
        charts.edits_by_step(info["interchange"]["by_step"]),
        charts.organisms_compared(info),
    ]


def _cards(run: Run) -> tuple[list[dict[str, Any]], int]:
    """The problems to show: every kind of failure first, then evenly over the lengths. And how many there are."""
    thoughts = run.thoughts("probe")
    others: dict[str, pd.Series] = {
        m: run.thoughts(m).set_index(["trace", "step"])["text"] for m in ("logit_lens", "sae") if m in run.methods
    }
    good = thoughts.groupby("trace").agg(right=("right", "all"), followed=("followed", _all_followed))
    good["answer"] = [run.traces[t].correct for t in good.index]
    good["n_steps"] = [run.traces[t].problem.n_steps for t in good.index]
    failures = good[~(good["right"] & good["followed"] & good["answer"])].index.tolist()
    rest = good.drop(failures)
    turn = rest.groupby("n_steps").cumcount()
    chosen = (
        failures[: SHOWN // 2]
        + rest.assign(turn=turn).sort_values(["turn", "n_steps"], ascending=[True, False]).index.tolist()
    )
    by_trace = dict(tuple(thoughts.groupby("trace")))
    return [_card(run, t, by_trace[t], others) for t in chosen[:SHOWN]], len(good)


def _all_followed(values: pd.Series) -> bool:
    return bool(values.fillna(True).astype(bool).all())


def _card(run: Run, trace: int, thoughts: pd.DataFrame, others: dict[str, pd.Series]) -> dict[str, Any]:
    found = run.traces[trace]
    return {
        "trace": trace,
        "question": found.problem.question,
        "readable": found.problem.readable,
        "operations": found.problem.meta.get("operations", []),
        "answer": found.answer,
        "gold": found.problem.answer,
        "correct": found.correct,
        "thoughts": [
            {
                **row,
                "edited": row["donor_value"] is not None and row["donor_value"] == row["donor_value"],
                "also": {m: texts.get((trace, row["step"]), "–") for m, texts in others.items()},
            }
            for row in thoughts.sort_values("step").to_dict("records")
        ],
    }
