"""Write a run as one HTML file that needs no network: thoughts first, then figures and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from dashboards import charts
from dashboards.describe import how_it_thinks, model_name, problems_of, title_of
from dashboards.headline import location_in_words, reading_location
from dashboards.readings import is_guess, percent
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
    cards, n_read = _cards(opened)
    html = page.render(
        run=opened.info,
        cards=cards,
        n_read=n_read,
        name=model_name(opened.info),
        title=title_of(opened.info),
        problems=problems_of(opened.info),
        how_it_thinks=how_it_thinks(opened.info),
        reading_location=reading_location,
        in_words=location_in_words,
        figures=[figure.to_html(full_html=False, include_plotlyjs=False) for figure in _figures(opened)],
        label=palette.label,
        percent=percent,
        is_guess=is_guess,
        scores=_probe_scores(opened),
        plotlyjs=get_plotlyjs(),
    )
    commit(out, html.encode())
    return out


def _probe_scores(run: Run) -> dict[int, dict[str, Any]]:
    """Return the held-out scores of the probe, by step."""
    scores = run.scores
    return scores[scores["method"] == "probe"].set_index("step").to_dict("index") if len(scores) else {}


def _figures(run: Run) -> list[Any]:
    """Return the Plotly figures of the report; those of stages that were skipped are left out."""
    info, figures = run.info, []
    if info["steps"]:
        figures.append(charts.decoders_by_step(info["steps"], info["chance"]))
    if run.skipped("sweep") is None:
        figures += _sweep_figures(run)
    if info["interchange"]:
        figures.append(charts.edits_by_step(info["interchange"]["by_step"]))
    return [*figures, *([charts.organisms_compared(info)] if info["comparisons"] else [])]


def _sweep_figures(run: Run) -> list[Any]:
    """Return what can be read where: the value after each step, or the only target of a run without steps."""
    table, steps = run.sweep.table(), run.info["steps"]
    if not table["target"].str.startswith("value_").any():
        return [run.sweep.heatmap()]
    address = str(steps[0]["address"]) if steps else ""
    if address not in set(table["address"]):
        address = str(table.loc[table["val_accuracy"].idxmax(), "address"])
    return [charts.held_values(table, address)]


def _cards(run: Run) -> tuple[list[dict[str, Any]], int]:
    """Return the problems to show, failures first and then evenly over lengths, and the number of held-out ones."""
    thoughts = run.thoughts("probe")
    if thoughts.empty:
        return _unread_cards(run), 0
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


def _unread_cards(run: Run) -> list[dict[str, Any]]:
    """Return the problems to show where no step was read: wrong answers first, and what the model wrote."""
    order = sorted(range(len(run.traces)), key=lambda k: run.traces[k].correct)
    shown = order[: SHOWN // 2] + order[::-1][: SHOWN // 2]
    return [_card(run, trace, pd.DataFrame(columns=["step"]), {}) for trace in dict.fromkeys(shown)]


def _all_followed(values: pd.Series) -> bool:
    return all(value is None or value != value or bool(value) for value in values)


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
        "text": shown.text if shown.text != shown.answer else "",
        "thoughts": [
            {
                **row,
                "edited": row["donor_value"] is not None and row["donor_value"] == row["donor_value"],
                "also": {m: texts.get((trace, row["step"]), "–") for m, texts in others.items()},
            }
            for row in thoughts.sort_values("step").to_dict("records")
        ],
    }
