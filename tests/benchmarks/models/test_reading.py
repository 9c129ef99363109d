"""Reading before a value is written: from states where they hold it, and from texts where they tell it."""

from __future__ import annotations

import interp
from benchmarks.models.reading import value_before_it_is_written
from benchmarks.models.swaps import follow_inside


def test_a_text_organism_knows_its_next_value_before_it_writes_it() -> None:
    reasoner = interp.load("chain3-text")
    result = value_before_it_is_written(reasoner, 300, layers=[0, reasoner.model.cfg.n_layers - 1], seed=1)
    measure = result.measures["models.words_probe_above_text"]
    rows = result.more["reading"]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(0 <= row["text"] <= row["right"] <= 1 and row["n"] > 30 for row in rows)
    assert measure["value"] == min(row["lead"] for row in rows) > 0.15
    assert rows[0]["address"] == f"blocks.{reasoner.model.cfg.n_layers - 1}.hook_out"
    low, high = measure["ci"]
    assert low < measure["value"] < high


def test_the_site_of_an_interchange_is_chosen_on_validation() -> None:
    reasoner = interp.load("chain-text")
    result = follow_inside(reasoner, 40, layers=[0, 1])
    rows = result.more["follow"]
    tried, (test,) = rows[:-1], rows[-1:]
    assert [row["problems"] for row in tried] == ["validation"] * 4 and test["problems"] == "test"
    best = max(row["other value"]["followed"] for row in tried)
    chosen = next(row for row in tried if (row["address"], row["offset"]) == (test["address"], test["offset"]))
    assert chosen["other value"]["followed"] == best
    measure = result.measures["models.words_follow"]
    assert measure["value"] == test["other value"]["followed"] > 0.8
    assert test["same value"]["changed"] < 0.1 and "same value" in measure["note"]
