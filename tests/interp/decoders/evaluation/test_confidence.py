"""Confidence of read-outs and chance levels: neither depends on test labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from interp.activations import Store
from interp.decoders.evaluation.chance import blind_guess, majority, offered_sizes
from interp.decoders.evaluation.confidence import calibrated_confidence
from interp.decoders.step_rows import DecodeInputs
from interp.problems import task
from interp.statistics.calibration import area_under_risk, calibration_error
from interp.traces import TraceSet


def read_outs(n_traces: int, score: Callable, right: Callable, seed: int = 0) -> pd.DataFrame:
    """Three steps for each trace, with scores and truth drawn by the test; every second trace is for validation."""
    rng = np.random.default_rng(seed)
    trace, step = np.divmod(np.arange(3 * n_traces), 3)
    hidden = rng.random((n_traces, 3))
    split = np.where(trace % 2 == 0, "val", "test")
    first = score(hidden).ravel()
    frame = pd.DataFrame({"trace": trace, "step": step + 1, "split": split, "right": right(hidden, rng).ravel()})
    return frame.assign(scores=[np.array([p, (1 - p) / 2]) for p in first])


@pytest.fixture(scope="module")
def silent(written_trace: Callable, tmp_path_factory: pytest.TempPathFactory, write_store: Callable) -> Store:
    """A store of 2,000 traces; only their number matters."""
    problem = task("chain:steps=3").generate(1, seed=0, split="test")[0]
    traces = TraceSet([written_trace(problem) for _ in range(2000)])
    return write_store(
        tmp_path_factory.mktemp("silent") / "s", traces, {"blocks.0.hook_out": lambda index: np.zeros((len(index), 2))}
    )


@pytest.mark.parametrize("bend", [0.25, 3.0])
def test_scores_that_are_too_high_or_too_low_become_probabilities(bend: float, silent: Store) -> None:
    read = read_outs(2000, lambda h: h**bend, lambda h, rng: rng.random(h.shape) < h)
    test = (read["split"] == "test").to_numpy()
    raw, right = np.array([s[0] for s in read["scores"]]), read["right"].to_numpy()
    assert calibration_error(raw[test], right[test]) > 0.15
    assert calibration_error(calibrated_confidence(silent, read)[test], right[test]) < 0.05


def test_a_step_is_no_surer_than_those_that_it_rests_on(silent: Store) -> None:
    """A wrong first step makes all later ones wrong, whatever their own scores say."""
    read = read_outs(
        2000,
        lambda h: np.stack([h[:, 0], 0.9 + 0.05 * h[:, 1], 0.9 + 0.05 * h[:, 2]], axis=1),
        lambda h, rng: np.repeat(rng.random((len(h), 1)) < h[:, :1], 3, axis=1),
    )
    later = ((read["split"] == "test") & (read["step"] > 1)).to_numpy()
    raw, right = np.array([s[0] for s in read["scores"]])[later], read["right"].to_numpy()[later]
    assert area_under_risk(raw, right) > 0.4
    assert area_under_risk(calibrated_confidence(silent, read)[later], right) < 0.25


def test_test_labels_do_not_count_and_validation_labels_do(silent: Store) -> None:
    read = read_outs(2000, lambda h: h, lambda h, rng: rng.random(h.shape) < h)
    confidence = calibrated_confidence(silent, read)
    turned = read.assign(right=np.where(read["split"] == "test", ~read["right"], read["right"]))
    np.testing.assert_array_equal(calibrated_confidence(silent, turned), confidence)
    turned = read.assign(right=np.where(read["split"] == "val", ~read["right"], read["right"]))
    assert np.abs(calibrated_confidence(silent, turned) - confidence).max() > 0.2


def test_with_nothing_wrong_in_validation_the_order_of_the_scores_is_kept(silent: Store) -> None:
    read = read_outs(2000, lambda h: 0.9 + 0.09 * h, lambda h, rng: np.ones(h.shape, bool))
    read["scores"] = [np.array([s[0], 1 - s[0]]) for s in read["scores"]]
    one = read[read["step"] == 1].reset_index(drop=True)  # of several steps, the others' scores count too
    confidence = calibrated_confidence(silent, one)
    order = np.argsort([s[0] for s in one["scores"]])
    assert (np.diff(confidence[order]) >= 0).all() and 0.9 < confidence.min() < confidence.max() < 1


# --- chance -----------------------------------------------------------------------------------------------


def test_the_chance_of_a_multiple_choice_is_one_in_so_many() -> None:
    gold = pd.Series(list("abcdefgh"))
    assert blind_guess(gold, [()] * 8) == majority(gold) == pytest.approx(1 / 8)
    assert blind_guess(gold, [(4, 0)] * 8) == pytest.approx(1 / 4)
    assert blind_guess(gold, [(4, 0)] * 4 + [(0, 2)] * 4) == pytest.approx(1 / 4), "half the rows at one in two"
    assert blind_guess(gold, [(4, 0)] * 8, k=3) == pytest.approx(3 / 4)
    assert blind_guess(gold, [(4, 0)] * 8, k=9) == pytest.approx(1.0)
    assert blind_guess(pd.Series(list("aaab")), [(4,)] * 4) == pytest.approx(3 / 4)


def test_guesses_among_what_a_graph_offers_are_right_as_often_as_chance_says(
    written_trace: Callable, tmp_path: Path, write_store: Callable
) -> None:
    problems = task("graph:hops=4").generate(150, seed=0, split="test")
    traces = TraceSet([written_trace(p) for p in problems])
    store = write_store(tmp_path / "s", traces, {"blocks.0.hook_out": lambda index: np.zeros((len(index), 2))})
    rng = np.random.default_rng(0)
    for step, which in ((1, 1), (4, 0)):
        gold = [p.steps[step - 1].value for p in problems]
        output = blind_guess(pd.Series(gold), offered_sizes(DecodeInputs(store, 0).offers, range(150), gold))
        tries = [
            rng.choice(task("graph").guess_sets(p)[which]) == g
            for p, g in zip(problems, gold, strict=True)
            for _ in range(40)
        ]
        assert output == pytest.approx(np.mean(tries), abs=0.02)
    assert output == pytest.approx(1 / 4)


def test_a_task_that_offers_nothing_has_the_most_frequent_value(store: Store) -> None:
    assert offered_sizes(DecodeInputs(store, 0).offers, [0, 1], ["3", "4"]) == [(), ()]
