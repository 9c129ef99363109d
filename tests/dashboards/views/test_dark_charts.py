"""Charts on a dark page: what is black on a light one is light there, in lines as in marks."""

from __future__ import annotations

import plotly.graph_objects as go

from dashboards.charts import decoders_by_step
from dashboards.views.shared import _light_marks
from interp.runtime import palette


def test_black_marks_and_lines_become_light_and_other_colours_stay() -> None:
    figure = go.Figure()
    figure.add_scatter(x=[1], y=[1], line={"color": palette.BLACK}, marker={"color": palette.BLACK})
    figure.add_scatter(x=[1], y=[1], line={"color": palette.BLUE}, marker={"color": [palette.BLACK]})
    figure.add_heatmap(z=[[1]])
    _light_marks(figure)
    first, second, _ = figure.data
    assert first.line.color == first.marker.color == "#e6e6e6"
    assert second.line.color == palette.BLUE and list(second.marker.color) == [palette.BLACK]


def test_intervals_of_bars_become_light_and_chosen_colours_stay() -> None:
    figure = go.Figure()
    figure.add_bar(x=[1], y=[1], error_y={"type": "data", "array": [0.1]})
    figure.add_bar(x=[1], y=[1], error_y={"type": "data", "array": [0.1], "color": palette.GREY})
    _light_marks(figure)
    assert [bar.error_y.color for bar in figure.data] == ["#e6e6e6", palette.GREY]


def test_marks_on_bars_have_an_outline_of_the_other_brightness() -> None:
    figure = decoders_by_step([{"step": 1, "probe_top1": 0.9, "question_only": 0.1, "other_problem": 0.1}], 0.1)
    marks = [trace for trace in figure.data if trace.name.startswith("control")]
    assert len(marks) == 2 and all("open" not in mark.marker.symbol for mark in marks)
    assert {(mark.marker.color, mark.marker.line.color) for mark in marks} == {(palette.BLACK, palette.WHITE)}
    _light_marks(figure)
    assert {(mark.marker.color, mark.marker.line.color) for mark in marks} == {("#e6e6e6", palette.BLACK)}
