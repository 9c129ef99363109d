"""Steering against a trajectory probe of a silent organism."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from interp.activations import Store
from interp.errors import UsageError
from interp.statistics.estimates import Estimate
from probes.trajectories.results import TrajectoryResult
from probes.trajectories.run import trajectory
from probes.trajectories.steering import ARMS, TrajectorySteering, steer_trajectory


@pytest.fixture(scope="module")
def result(store: Store) -> TrajectoryResult:
    return trajectory(
        store, "value_2", says="3", controls=False, addresses=["ln_final.hook_out"], pooling="max", false_alarms=0.3
    )


def test_a_push_changes_thoughts_and_no_push_nothing(store: Store, result: TrajectoryResult) -> None:
    steered = steer_trajectory(store, result, doses=[0.25, 2.0], along="class means")
    table = steered.table.set_index(["dose", "arm"])
    assert set(table.index.get_level_values("arm")) == set(ARMS)
    for dose in (0.25, 2.0):
        nothing = table.loc[(dose, "nothing")]
        assert nothing["score_change"] == 0 and nothing["changed"] == 0 and nothing["right"] > 0.8
    strong = table.loc[(2.0, "where it fired")]
    assert strong["changed"] > 0.3 > table.loc[(0.25, "random direction")]["changed"]
    # The push is away from the event, so the score falls where it is.
    assert strong["score_change"] < table.loc[(0.25, "where it fired")]["score_change"] < 0
    assert set(steered.beyond) == {(d, arm) for d in (0.25, 2.0) for arm in ARMS[2:]}


def test_a_small_sample_gives_no_verdict() -> None:
    import pandas as pd

    def of(low: float, n: int) -> TrajectorySteering:
        gap = Estimate(1.0, low, 2.0, n)
        return TrajectorySteering(pd.DataFrame(), {(1.0, arm): gap for arm in ARMS[2:]})

    assert "no verdict on steering over 19" in of(0.5, 19).verdict
    assert "more answers change than under every control" in of(0.5, 20).verdict
    assert "no change beyond every control" in of(-0.5, 20).verdict


def test_what_cannot_be_steered_is_refused(store: Store, result: TrajectoryResult) -> None:
    with pytest.raises(UsageError, match="one event"):
        steer_trajectory(store, replace(result, events=["1", "3"]))
    with pytest.raises(UsageError, match="positive numbers"):
        steer_trajectory(store, result, doses=[np.nan])
    quiet = replace(result, positions=result.positions.assign(fired=False))
    with pytest.raises(UsageError, match="held-out traces that fired"):
        steer_trajectory(store, quiet)
