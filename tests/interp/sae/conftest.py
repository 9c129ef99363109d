"""Hand-made stores with planted features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from interp.activations import Store
from interp.problems import task
from interp.traces import TraceSet

D = 24
ADDRESS = "blocks.1.hook_out"


@pytest.fixture(scope="session")
def hand_chains(written_trace: Callable) -> TraceSet:
    """400 chains of 3 steps as hand-made traces."""
    return TraceSet([written_trace(p) for p in task("chain:steps=3").generate(400, seed=0, split="test")])


def values_of(traces: TraceSet, index: pd.DataFrame) -> np.ndarray:
    """The value that each thought stands for, -1 elsewhere."""
    steps = zip(index["trace"], index["step"], strict=True)
    return np.array([int(traces[t].problem.steps[s - 1].value) if s else -1 for t, s in steps])


@pytest.fixture(scope="session")
def planted(
    tmp_path_factory: pytest.TempPathFactory, hand_chains: TraceSet, write_store: Callable
) -> tuple[Store, np.ndarray]:
    """A store whose thoughts hold one direction for their value and one for their step, with little noise.

    Comes with those directions, 13 x D: the ten values, then the three steps.
    """
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(D, D)))[0][:13].astype(np.float32)

    def acts(index: pd.DataFrame) -> np.ndarray:
        codes, steps = values_of(hand_chains, index), index["step"].to_numpy()
        thought = (codes >= 0)[:, None]
        strength = rng.uniform(1.5, 2.5, size=(len(index), 1))
        held = strength * directions[codes] + 1.5 * directions[10 + np.clip(steps - 1, 0, 2)]
        return np.where(thought, held, 0) + 0.02 * rng.normal(size=(len(index), D))

    store = write_store(tmp_path_factory.mktemp("planted") / "s", hand_chains, {ADDRESS: acts})
    return store, directions
