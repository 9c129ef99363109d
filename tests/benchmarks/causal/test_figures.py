"""The causal bench reports the worst figure over all training seeds that were measured, and names the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.causal.pushes import graph_figures, steering
from benchmarks.causal.run import Run, worst
from interp.organisms.catalog import weights_folder


def test_organisms_of_every_seed_are_taken_and_what_is_missing_is_noted(tmp_path: Path) -> None:
    (tmp_path / "chain-text-seed2").symlink_to(weights_folder("chain-direct"))
    (tmp_path / "chain-text-seed7").mkdir()  # one that is not trained yet
    run = Run(tmp_path, 1.0)
    result = [(label, name, seed, reasoner.kind) for label, name, seed, reasoner in run.each(["chain-text", "igsm-no"])]
    assert result == [("chain-text", "chain-text", 0, "text"), ("chain-text-seed2", "chain-text", 2, "direct")]
    assert len(run.notes) == 2 and "chain-text of seed 7" in run.notes[0] and "igsm-no of seed 0" in run.notes[1]
    assert run.size(100) == 100 and run.size(100, 2) == 50 and Run(None, 0.001).size(100) == 20


def test_the_worst_counts_and_every_other_is_named() -> None:
    rows = [
        ({"organism": name}, {"value": value, "ci": None, "n": 9}) for name, value in (("a", 0.9), ("a-seed1", 0.7))
    ]
    result = worst([*rows, ({"organism": "b"}, {"value": None})], min, "told")
    assert result["value"] == 0.7 and result["note"] == "the worst is a-seed1: a 0.900, a-seed1 0.700; told"
    assert worst([({"organism": "b"}, {"value": None})], min, "told")["value"] is None


def test_confirmed_paths_stand_beside_their_controls_and_the_rank_by_edges_alone() -> None:
    def row(organism: str, confirmed: float) -> dict:
        share = {"value": confirmed, "ci": [0.8, 1.0], "n": 500}
        beside = dict.fromkeys(
            ["random features of the layer", "of the layer and position", "ranked by edges alone", "carried"], 0.125
        )
        beside |= {"those with attention patterns and norm scales frozen": 1.0, "every MLP silenced": 0.07}
        beside |= {"the logit moves as predicted after a single feature": None, "completeness": 0.9}
        return {"organism": organism, "agreement": share, "paths": share, "satisfying": "3 of 4", **beside}

    figure = graph_figures([row("a", 0.97), row("a-seed1", 0.95)])["causal.paths_confirmed"]
    assert (figure["value"], figure["ci"], figure["n"]) == (0.95, [0.8, 1.0], 500)
    assert figure["note"].startswith("the worst is a-seed1: a 0.970, a-seed1 0.950; ")
    assert "random features of the layer 0.125, 0.125; of the layer and position 0.125, 0.125;" in figure["note"]
    assert "ranked by edges alone 0.125, 0.125" in figure["note"] and "single feature none, none" in figure["note"]


@pytest.mark.slow
def test_steering_of_a_second_seed_joins_the_figure(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("benchmarks.causal.pushes.STEERED", ("chain-coconut",))
    (tmp_path / "chain-coconut-seed1").symlink_to(weights_folder("chain-coconut-hard"))
    run = Run(tmp_path, 0.5)
    taken = steering(run)
    assert list(run.tables["steering"]["organism"]) == ["chain-coconut", "chain-coconut", "chain-coconut-seed1"]
    assert taken["causal.steer_success"]["value"] > 0.8 and taken["causal.steer_collateral"]["value"] < 0.1
    assert "chain-coconut-seed1" in taken["causal.steer_success"]["note"]


def test_a_folder_that_is_none_is_refused(cotlens: Callable, tmp_path: Path) -> None:
    ended = cotlens("bench", "causal", "--organisms", tmp_path / "none")
    assert ended.code == 2 and "expected a folder of organisms at" in ended.error
