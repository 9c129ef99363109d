"""Planted leaks of labels, of the location and of the threshold: each raises the score, and each is detected.

The activations are noise, so a score above chance on test problems is a leak.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interp.activations import Store
from interp.activations.targets import structures
from interp.decoders import locations, step_rows
from interp.decoders.evaluation.decoding import decode
from interp.problems import task
from interp.statistics.calibration import abstention, threshold_for
from interp.statistics.splits import grouped_split
from interp.traces import TraceSet

ADDRESSES = [f"blocks.{k}.hook_out" for k in range(12)]


@pytest.fixture(scope="module")
def noise(written_trace: Callable, tmp_path_factory: pytest.TempPathFactory, write_store: Callable) -> Store:
    traces = TraceSet([written_trace(p) for p in task("chain:steps=3").generate(160, seed=0, split="test")])
    made = {
        name: np.random.default_rng(k).normal(size=(sum(len(t) for t in traces), 8)) for k, name in enumerate(ADDRESSES)
    }
    acts = {name: (lambda index, x=x: x[: len(index)]) for name, x in made.items()}
    return write_store(tmp_path_factory.mktemp("noise") / "s", traces, acts)


def test_labels_taken_from_the_decoder_raise_its_score_and_those_of_problems_do_not(
    noise: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = decode(noise, ["probe"], offsets=[0], step_offsets=[])
    assert honest.scores()["top1"].max() < 0.3
    output = honest.of("probe").set_index(["trace", "step"])["text"]
    with monkeypatch.context() as patched:
        patched.setattr(
            step_rows,
            "labels",
            lambda store, rows, target: output.loc[list(zip(rows["trace"], rows["step"], strict=True))].to_numpy(
                object
            ),
        )
        leaked = decode(noise, ["probe"], offsets=[0], step_offsets=[]).of("probe")
    assert leaked.loc[leaked["split"] == "test", "right"].mean() > 0.45, "its own words come back to it"
    truth = [noise.traces[t].problem.steps[s - 1].value for t, s in zip(leaked["trace"], leaked["step"], strict=True)]
    assert (leaked["gold"] != truth).mean() > 0.5
    again = honest.of("probe")
    truth = [noise.traces[t].problem.steps[s - 1].value for t, s in zip(again["trace"], again["step"], strict=True)]
    assert again["gold"].tolist() == truth, "gold is the problem's, whatever was read"


def test_a_location_chosen_on_test_problems_scores_higher_than_one_chosen_on_validation(
    noise: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen_and_score() -> tuple[str, float]:
        read = decode(noise, ["probe"], offsets=[0], step_offsets=[])
        scores = read.scores()
        return read.locations["probe"].address.name, float(np.average(scores["top1"], weights=scores["n"]))

    given, validated = step_rows.labels, locations._validation

    def dealt_anew(store: Store, rows: pd.DataFrame, target: str) -> np.ndarray:
        gold = given(store, rows, target).copy()
        held = np.flatnonzero(grouped_split(structures(store, rows), 0).test)
        gold[held] = gold[np.random.default_rng(5).permutation(held)]
        return gold

    def on_test(*told: Any) -> dict[int, tuple[float, int]]:
        return validated(*told[:-1], replace(told[-1], val=told[-1].test))

    # Not the first site within an error of the best, which among empty sites is the first whatever is looked at.
    monkeypatch.setattr(locations, "first_within_error", lambda shares, counts: int(np.argmax(shares)))
    chosen, honest = chosen_and_score()
    with monkeypatch.context() as patched:
        patched.setattr(step_rows, "labels", dealt_anew)
        assert chosen_and_score()[0] == chosen, "no test label has a say in where to read"
        patched.setattr(locations, "_validation", on_test)  # the leak: sites compared on the problems that are reported
        elsewhere = chosen_and_score()[0]
    monkeypatch.setattr(locations, "_validation", on_test)
    leaking, leaked = chosen_and_score()
    assert leaked > honest + 0.01, "the luckiest of twelve empty sites"
    assert leaking != elsewhere, "test labels dealt out anew move it, which is how the leak is seen"


def test_a_threshold_chosen_on_test_labels_scores_better_than_one_of_validation(noise: Store) -> None:
    table = decode(noise, ["probe"], addresses=ADDRESSES[:1], offsets=[0], step_offsets=[]).of("probe")
    val, test = (table[table["split"] == part] for part in ("val", "test"))
    confidence, right = test["confidence"].to_numpy(), test["right"].to_numpy(bool)
    honest = abstention(confidence, right, threshold_for(val["confidence"].to_numpy(), 0.9))
    leaked = min((abstention(confidence, right, t)["confabulation"] for t in np.unique(confidence)), default=1.0)
    assert honest["confabulation"] > 0.7, "nothing can be known here"
    assert leaked < honest["confabulation"] - 0.05
    # Of other test labels the evaluation answers the same read-outs: what is answered does not hang on them.
    turned = abstention(confidence, ~right, threshold_for(val["confidence"].to_numpy(), 0.9))
    assert turned["coverage"] == honest["coverage"] and turned["confabulation"] < 0.3


def test_no_structure_is_in_two_parts_of_the_split(noise: Store) -> None:
    groups = structures(noise, noise.index)
    split = grouped_split(groups, 0)
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not set(groups[getattr(split, one)]) & set(groups[getattr(split, other)])
