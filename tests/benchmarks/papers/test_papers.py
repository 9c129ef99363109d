"""The table of papers: what is stored, what a run of one system leaves unchanged, and what the page shows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from benchmarks import harness
from benchmarks.papers import table
from benchmarks.papers.base import Organisms, PaperFigure, Section
from benchmarks.papers.page import markdown, page
from interp.errors import StoreError, UsageError
from interp.runtime.console import Bars


@pytest.fixture
def systems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple]:
    """Two systems whose sections are made up here, and a results folder of their own; gives what was asked of them."""
    asked: list[tuple] = []

    def system(name: str, measure: str, value: float) -> None:
        def run(progress, full: bool, organisms: Organisms) -> Section:
            asked.append((name, full, organisms.seed))
            shown = value - 0.1 * organisms.seed
            return Section(
                name,
                f"System {name}",
                tables={"a table": pd.DataFrame({"arm": ["ours", "control"], "accuracy": [shown, 0.1]})},
                measures={measure: {"value": shown, "n": 10, "note": "control 0.1"}},
                paper=[PaperFigure("accuracy", "79.9", "a paper, table 1")],
                notes=[f"seed {organisms.seed}"],
            )

        module = ModuleType(f"benchmarks.papers.{name}")
        module.measure = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)

    monkeypatch.setattr(table, "SYSTEMS", {"one": "One", "two": "Two"})
    system("one", "papers.heima.answer_ratio", 0.97)
    system("two", "papers.lcm.next_step_accuracy", 0.5)
    for module in (table, harness):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    return asked


def values(result: dict) -> dict[str, float]:
    return {row["id"]: row["value"] for row in result["measures"] if row["value"] is not None}


def test_every_system_is_measured_and_every_measure_of_the_group_is_listed(systems: list, tmp_path: Path) -> None:
    result = table.bench(None, False, Bars(), engine="inline")
    assert systems == [("one", False, 0), ("two", False, 0)]
    assert values(result) == {"papers.heima.answer_ratio": 0.97, "papers.lcm.next_step_accuracy": 0.5}
    met = {row["id"]: row["met"] for row in result["measures"]}
    assert met["papers.heima.answer_ratio"] is True and met["papers.lcm.next_step_accuracy"] is False
    assert met["papers.maze.correct_plan_valid"] is None and len(met) > 15
    kept = json.loads((tmp_path / "papers.json").read_text(encoding="utf-8"))
    assert kept["systems"]["one"]["tables"]["a table"][0] == {"arm": "ours", "accuracy": 0.97}


def test_a_run_of_one_system_leaves_the_others_as_they_were(systems: list) -> None:
    table.bench(None, False, Bars(), engine="inline")
    again = table.bench("two", True, Bars())
    assert systems[2:] == [("two", True, 0)]
    assert set(values(again)) == {"papers.heima.answer_ratio", "papers.lcm.next_step_accuracy"}
    with pytest.raises(UsageError, match=r"expected a known system, got 'tow'; did you mean 'two'"):
        table.bench("tow", False, Bars())


def without_organism(progress: object, full: bool, organisms: Organisms) -> Section:
    organisms.load("graph-direct")
    raise AssertionError("graph-direct is not shipped")


def test_a_missing_organism_is_said_in_place_of_its_figures(
    systems: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["benchmarks.papers.one"], "measure", without_organism)
    result = table.bench(None, False, Bars(), engine="inline")
    assert set(values(result)) == {"papers.lcm.next_step_accuracy"} and result["missing"] == ["graph-direct"]
    assert "- not measured: organism 'graph-direct' is not shipped." in (tmp_path / "papers.md").read_text(
        encoding="utf-8"
    )


def test_what_was_measured_before_stays_where_the_organisms_are_missing_now(
    systems: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = table.bench(None, False, Bars(), engine="inline")
    monkeypatch.setattr(sys.modules["benchmarks.papers.one"], "measure", without_organism)
    again = table.bench("one", False, Bars())
    assert again["systems"] == before["systems"] and again["missing"] == ["graph-direct"]
    again = table.bench("one", False, Bars(), folder=tmp_path, seed=1)
    assert again["systems"]["one"] == before["systems"]["one"] | {"seeds": {"1": {}}}
    assert "missing" not in json.loads((tmp_path / "papers.json").read_text(encoding="utf-8"))


def test_the_command_says_which_organisms_were_missing(systems: list, monkeypatch: pytest.MonkeyPatch, cotlens) -> None:
    monkeypatch.setattr(sys.modules["benchmarks.papers.one"], "measure", without_organism)
    output = cotlens("bench", "papers", "--only", "one")
    assert "not measured, because they are not shipped: graph-direct." in output.out
    assert "--training-seed 0 --out FOLDER/NAME-seed0`" in output.out


def test_another_seeds_figures_stand_beside_the_shipped_ones(systems: list, tmp_path: Path) -> None:
    table.bench(None, False, Bars(), engine="inline")
    result = table.bench("one", False, Bars(), folder=tmp_path, seed=2)
    row = next(row for row in result["measures"] if row["id"] == "papers.heima.answer_ratio")
    assert row["value"] == 0.97 and row["other_seeds"] == {"2": pytest.approx(0.77)}
    assert table.bench("one", False, Bars())["systems"]["one"]["seeds"].keys() == {"2"}


def test_what_a_seed_had_stays_where_some_of_its_organisms_are_measured_later(
    systems: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.bench(None, False, Bars(), engine="inline")
    table.bench("one", False, Bars(), folder=tmp_path, seed=2)
    later = Section("one", "System one", measures={"papers.coconut.graph_accuracy": {"value": 0.9}})
    monkeypatch.setattr(sys.modules["benchmarks.papers.one"], "measure", lambda *asked: later)
    table.bench("one", False, Bars(), folder=tmp_path, seed=10)
    result = table.bench("one", False, Bars(), folder=tmp_path, seed=2)
    kept = result["systems"]["one"]["seeds"]
    assert list(kept) == ["2", "10"]
    assert set(kept["2"]) == {"papers.heima.answer_ratio", "papers.coconut.graph_accuracy"}


def test_the_page_shows_figures_controls_and_sources(systems: list, tmp_path: Path) -> None:
    table.bench(None, False, Bars(), engine="inline")
    written = (tmp_path / "papers.md").read_text(encoding="utf-8")
    for part in (
        "## System one",
        "| ours | 0.97 |",
        "| control | 0.1 |",
        "| accuracy | 79.9 | a paper, table 1 |",
        "- seed 0",
    ):
        assert part in written
    assert "`papers.lcm.next_step_accuracy`" in written and "| short |" in written and "not measured" in written


def test_cells_are_escaped_in_a_table() -> None:
    output = markdown([{"a|": "x|y\nz", "n": [0.5, None], "none": None}])
    assert output.splitlines()[-1] == "| x\\|y z | [0.5, –] | – |"
    assert markdown([]) == "(nothing)"
    assert page({"measures": [], "systems": {"one": {"seeds": {}}}}).startswith("# Nine systems")


def test_organisms_of_another_seed_are_looked_for_by_name_and_seed(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"chain-text-seed1 is not in the folder of organisms\. Train it: `cotlens"):
        Organisms(tmp_path, 1).load("chain-text")
    shipped = Organisms(tmp_path)
    assert shipped.load("chain-text") is shipped.load("chain-text")
    for name in ("a-seed0", "a-seed1", "a-seed2", "b-seed1", "b-seed2", "b-seedx"):
        (tmp_path / name).mkdir()
    assert [each.seed for each in shipped.other_seeds(["a", "b"])] == [1, 2]
    assert [each.seed for each in Organisms(tmp_path, 2).other_seeds(["a"])] == [0, 1]
    assert Organisms().other_seeds(["a"]) == []


def test_seed_and_folder_are_given_together(cotlens) -> None:
    done = cotlens("bench", "papers", "--training-seed", "1")
    assert done.code == 2 and "expected --organisms FOLDER with --training-seed 1, got none" in done.err


def test_seeds_alone_reads_other_benches_again_and_measures_nothing(systems: list, tmp_path: Path) -> None:
    before = table.bench(None, False, Bars(), engine="inline")
    row = {"id": "causal.paths_confirmed", "value": 0.97, "ci": [0.95, 0.99], "n": 9, "note": "worst"}
    harness.keep("causal", [row])
    systems.clear()
    result = table.bench("seeds", False, Bars())
    assert not systems and result["systems"] == before["systems"] and result["missing"] == []
    assert values(result) == values(before) | {"seeds.paths_confirmed": 0.97}
    (tmp_path / "papers.json").unlink()
    with pytest.raises(StoreError, match="run that bench first"):
        table.bench("seeds", False, Bars())
