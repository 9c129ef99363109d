"""A later run with fewer organisms keeps the rows of an earlier run."""

from __future__ import annotations

from typing import Any

from benchmarks.papers.earlier import NOTE, OF_SEED, with_earlier_rows


def section(arms: dict[str, float], **more: Any) -> dict[str, Any]:
    rows = [{"task": "graph", "arm": arm, "accuracy": value} for arm, value in arms.items()]
    return {"tables": {"right": rows}, "notes": ["said"], **more}


BEFORE = section({"text": 0.9, "direct": 0.2, "Coconut": 0.8}, seeds={"1": {}})


def test_rows_of_missing_organisms_stay_where_they_stood() -> None:
    result = with_earlier_rows(section({"Coconut": 1.0, "text": 0.7, "new": 0.5}), BEFORE, ["graph-direct"])
    assert [(row["arm"], row["accuracy"]) for row in result["tables"]["right"]] == [
        ("text", 0.7),
        ("direct", 0.2),
        ("Coconut", 1.0),
        ("new", 0.5),
    ]
    assert result["notes"] == ["said", NOTE]
    assert with_earlier_rows(result, BEFORE, ["graph-direct"]) == result


def test_a_figure_in_the_second_column_does_not_tell_rows_apart() -> None:
    before, later = ({"tables": {"labels": [{"label": "known", "f1": f1}]}, "notes": []} for f1 in (0.5, 0.6))
    assert with_earlier_rows(later, before, ["igsm"]) == later


def test_rows_under_an_older_name_of_their_column_do_not_stay_beside_the_new_ones() -> None:
    earlier = {"tables": {"swapped": [{"kind": "random", "n": 7}, {"kind": "same value", "n": 7}]}, "notes": []}
    later = {"tables": {"swapped": [{"edit": "random vector", "n": 8}, {"edit": "same value", "n": 8}]}, "notes": []}
    assert with_earlier_rows(later, earlier, ["graph-direct"]) == later


def test_a_run_with_all_organisms_takes_the_place_of_the_earlier_one() -> None:
    later = section({"text": 0.7})
    assert with_earlier_rows(later, BEFORE, []) == later
    assert with_earlier_rows(later, {}, ["graph-direct"]) == later


def test_tables_of_other_training_seeds_stay_until_measured_again() -> None:
    caption = f"right{OF_SEED}1"
    before = {"tables": {caption: [{"arm": "text"}], "renamed since": []}, "notes": []}
    assert set(with_earlier_rows(section({"text": 1.0}), before, [])["tables"]) == {"right", caption}
    later = {"tables": {caption: [{"arm": "direct"}]}, "notes": []}
    assert with_earlier_rows(later, before, [])["tables"] == later["tables"]


def test_a_run_without_organisms_keeps_every_row() -> None:
    nothing = {"tables": {}, "notes": ["not measured: no organism"]}
    assert with_earlier_rows(nothing, BEFORE, ["graph-direct"]) == {k: v for k, v in BEFORE.items() if k != "seeds"}
    assert with_earlier_rows(nothing, {"seeds": {}}, ["graph-direct"]) == nothing
