"""Targets that can be probed at a place of a store, grouped by the rows they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from interp.activations import ActivationSource, Store
from interp.activations.splits import split_rows
from interp.activations.step_positions import rows_at
from interp.activations.targets import labels, structures
from interp.errors import StoreError
from interp.statistics.splits import Masks

MIN_ROWS = 60


@dataclass(frozen=True)
class Block:
    """Targets that are defined on the same rows of one place.

    Attributes:
        rows: Rows of the store's index.
        groups: The structure of each row's problem, shape (rows,).
        targets: Labels by target, shape (rows,).
        splits: Train, validation and test rows by split seed.
    """

    rows: pd.DataFrame
    groups: np.ndarray
    targets: dict[str, np.ndarray]
    splits: dict[int, Masks]


@dataclass(frozen=True)
class SkippedTarget:
    """A target with too few rows or a single label at a place, with the number of rows that have a label."""

    target: str
    place: str
    rows: int


_OPEN: dict[tuple[str, str], ActivationSource] = {}


def cached_store(path: str, config_hash: str) -> ActivationSource:
    """Return the store at `path`, opened once for each process.

    Args:
        path: Folder of the store.
        config_hash: Configuration hash that the store must have.

    Raises:
        StoreError: The store has another configuration hash.
    """
    if (path, config_hash) not in _OPEN:
        store = Store(Path(path))
        if store.meta["config_hash"] != config_hash:
            raise StoreError(
                f"expected the capture {config_hash} in {path}, got {store.meta['config_hash']}; plan the sweep again."
            )
        cache_store(store)
    return _OPEN[path, config_hash]


def cache_store(store: ActivationSource) -> None:
    """Make units that run in this process use this very object; only the last four stores are kept."""
    _OPEN[store.name, store.meta["config_hash"]] = store
    for key in list(_OPEN)[:-4]:
        del _OPEN[key]


def left_out(store: ActivationSource, places: Sequence[str], targets: Sequence[str]) -> list[SkippedTarget]:
    """Return the cells that cannot be probed: fewer than `MIN_ROWS` rows, or a single label."""
    cells = []
    for place in places:
        rows = rows_at(store, place).reset_index(drop=True)
        for target in targets:
            target_labels = labels(store, rows, target)
            defined = np.array([label is not None for label in target_labels], dtype=bool)
            if not _enough(target_labels, defined):
                cells.append(SkippedTarget(target, place, int(defined.sum())))
    return cells


def _enough(target_labels: np.ndarray, defined: np.ndarray) -> bool:
    return defined.sum() >= MIN_ROWS and len(set(target_labels[defined])) >= 2


def blocks(store: ActivationSource, place: str, targets: Sequence[str], splits: Sequence[int]) -> list[Block]:
    """Return the targets that can be probed at a place, those on the same rows together.

    Args:
        store: The store.
        place: The place.
        targets: Target names.
        splits: Seeds of the problem splits.
    """
    return _blocks(store.name, store.meta["config_hash"], place, tuple(targets), tuple(splits))


# A worker meets the same place once for every address.
@lru_cache(maxsize=64)
def _blocks(path: str, config_hash: str, place: str, targets: tuple[str, ...], splits: tuple[int, ...]) -> list[Block]:
    store = cached_store(path, config_hash)
    rows = rows_at(store, place).reset_index(drop=True)
    shared: dict[bytes, tuple[np.ndarray, dict[str, np.ndarray]]] = {}
    for target in targets:
        target_labels = labels(store, rows, target)
        defined = np.array([label is not None for label in target_labels], dtype=bool)
        if _enough(target_labels, defined):
            by_target = shared.setdefault(defined.tobytes(), (defined, {}))[1]
            by_target[target] = target_labels[defined].astype(str)
    result = []
    for defined, by_target in shared.values():
        part = rows[defined].reset_index(drop=True)
        groups = structures(store, part)
        result.append(Block(part, groups, by_target, {seed: split_rows(store, part, seed) for seed in splits}))
    return result
