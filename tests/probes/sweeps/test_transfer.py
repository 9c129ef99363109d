"""Transfer between cells: a direction that two cells share is read in both, and one of its own is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from interp.activations import Store
from interp.errors import UsageError
from interp.problems import task
from interp.traces import Trace
from probes.sweeps.transfer import cell_transfer

HERE, NOISE = "blocks.1.hook_out", "blocks.0.hook_out"
WIDTH = 24
CELLS = [(f"value_{k}", f"thought {k}") for k in (1, 2, 3)]


@pytest.fixture(scope="module")
def store(
    written_trace: Callable[..., Trace], write_store: Callable, tmp_path_factory: pytest.TempPathFactory
) -> Store:
    """Each step's value is planted at its own thought: with one codebook at thoughts 1 and 2, with another at 3."""
    traces = [written_trace(p) for p in task("chain:steps=3").generate(300, seed=0, split="test")]
    shared, own = (np.linalg.qr(np.random.default_rng(k).normal(size=(WIDTH, WIDTH)))[0] for k in range(2))

    def planted(index: pd.DataFrame) -> np.ndarray:
        out = np.random.default_rng(5).normal(size=(len(index), WIDTH))
        for row, (trace, place) in enumerate(zip(index["trace"], index["place"], strict=True)):
            if place in ("thought 1", "thought 2", "thought 3"):
                step = int(place[-1])
                value = int(traces[int(trace)].problem.steps[step - 1].value)
                out[row] += 5 * (own if step == 3 else shared)[value]
        return out

    acts = {NOISE: lambda index: np.random.default_rng(9).normal(size=(len(index), WIDTH)), HERE: planted}
    return write_store(tmp_path_factory.mktemp("planted") / "s", traces, acts)  # type: ignore[no-any-return]


def test_a_shared_direction_is_read_at_both_cells_and_another_at_its_own_only(store: Store) -> None:
    table = cell_transfer(store, CELLS, HERE)
    names = [f"value {k} at thought {k}" for k in (1, 2, 3)]
    assert list(zip(table["fitted_to"], table["tested_on"], strict=True)) == [(a, b) for a in names for b in names]
    read = table["accuracy"].to_numpy().reshape(3, 3)
    reads_it = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], bool)
    assert (read[reads_it] > 0.8).all() and (read[~reads_it] < 0.4).all()
    assert (table["shuffled_labels"] < 0.35).all() and (table["majority"] < 0.35).all()
    assert ((table["ci_low"] <= table["accuracy"]) & (table["accuracy"] <= table["ci_high"])).all()
    assert (table["n"] > 20).all()


def test_noise_is_read_nowhere(store: Store) -> None:
    assert (cell_transfer(store, CELLS, NOISE)["accuracy"] < 0.35).all()


def test_cells_of_one_target_are_named_by_their_place(store: Store) -> None:
    table = cell_transfer(store, [("value_1", "thought 1"), ("value_1", "thought 2")], HERE)
    assert set(table["fitted_to"]) == {"thought 1", "thought 2"}
    accuracy = table.set_index(["fitted_to", "tested_on"])["accuracy"]
    # Thought 2 holds another value in the same directions.
    assert accuracy["thought 1", "thought 1"] > 0.8 and accuracy["thought 1", "thought 2"] < 0.4


def test_a_cell_is_named_once(store: Store) -> None:
    with pytest.raises(UsageError, match="expected different cells"):
        cell_transfer(store, [CELLS[0], CELLS[0]], HERE)
