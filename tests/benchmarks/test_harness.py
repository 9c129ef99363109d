"""Timing of contestants in turns, the interval of a median, and results that are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import harness
from benchmarks.harness import interleaved, keep, kept_result, median_interval, ratio
from interp.errors import StoreError


def test_contestants_take_turns_and_the_warm_up_does_not_count() -> None:
    turns: list[str] = []
    seconds = interleaved({name: lambda name=name: turns.append(name) for name in ("a", "b")}, 3)
    assert turns == ["a", "b"] * 4
    assert {name: len(each) for name, each in seconds.items()} == {"a": 3, "b": 3}


def test_a_ratio_is_taken_round_by_round() -> None:
    result = ratio({"ours": [1.0, 10.0, 2.0], "peer": [2.0, 20.0, 8.0]}, "peer", "ours")
    assert result["value"] == 2.0
    assert result["ci"] == [2.0, 4.0]
    assert result["n"] == 3


@pytest.mark.parametrize("n", [6, 7, 15, 70])
def test_the_interval_of_a_median_has_its_nominal_coverage(n: int) -> None:
    rng = np.random.default_rng(n)
    held = [low <= 1.0 <= high for low, high in (median_interval(row) for row in rng.lognormal(size=(600, n)))]
    assert np.mean(held) >= 0.93


def test_more_rounds_narrow_the_interval_and_few_give_the_range() -> None:
    assert median_interval([3.0, 1.0, 2.0]) == [1.0, 3.0]
    low, high = median_interval(list(range(71)))
    assert 20 < low < 35 < high < 50


def test_what_a_bench_keeps_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    rows = [{"id": "causal.follow_min", "value": 0.5}]
    result = keep("causal", rows, versions={"torch": "1.2"}, seed=3)
    assert kept_result("causal") == kept_result("causal", required=True) == result
    assert (result["measures"], result["versions"], result["seed"]) == (rows, {"torch": "1.2"}, 3)


def test_a_result_that_is_not_there_is_empty_or_names_its_bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    assert kept_result("causal") == {}
    with pytest.raises(StoreError, match=r"expected the kept result of bench causal at .*causal\.json, got no file"):
        kept_result("causal", required=True)
