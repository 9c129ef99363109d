"""The decoder bench: figures are the worst over organisms, missing ones are noted, and the table is the stored one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import harness
from benchmarks.decoders import figures as bench_figures
from benchmarks.decoders.figures import Unit, _has_current_recipe, bench
from benchmarks.decoders.measures import figures
from benchmarks.decoders.table import decoder_table
from benchmarks.decoders.transfer import Transfer, transfer_table, transfers
from benchmarks.measures import table
from interp.errors import UsageError
from interp.organisms.catalog import CARD_NAME, recipe
from interp.runtime.console import Bars
from interp.runtime.engines import executor


def row(method: str, step: int, top1: float, **more: float) -> dict[str, Any]:
    plain = {"ci_low": top1 - 0.01, "ci_high": top1 + 0.01, "chance": 0.1, "majority": 0.08}
    plain |= {"question_only": 0.1, "other_problem": 0.11}
    return (
        {"method": method, "step": step, "site": "in 0", "top1": top1, "n": 100, "before_thinking": 0.3, "ece": 0.01}
        | plain
        | more
    )


def organism(name: str, seed: int, worst: float) -> dict[str, Any]:
    scores = [row("probe", 0, 0.99), row("probe", 1, 1.0), row("probe", 2, worst), row("verbalizer", 1, 0.97)]
    return {
        "organism": name,
        "seed": seed,
        "accuracy": 0.99,
        "best": "probe",
        "calibration": {"ece": 0.02, "confabulation": 0.01, "confabulation_ci": [0, 0.02], "coverage": 0.9, "n": 100}
        | {"raw_ece": 0.03, "raw_confabulation": 0.02, "model_wrong": 0.5},
        "scores": scores,
        "causal": [{"method": "probe", "follow_rate": 0.9}],
        "costs": [{"method": "probe", "fit_seconds": 0.5}],
        "search": [],
        "kv": [],
        "kind": "continuous",
        "lenses": [
            {"address": "blocks.0.hook_out", "logit_lens": 2.0, "tuned_lens": 1.0},
            {"address": "blocks.1.hook_out", "logit_lens": 0.5, "tuned_lens": 0.6},
            {"address": "ln_final.hook_out", "logit_lens": 0.0, "tuned_lens": 0.0},
        ],
    }


@pytest.fixture
def measures() -> dict[str, dict[str, Any]]:
    result = [organism("chain-coconut", 0, 0.98), organism("chain-coconut", 1, 0.96), organism("graph-coconut", 0, 0.9)]
    return figures(result, ["chain31-coconut seed 0", "variables-coconut seed 2"])


def test_every_figure_of_the_group_is_taken(measures: dict[str, dict[str, Any]]) -> None:
    assert set(measures) == set(table()["decoders"])


def test_what_is_kept_names_organisms_and_not_folders(tmp_path: Path) -> None:
    taken = Transfer("seed", ("a seed 0", "a seed 1"), ("chain-coconut", str(tmp_path)))
    assert taken._by_name(f"chain-coconut's lens, made by another model ({tmp_path})") == (
        "chain-coconut's lens, made by another model (a seed 1)"
    )


def test_whether_an_organism_was_trained_by_its_present_recipe_is_read_from_its_own_card(tmp_path: Path) -> None:
    unit = Unit("chain-coconut", 1, str(tmp_path), (), 1)
    assert _has_current_recipe(unit) is None
    made = recipe("chain-coconut").to_dict()
    for written, expected in ((made, True), ({**made, "replay": 0.7}, False)):
        (tmp_path / CARD_NAME).write_text(json.dumps({"name": "chain-coconut", "recipe": written}), encoding="utf-8")
        assert _has_current_recipe(unit) is expected
    assert _has_current_recipe(Unit("chain-coconut", 0, "chain-coconut", (), 1)) is True


def test_an_organism_that_does_not_solve_its_task_is_left_out_and_named() -> None:
    lost = organism("chain-coconut", 1, 0.1) | {"accuracy": 0.42}
    lost["calibration"] = lost["calibration"] | {"ece": 0.5, "confabulation": 0.5}
    result = figures([organism("chain-coconut", 0, 0.98), lost], [])
    assert result["decoders.chain_exact_min"]["value"] == 0.98
    assert "chain-coconut seed 1 (left out" in result["decoders.chain_exact_min"]["note"]
    assert result["decoders.ece"]["value"] == 0.02 and result["decoders.confabulation_at_90"]["value"] == 0.01


def test_figures_are_the_worst_over_organisms_and_seeds(measures: dict[str, dict[str, Any]]) -> None:
    assert measures["decoders.chain_exact_min"]["value"] == 0.96
    assert measures["decoders.other_exact_min"]["value"] == 0.9
    assert measures["decoders.control_above_chance_max"]["value"] == pytest.approx(0.01)
    assert measures["decoders.tuned_below_logit"]["value"] == 0.5, (
        "the last layer, where both are the model, does not count"
    )


def test_missing_figures_are_noted_and_not_estimated(measures: dict[str, dict[str, Any]]) -> None:
    assert "not measured: chain31-coconut seed 0" in measures["decoders.chain_exact_min"]["note"]
    assert measures["decoders.hard_exact_min"]["value"] is None


def test_the_table_has_a_row_for_each_decoder() -> None:
    output = decoder_table([organism("chain-coconut", 0, 0.98), organism("chain-coconut", 1, 0.2)])
    assert "| probe | **0.980** (0.11) |" in output and "| verbalizer |" in output and "0.200" not in output


def test_the_transfer_table_says_what_was_refused_and_stands_beside_its_controls() -> None:
    read = {"method": "probe", "home": 0.99, "other_problem": 0.11, "chance": 0.1, "ci_low": 0.9, "ci_high": 1.0}
    rows = [
        read | {"alignment": "none", "top1": 0.08, "shuffled_map": None},
        read | {"alignment": "ridge", "top1": 0.97, "shuffled_map": 0.12},
        {"method": "logit_lens", "alignment": "none", "home": 0.98, "top1": None, "note": "another unembedding"},
    ]
    output = transfer_table(
        [
            {"differs": "seed", "from": "a seed 0", "to": "a seed 1", "rows": rows},
            {"differs": "task", "from": "a", "to": "b", "error": "damaged"},
        ]
    )
    assert (
        "| probe | 0.990 | **0.080** [0.900, 1.000] | no problem in common | **0.970** [0.900, 1.000] | 0.11, 0.12, 0.10 |"
        in output
    )
    assert "| logit lens | 0.980 | refused | no problem in common" in output and "not taken: damaged" in output


def test_transfer_between_seeds_needs_an_organism_of_each(tmp_path: Path) -> None:
    without = [each.differs for each in transfers(None)]
    assert "training seed" not in without and "reasoner, text to latent" in without
    (tmp_path / "chain-coconut-seed1").mkdir()
    assert next(each.differs for each in transfers(tmp_path)) == "training seed"


def test_a_part_alone_leaves_what_was_kept_of_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A training seed that is not in the folder stays too; a part that does not exist is refused."""
    before = [
        organism("chain-coconut", 0, 0.91),
        organism("chain-coconut", 1, 0.92),
        organism("graph-coconut", 0, 0.93),
    ]
    (tmp_path / "decoders.json").write_text(
        json.dumps({"organisms": before, "transfer": [{"differs": "seed"}]}), encoding="utf-8"
    )
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    monkeypatch.setattr(bench_figures, "measure", lambda unit: organism(unit.name, unit.seed, 0.99))
    monkeypatch.setattr(bench_figures, "executor", lambda *_: executor("inline"))
    with Bars() as bars:
        result = bench(bars, parts=["chain-coconut"])
        with pytest.raises(UsageError, match="part of this bench"):
            bench(bars, parts=["chain"])
    worst = {(of["organism"], of["seed"]): min(row["top1"] for row in of["scores"]) for of in result["organisms"]}
    assert worst[("chain-coconut", 0)] == 0.97, "measured again: the worst score of a new result"
    assert worst[("chain-coconut", 1)] == 0.92 and worst[("graph-coconut", 0)] == 0.93
    assert result["missing"] == ["chain-coconut seed 2"] and result["transfer"] == [{"differs": "seed"}]
    assert json.loads((tmp_path / "decoders.json").read_text(encoding="utf-8"))["organisms"] == result["organisms"]
