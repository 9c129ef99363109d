"""The table of measures: the demo's copy in the package, and rows with verdicts."""

from __future__ import annotations

import pytest

from benchmarks.measures import bench_report, bench_rules, report, table
from dashboards.measures import DEMO_MEASURES, SCALE_MEASURES
from interp.errors import UsageError


def test_the_measures_of_the_demo_are_those_of_the_table() -> None:
    assert table()["demo"] == DEMO_MEASURES and list(table()["demo"]) == list(DEMO_MEASURES)


def test_every_measure_of_scale_is_printed_by_one_bench_or_by_the_demo() -> None:
    printed = [
        name
        for bench in ("capture", "probes", "sae", "store")
        for name in bench_rules(bench)
        if name.startswith("scale.")
    ]
    assert sorted([*printed, *SCALE_MEASURES]) == sorted(table()["scale"])
    assert {name: table()["scale"][name] for name in SCALE_MEASURES} == SCALE_MEASURES


def test_every_measure_of_a_group_is_listed_with_its_verdict() -> None:
    rows = report(
        "store", {"store.random_over_memmap": {"value": 0.7, "n": 3}, "store.trace_over_memmap": {"value": 0}}
    )
    assert [row["id"] for row in rows] == list(table()["store"])
    assert [row["met"] for row in rows] == [True, None, False, None]
    assert rows[1]["note"] == "not measured in this run" and rows[1]["value"] is None


def test_an_unknown_measure_is_refused() -> None:
    with pytest.raises(UsageError, match=r"expected a known measure of group store, got 'store\.speed'"):
        report("store", {"store.speed": {"value": 1.0}})


def test_a_bench_prints_its_share_of_scale_after_its_own_group() -> None:
    rows = bench_report("store", {"scale.store_rss_mb": {"value": 5000.0}})
    assert [row["id"] for row in rows] == [*table()["store"], "scale.store_rss_mb"]
    assert rows[-1]["met"] is False and {row["value"] for row in rows[:-1]} == {None}
    with pytest.raises(UsageError, match=r"expected a known measure of group store, got 'scale\.capture_disk'"):
        bench_report("store", {"scale.capture_disk": {"value": 1.0}})
