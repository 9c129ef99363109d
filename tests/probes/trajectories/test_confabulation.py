"""Labels of false steps, on a text organism that is sampled hot: its state holds the value that it does not say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import interp
from interp.activations import Store, record
from interp.errors import UsageError
from interp.problems import task as make_task
from probes.trajectories.confabulation import Confabulation, _in_gold_order, confabulation
from probes.trajectories.events import first_wrong_step
from probes.trajectories.run import trajectory


@pytest.fixture(scope="module")
def hot_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    reasoner = interp.load("chain-text")
    traces = reasoner.think(reasoner.task.generate(200, seed=5, split="test"), temperature=3.0, seed=0)
    return interp.capture(reasoner, traces, out=tmp_path_factory.mktemp("hot") / "s")


@pytest.fixture(scope="module")
def labelled(hot_store: Store) -> Confabulation:
    return confabulation(hot_store)


def test_false_values_are_those_of_the_verifier(hot_store: Store, labelled: Confabulation) -> None:
    steps = labelled.steps
    for trace, part in steps.groupby("trace"):
        given = hot_store.traces[int(trace)]
        verdict = make_task(given.problem.task).verify(given.problem, given.text)
        assert (part["step"][part["wrong"]] == first_wrong_step(given)).all()
        assert [bool(verdict.steps[s - 1]) for s in part["step"]] == (~part["wrong"]).tolist()
    assert (steps["said"] != steps["true"])[steps["false_value"]].all() and steps["false_value"].sum() > 20
    assert not (steps["confabulated"] & ~steps["false_value"]).any()


def test_the_state_holds_what_a_hot_sample_does_not_say(labelled: Confabulation) -> None:
    """The sampling is at fault and the state is not, so nearly every false value is a confabulation."""
    assert labelled.held.low > 0.8 and labelled.words.high < 0.5 and labelled.shuffled < 0.3
    assert labelled.agreement.low > 0.95 and "holds the true one more often" in labelled.verdict


def test_exchanged_states_hold_nothing(hot_store: Store) -> None:
    """With the states of other problems in place of its own, no confabulation can be seen."""
    given = record(hot_store.load_reasoner(), hot_store.traces)
    rng = np.random.default_rng(0)
    given._acts = {name: acts[rng.permutation(len(acts))] for name, acts in given._acts.items()}
    result = confabulation(given)
    assert result.held.value < 0.35 and "not shown" in result.verdict


def test_steps_in_another_order_are_left_out() -> None:
    rows = [(0, "1", "1", False), (0, "2", "3", True), (1, "1", "2", False), (1, "2", "1", False)]
    steps = pd.DataFrame(rows, columns=["trace", "true", "said", "wrong"])
    with pytest.raises(UsageError, match="1 of 2 traces"):
        _in_gold_order(steps)
    many = pd.concat([steps.assign(trace=0).iloc[:2].assign(trace=k) for k in range(2, 8)] + [steps])
    kept, left_out = _in_gold_order(many)
    assert left_out == 1 and 1 not in set(kept["trace"]) and kept["trace"].nunique() == 7


def test_latent_thoughts_have_no_written_steps(store: Store) -> None:
    with pytest.raises(UsageError, match="visible thoughts"):
        confabulation(store)


def test_labels_become_a_target_by_the_commands(
    hot_store: Store, cotlens: Callable, tmp_path: Path, labelled: Confabulation
) -> None:
    out = tmp_path / "labels.csv"
    made = cotlens("probe", "confabulation", hot_store.path, "--out", out, "--json").json
    assert made["confabulated"] == int(labelled.steps["confabulated"].sum()) > 20
    pd.testing.assert_frame_equal(pd.read_csv(out), labelled.labels().reset_index(drop=True), check_dtype=False)
    assert cotlens("probe", "confabulation", hot_store.path, "--out", out).code != 0
    assert cotlens("import", "labels", out, "--to", hot_store.path).code == 0
    result = trajectory(Store(hot_store.path), "confabulated", controls=False, addresses=["blocks.1.hook_out"])
    assert result.events == ["True"] and result.truth == "the first step with the label"
    assert result.places["highest score"].right.n == int(result.traces["positive"].sum())


def test_the_command_prints_saves_and_judges(hot_store: Store, cotlens: Callable, tmp_path: Path) -> None:
    out = tmp_path / "trajectory"
    given = ("probe", "trajectory", hot_store.path, "--target", "correct", "--address", "blocks.1.hook_out")
    record_ = cotlens(*given, "--out", out, "--json").json
    assert record_["events"] == ["False"] and record_["truth"] == "the first wrong step"
    assert {row["reader"] for row in record_["readers"]} >= {"probe", "length", "own token", "random direction"}
    assert {path.name for path in out.iterdir()} >= {"traces.parquet", "positions.parquet", "trajectory.json"}
    positions = pd.read_parquet(out / "positions.parquet")
    assert (positions["fired"] == (positions["score"] > 0)).all() and set(positions["address"]) == {"blocks.1.hook_out"}
    assert "empty folder" in cotlens(*given, "--out", out).error
    told = cotlens(*given, "--no-controls", "--pooling", "max")
    assert told.code == 0 and "where it fires, against the first wrong step" in told.out
    assert cotlens(*given, "--no-controls", "--fail-under", "1.1").code == 4
    assert "--steer" in cotlens(*given, "--dose", "1").error
    # The saved probe can watch thoughts while they are thought.
    watched = cotlens(
        "causal",
        "monitor",
        "chain-text",
        "--watch",
        out,
        "--says",
        "False",
        "--threshold",
        "0.5",
        "--n",
        "20",
        "--json",
    )
    assert watched.code == 0
