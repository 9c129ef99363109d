"""A dictionary that reads one layer and reconstructs another."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from interp.activations import Store
from interp.errors import UsageError
from interp.models.address import Address
from interp.sae.across.cross_layer import Scaling, train_cross_layer
from interp.sae.single_features import best_features, held_out_f1
from interp.traces import TraceSet
from tests.interp.sae.conftest import D, values_of

THOUGHT, MIDDLE = Address("blocks.0.hook_in"), Address("blocks.1.hook_out")
OPTIONS = {"d_sae": 40, "sparsity": 0.1, "updates": 400, "batch_size": 256}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, hand_chains: TraceSet, write_store: Callable) -> Store:
    """Thoughts that hold their value, and a middle layer that holds it as a small part beside louder noise."""
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(D, D)))[0].astype(np.float32)

    def value(index: pd.DataFrame) -> np.ndarray:
        return directions[np.maximum(values_of(hand_chains, index), 0)]

    def middle(index: pd.DataFrame) -> np.ndarray:
        loud = rng.normal(size=(len(index), D - 12)) @ directions[12:]
        return 0.5 * value(index) + loud + 0.01 * rng.normal(size=(len(index), D))

    acts = {THOUGHT.name: lambda index: 3 * value(index) + 1.0, MIDDLE.name: middle}
    return write_store(tmp_path_factory.mktemp("layers") / "s", hand_chains, acts)


@pytest.fixture(scope="module")
def halves(store: Store, hand_chains: TraceSet) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = store.index[values_of(hand_chains, store.index) >= 0]
    train = rows["trace"] % 2 == 0
    return rows[train], rows[~train]


def f1(store: Store, traces: TraceSet, dictionary: object, halves: tuple[pd.DataFrame, pd.DataFrame]) -> float:
    """The median F1 of single features for values, read at the middle layer."""
    features = [dictionary.encode(store.acts(MIDDLE, rows)) for rows in halves]  # type: ignore[attr-defined]
    holds = [values_of(traces, rows)[:, None] == np.arange(10) for rows in halves]
    return float(np.median(held_out_f1(best_features(features[0], holds[0]), features[1], holds[1])))


def test_features_follow_the_target_and_not_the_loudest_part(
    store: Store, hand_chains: TraceSet, halves: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    train, test = halves
    to_thought = train_cross_layer(store, MIDDLE, THOUGHT, train, **OPTIONS)
    to_itself = train_cross_layer(store, MIDDLE, MIDDLE, train, **OPTIONS)
    drawn = train.iloc[np.random.default_rng(0).permutation(len(train))]
    to_others = train_cross_layer(store, MIDDLE, THOUGHT, train, target_rows=drawn, **OPTIONS)
    assert f1(store, hand_chains, to_thought, halves) > 0.9
    assert f1(store, hand_chains, to_itself, halves) < 0.6
    assert f1(store, hand_chains, to_others, halves) < 0.6
    acts, targets = store.acts(MIDDLE, test), store.acts(THOUGHT, test)
    assert to_thought.explained_variance(acts, targets) > 0.7
    assert to_others.explained_variance(acts, targets) < 0.2


def test_the_same_seed_trains_the_same_dictionary(store: Store, halves: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    train, test = halves
    short = OPTIONS | {"updates": 20}
    acts = store.acts(MIDDLE, test)
    first, again, other = (train_cross_layer(store, MIDDLE, THOUGHT, train, seed=seed, **short) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.encode(acts), again.encode(acts))
    assert np.abs(first.encode(acts) - other.encode(acts)).max() > 0.01
    assert first.encode(acts).shape == (len(test), OPTIONS["d_sae"]) and (first.encode(acts) >= 0).all()
    assert first.address == THOUGHT


def test_reconstructions_are_in_units_of_the_target() -> None:
    acts = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32) * 7 + 3
    scaling = Scaling.of(acts)
    assert scaling.apply(acts).std() == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_allclose(scaling.undo(scaling.apply(acts)), acts, atol=1e-4)


def test_targets_of_another_number_of_rows_are_refused(store: Store, halves: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    train, _ = halves
    with pytest.raises(UsageError, match="as many inputs as outputs"):
        train_cross_layer(store, MIDDLE, THOUGHT, train, target_rows=train[:5], **OPTIONS)
