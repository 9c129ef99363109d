"""What holds for every training seed, from kept results."""

from __future__ import annotations

import pytest

from benchmarks.papers import seeds

NECESSARY = "papers.igsm.necessary_above_random_init"


def test_the_worst_seed_counts_and_missing_ones_are_named() -> None:
    section = {"measures": {NECESSARY: {"value": 0.4}}, "seeds": {"1": {NECESSARY: {"value": 0.1}}}}
    assert seeds._igsm(section) == {"value": None, "note": "training seeds 2 were not measured"}
    section["seeds"]["2"] = {NECESSARY: {"value": 0.2}}  # type: ignore[index]
    assert seeds._igsm(section)["value"] == 0.1


def test_organisms_that_fail_their_task_are_named() -> None:
    organisms = [
        {"organism": "a", "seed": 0, "accuracy": 0.95},
        {"organism": "a", "seed": 1, "accuracy": 0.43, "current_recipe": False},
        {"organism": "b", "seed": 0, "error": "not loaded"},
        {"organism": "b", "seed": 3, "accuracy": 0.1},
    ]
    solved = seeds._solved({"organisms": organisms, "missing": ["b seed 1"]})
    assert solved["value"] == pytest.approx(1 / 3) and solved["n"] == 3
    assert "a seed 1 (0.430 right, by an earlier recipe), b seed 0 (0.000 right, by a recipe that" in solved["note"]
    assert solved["note"].endswith("not measured: b seed 1")
    assert seeds._made_by({"current_recipe": True}) == "by the present recipe"


def test_a_bench_without_a_result_gives_no_figure() -> None:
    for figure in (seeds._solved({}), seeds._middle({}), seeds._paths({})):
        assert figure["value"] is None and "has kept no result" in figure["note"]


def test_the_width_of_the_paths_interval_is_said() -> None:
    row = {"id": "causal.paths_confirmed", "value": 0.92, "ci": [0.87, 0.97], "n": 100, "note": "worst"}
    assert "±0.050, narrow enough" in seeds._paths({"measures": [row]})["note"]
    assert "wider than ±0.06" in seeds._paths({"measures": [row | {"ci": [0.6, 0.99]}]})["note"]


def test_the_middle_layers_dictionary_stands_beside_its_controls_and_seeds() -> None:
    chosen = {"f1": 0.96, "ci": [0.95, 0.97]}
    middle = {
        "chosen": "to the thought",
        "tried": {"plain": {"f1": 0.45}, "to the thought": chosen},
        "rivals": {"targets of other rows": {"f1": 0.21}},
        "seeds": [{"f1": 0.96}, {"f1": 0.94}],
        "dense_probe": 0.965,
    }
    measure = seeds._middle({"middle": middle})
    assert measure["value"] == 0.96 and measure["ci"] == [0.95, 0.97]
    for part in ("seeds 0.960, 0.940", "plain 0.45", "targets of other rows 0.21", "dense probe 0.965"):
        assert part in measure["note"]
