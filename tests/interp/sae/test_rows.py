"""The rows that an SAE is trained on, and their order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from interp.activations import Store
from interp.errors import UsageError
from interp.models.address import Address
from interp.sae.rows import Batches, batches_of, select
from interp.traces import TraceSet

ADDRESS = Address("blocks.1.hook_out")


def served(batches: Batches, count: int) -> np.ndarray:
    return np.concatenate([next(batches).numpy()[:, 0] for _ in range(count)])


def numbered(places: np.ndarray) -> np.ndarray:
    return np.repeat(places[:, None], 4, axis=1).astype(np.float32)


@pytest.mark.parametrize("memory", [2**20, 4 * 4 * 512], ids=["in memory", "in blocks"])
def test_an_epoch_shows_every_row_once_in_a_new_order(memory: int) -> None:
    batches = Batches(numbered, 2048, 128, 0, width=4, memory=memory)
    first, second = served(batches, 16), served(batches, 16)
    for epoch in (first, second):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(2048))
    assert (first != second).mean() > 0.9
    assert abs(np.corrcoef(first, np.arange(2048))[0, 1]) < 0.3


def test_blocks_are_read_in_runs_and_no_more_is_held() -> None:
    asked: list[np.ndarray] = []

    def read(places: np.ndarray) -> np.ndarray:
        asked.append(places)
        return numbered(places)

    served(Batches(read, 4096, 100, 0, width=4, memory=4 * 4 * 1024), 40)
    assert max(map(len, asked)) <= 1024
    for places in asked:
        assert (np.diff(places) == 1).mean() > 0.95, "neighbours are read together"


@pytest.mark.parametrize("memory", [2**20, 4 * 4 * 512])
@pytest.mark.parametrize("skipped", [1, 15, 16, 37])
def test_skipping_goes_on_where_serving_would_be(memory: int, skipped: int) -> None:
    one, two = (Batches(numbered, 2000, 120, 3, width=4, memory=memory) for _ in range(2))
    served(one, skipped)
    two.skip(skipped)
    np.testing.assert_array_equal(served(one, 20), served(two, 20))


def test_every_group_is_shown_equally_often() -> None:
    groups = np.repeat([1, 2, 3], [1000, 150, 50])
    batches = Batches(numbered, 1200, 100, 0, width=4, groups=groups)
    counts = np.bincount(groups[served(batches, 12).astype(int)])[1:]
    assert counts.tolist() == [400, 400, 400]


def test_by_step_evens_the_steps_of_a_store(planted: tuple[Store, np.ndarray]) -> None:
    store, _ = planted
    rows = store.thought_rows
    some = rows[(rows["step"] == 1) | (rows["trace"] < 100)]
    batches = batches_of(store, ADDRESS, some, len(some), 0, by_step=True)
    steps = some.sort_values(["shard", "row"])["step"].to_numpy()
    lookup = {
        tuple(row): step
        for row, step in zip(store.acts(ADDRESS, some.sort_values(["shard", "row"])), steps, strict=True)
    }
    counts = np.bincount([lookup[tuple(row)] for row in next(batches).numpy()])[1:]
    assert counts.max() - counts.min() <= 1


def test_special_and_sink_positions_are_left_out_and_counted(
    tmp_path: Path, hand_chains: TraceSet, write_store: Callable
) -> None:
    def acts(index):  # type: ignore[no-untyped-def]
        result = np.random.default_rng(0).normal(size=(len(index), 8))
        thoughts = np.flatnonzero((index["channel"] == "latent").to_numpy())
        result[thoughts[:7]] *= 1000
        return result

    store = write_store(tmp_path / "s", hand_chains, {ADDRESS.name: acts}, channels=["latent", "special", "answer"])
    rows, mask = select(store, ADDRESS)
    assert set(rows["channel"]) == {"latent"} and len(rows) == 3 * len(hand_chains) - 7 == mask.rows
    assert (mask.sinks, mask.special) == (7, 2 * len(hand_chains))
    assert select(store, ADDRESS, channels=["latent", "special"])[1].special == 0
    assert select(store, ADDRESS, sink_factor=1e9)[1].sinks == 0


def test_an_empty_selection_says_what_is_there(planted: tuple[Store, np.ndarray]) -> None:
    with pytest.raises(
        UsageError, match=r"no position of .* is in the channels thought; it has .*latent.*capture again"
    ):
        select(planted[0], ADDRESS, channels=["thought"])
