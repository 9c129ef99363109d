"""Figures of a run: what is written on them can be read."""

from __future__ import annotations

import pytest

from dashboards.charts import decoders_by_step, organisms_compared, zeros


def steps(*chances: float | None) -> list[dict[str, object]]:
    return [
        {"step": k + 1, "probe_top1": 0.9, "ci": [0.8, 0.95], "question_only": 0.1, "chance": chance}
        for k, chance in enumerate(chances)
    ]


def test_one_chance_for_all_steps_is_named_beside_the_bars() -> None:
    figure = decoders_by_step(steps(None, 0.1, 0.1), 0.1)
    (label,) = figure.layout.annotations
    assert (label.xref, label.x, label.xanchor, label.y) == ("x domain", 1, "left", 0.1)
    assert label.text == "chance<br>0.10"
    assert list(figure.layout.xaxis.ticktext) == ["step 1", "step 2", "step 3"]


def test_a_chance_for_each_step_is_named_below_the_bars() -> None:
    figure = decoders_by_step(steps(0.1, 0.25), 0.5)
    assert not figure.layout.annotations
    assert list(figure.layout.xaxis.ticktext) == ["step 1<br>chance 0.10", "step 2<br>chance 0.25"]


def test_many_steps_have_a_row_for_each_decoder_beside_its_chance_and_one_for_the_controls() -> None:
    chances = [0.01 * k for k in range(60)]
    many = [step | {"logit_lens_top1": 0.2, "logit_lens_ci": [0.1, 0.3]} for step in steps(*chances)]
    figure = decoders_by_step(many, 0.5)
    assert [title.text for title in figure.layout.annotations] == [
        "linear probe",
        "logit lens",
        "controls of the probe",
    ]
    lines = [part for part in figure.data if part.name == "chance"]
    assert [list(line.y) for line in lines] == [chances] * 3 and len({line.yaxis for line in lines}) == 3
    assert sum(part.name == "95 % interval" and part.fill == "tonexty" for part in figure.data) == 2
    (control,) = [part for part in figure.data if part.name == "control: question only"]
    assert control.yaxis == lines[-1].yaxis and "bar" not in {part.type for part in figure.data}


def test_the_bar_of_a_single_model_is_no_wider_than_one_of_many() -> None:
    alone = {"name": "one", "accuracy": 0.5, "ci": [0.4, 0.6], "chance": 0.1, "comparisons": []}
    others = [{"organism": f"other-{k}", "accuracy": 0.5, "ci": [0.4, 0.6]} for k in range(4)]
    one, many = organisms_compared(alone), organisms_compared(alone | {"comparisons": others})
    assert one.data[0].width < many.data[0].width
    assert "same problems" not in one.layout.title.text and "same problems" in many.layout.title.text


@pytest.mark.parametrize("chances", [(0.1, 0.1), (0.1, 0.25)])
def test_each_step_has_a_line_at_its_chance(chances: tuple[float, float]) -> None:
    lines = decoders_by_step(steps(*chances), 0.1).layout.shapes
    assert [(line.y0, line.y1) for line in lines] == [(at, at) for at in chances]


def test_only_a_bar_without_height_has_a_text_and_it_is_left_of_the_interval() -> None:
    nothing, small, unknown = zeros([0.0, 0.001, float("nan")])
    assert nothing.strip() == "0" and nothing.startswith("0") and len(nothing) > 1
    assert small == unknown == ""
