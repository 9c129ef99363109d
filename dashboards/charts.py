"""Plotly figures of a run, made from its tables."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.describe import model_name
from interp.activations.source import place_key
from interp.causal.interchanges.results import with_current_names
from interp.runtime import palette

_CONTROLS = ("question_only", "before_thinking", "text_only", "other_problem", "shuffled_labels", "random_init")
FEW_STEPS = 8  # that fit side by side with their names
_MARKS = ("x", "cross", "star", "diamond", "triangle-down", "square")
# Marks lie on bars of any colour, where only an outline keeps them apart.
_MARK = {"color": palette.BLACK, "line": {"color": palette.WHITE, "width": 1}}


def decoders_by_step(steps: list[dict[str, Any]], chance: float) -> go.Figure:
    """Return bars of every decoder's held-out top-1 at each step, with controls as marks and each step's chance as a line.

    Where there are many steps, each decoder has a row of its own, with its interval as a band.

    Args:
        steps: `steps` of run.json.
        chance: Accuracy of guessing at the steps that name none of their own.
    """
    if len(steps) > FEW_STEPS:
        return _decoders_by_many_steps(steps, chance)
    names = [f"step {step['step']}" for step in steps]
    first = steps[0]
    across = list(range(len(steps)))
    figure = go.Figure()
    for method, colour in palette.COLOURS.items():
        key = f"{method}_top1"
        if key not in first:
            continue
        value = [step.get(key) for step in steps]
        bounds = [step.get("ci" if method == "probe" else f"{method}_ci") for step in steps]
        figure.add_bar(
            name=palette.label(method),
            x=across,
            customdata=names,
            y=value,
            marker_color=colour,
            text=zeros(value),
            textposition="outside",
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [b[1] - v if b else None for v, b in zip(value, bounds, strict=True)],
                "arrayminus": [v - b[0] if b else None for v, b in zip(value, bounds, strict=True)],
                "thickness": 1,
                "width": 2,
            },
            hovertemplate="%{customdata}, " + palette.label(method) + ": %{y:.3f}<extra></extra>",
        )
    for number, (control, mark) in enumerate(zip(_CONTROLS, _MARKS, strict=True)):
        if any(step.get(control) is not None for step in steps):
            figure.add_scatter(
                name=f"control: {palette.label(control)}",
                # Side by side, because working controls all lie at chance.
                x=[k + (number - (len(_CONTROLS) - 1) / 2) * 0.14 for k in across],
                customdata=names,
                y=[step.get(control) for step in steps],
                mode="markers",
                marker={"symbol": mark, "size": 9, **_MARK},
                hovertemplate="%{customdata}, control " + palette.label(control) + ": %{y:.3f}<extra></extra>",
            )
    guesses = [chance if step.get("chance") is None else step["chance"] for step in steps]
    _chance(figure, names, guesses)
    return lay_out(figure, "How well each thought can be read, on held-out problems", "held-out top-1")


def _decoders_by_many_steps(steps: list[dict[str, Any]], chance: float) -> go.Figure:
    """Return a row for each decoder and one for the controls: lines over the steps, beside each step's chance."""
    methods = [method for method in palette.COLOURS if f"{method}_top1" in steps[0]]
    controls = [control for control in _CONTROLS if any(step.get(control) is not None for step in steps)]
    titles = [*map(palette.label, methods), *(["controls of the probe"] if controls else [])]
    rows = len(titles)
    figure = make_subplots(rows, 1, shared_xaxes=True, subplot_titles=titles, vertical_spacing=0.3 / rows)
    across = [step["step"] for step in steps]
    guesses = [chance if step.get("chance") is None else step["chance"] for step in steps]
    for row in range(1, rows + 1):
        line = {"dash": "dot", "color": palette.GREY, "width": 2, "shape": "hvh"}
        hover = "step %{x}, chance: %{y:.3f}<extra></extra>"
        figure.add_scatter(
            name="chance", x=across, y=guesses, line=line, hovertemplate=hover, showlegend=row == 1, row=row, col=1
        )
    for row, method in enumerate(methods, start=1):
        bounds = [step.get("ci" if method == "probe" else f"{method}_ci") or (None, None) for step in steps]
        for end, fill in ((1, None), (0, "tonexty")):
            figure.add_scatter(
                name="95 % interval",
                x=across,
                y=[bound[end] for bound in bounds],
                mode="lines",
                line={"width": 0, "color": palette.COLOURS[method]},
                fill=fill,
                hoverinfo="skip",
                showlegend=False,
                row=row,
                col=1,
            )
        figure.add_scatter(
            name=palette.label(method),
            x=across,
            y=[step.get(f"{method}_top1") for step in steps],
            mode="lines+markers",
            line={"color": palette.COLOURS[method]},
            hovertemplate="step %{x}, " + palette.label(method) + ": %{y:.3f}<extra></extra>",
            showlegend=False,
            row=row,
            col=1,
        )
    for control in controls:
        figure.add_scatter(
            name=f"control: {palette.label(control)}",
            x=across,
            y=[step.get(control) for step in steps],
            mode="markers",
            marker={"symbol": _MARKS[_CONTROLS.index(control)], "size": 8, **_MARK},
            hovertemplate="step %{x}, control " + palette.label(control) + ": %{y:.3f}<extra></extra>",
            row=rows,
            col=1,
        )
    figure.update_annotations(x=0, xanchor="left", font={"size": 13})
    figure.update_xaxes(range=[across[0] - 0.5, across[-1] + 0.5], zeroline=False)
    figure.update_xaxes(title="step", row=rows, col=1)
    title = "How well each thought can be read, on held-out problems"
    lay_out(figure, title, None, height=150 + 120 * rows)
    figure.update_yaxes(range=[-0.06, 1.08])
    figure.update_yaxes(title="held-out top-1", row=1, col=1)
    return figure.update_layout(legend={"y": -0.4 / rows})


def _chance(figure: go.Figure, names: list[str], guesses: list[float]) -> None:
    """Draw the chance of each step, named where no bar hides it: beside all bars, or below each."""
    across = list(range(len(names)))
    line = {"dash": "dot", "color": palette.GREY, "width": 2}
    for k, at in zip(across, guesses, strict=True):
        figure.add_shape(type="line", x0=k - 0.45, x1=k + 0.45, y0=at, y1=at, line=line)
    shown = [f"{at:.2f}" for at in guesses]
    if len(set(shown)) == 1:
        figure.add_annotation(
            x=1, xref="x domain", y=guesses[0], text=f"chance<br>{shown[0]}", showarrow=False, xanchor="left"
        )
    else:
        names = [f"{name}<br>chance {at}" for name, at in zip(names, shown, strict=True)]
    figure.update_xaxes(tickvals=across, ticktext=names)


def held_values(frame: pd.DataFrame, address: str) -> go.Figure:
    """Return a heatmap of held-out accuracy: value after each step (rows) by place (columns), at one address.

    Args:
        frame: Table of a probe sweep.
        address: Which activation to show.
    """
    cells = frame[(frame["address"] == address) & frame["target"].str.fullmatch(r"value_\d+")]
    targets = sorted(cells["target"].unique(), key=lambda target: int(target.removeprefix("value_")))
    places = [p for p in sorted(cells["place"].unique(), key=place_key) if p not in ("answer",)]
    grid = cells.pivot(index="target", columns="place", values="accuracy").loc[targets, places]
    figure = go.Figure(
        go.Heatmap(
            z=grid.to_numpy(),
            x=places,
            y=[f"value after step {t.removeprefix('value_')}" for t in targets],
            text=[[f"{v:.2f}" if v == v else "" for v in row] for row in grid.to_numpy()],
            texttemplate="%{text}",
            colorscale="Cividis",
            zmin=0,
            zmax=1,
            colorbar={"title": "top-1"},
            hovertemplate="%{y} at %{x}: %{z:.3f}<extra></extra>",
        )
    )
    label = cells["label"].iloc[0]
    return lay_out(figure, f"Which value can be read from which thought (linear probe, {label})", None, height=340)


def edits_by_step(by_step: list[dict[str, Any]]) -> go.Figure:
    """Return bars of how often answers follow the donor, and how often they change under the controls.

    Args:
        by_step: `interchange.by_step` of run.json.
    """
    frame = with_current_names(pd.DataFrame(by_step))
    wanted = (
        (
            "other value",
            "follow_rate",
            "ci_low",
            "ci_high",
            "donor with another value: answer follows it",
            palette.BLUE,
        ),
        (
            "same value",
            "change_rate",
            "change_low",
            "change_high",
            "donor with the same value: answer changes",
            palette.ORANGE,
        ),
        (
            "random vector",
            "change_rate",
            "change_low",
            "change_high",
            "random vector of the same length: answer changes",
            palette.GREY,
        ),
    )
    figure = go.Figure()
    for edit, column, low, high, name, colour in wanted:
        part = frame[frame["edit"] == edit]
        figure.add_bar(
            name=name,
            x=[f"thought {k}" for k in part["step"]],
            y=part[column],
            marker_color=colour,
            text=zeros(part[column]),
            textposition="outside",
            error_y={
                "type": "data",
                "symmetric": False,
                "array": part[high] - part[column],
                "arrayminus": part[column] - part[low],
                "thickness": 1,
                "width": 2,
            },
            customdata=part["n"],
            hovertemplate="%{x}: %{y:.3f} of %{customdata} edits<extra>" + name + "</extra>",
        )
    return lay_out(figure, "Does the model use what was read?", "fraction of edits")


def organisms_compared(result: dict[str, Any]) -> go.Figure:
    """Return bars of accuracy for the run's model and the organisms that it is compared with.

    Args:
        result: Content of run.json.
    """
    rows = [{**result, "organism": model_name(result)}, *result["comparisons"]]
    figure = go.Figure(
        go.Bar(
            x=[f"{escape(row['organism'].replace('-', ' ', 1))}<br>{row['accuracy']:.3f}" for row in rows],
            y=[row["accuracy"] for row in rows],
            text=zeros(row["accuracy"] for row in rows),
            textposition="outside",
            marker_color=[palette.BLUE, *[palette.GREY] * (len(rows) - 1)],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [row["ci"][1] - row["accuracy"] for row in rows],
                "arrayminus": [row["accuracy"] - row["ci"][0] for row in rows],
                "thickness": 1,
                "width": 2,
            },
            hovertemplate="%{x}: %{y:.3f}<extra></extra>",
        )
    )
    figure.add_hline(
        y=result["chance"],
        line_dash="dot",
        line_color=palette.GREY,
        annotation_text="chance",
        annotation_position="right",
    )
    # A bar of its own width, however few there are.
    figure.update_traces(width=min(0.8, 0.2 * len(rows)))
    title = "Answers right on the same problems" if result["comparisons"] else "Answers right"
    return lay_out(figure, title, "fraction of answers right")


def zeros(values: Iterable[Any]) -> list[str]:
    """Return a text for each bar: 0, left of its interval, where it has no height and could not be seen."""
    return ["0" + "\u2007" * 4 if value == 0 else "" for value in values]


def lay_out(figure: go.Figure, title: str, y_title: str | None, *, height: int = 400) -> go.Figure:
    """Give a figure its title, height and margins, and return it.

    Args:
        figure: The figure, which is changed.
        title: Its title.
        y_title: Title of a vertical axis of fractions, from 0 to 1; None leaves the axis as it is.
        height: In pixels.
    """
    figure.update_layout(
        title=title,
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 60, "t": 60, "b": 50},
        legend={"orientation": "h", "y": -0.18},
        barmode="group",
    )
    if y_title:
        figure.update_yaxes(title=y_title, range=[0, 1.08])
    return figure
