"""What can be probed at a place of a store: targets with enough rows, grouped by the rows they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.activations import ActivationSource, Store
from interp.activations.targets import labels, structures
from interp.errors import StoreError
from interp.statistics.splits import Masks, grouped_split

MIN_ROWS = 60


@dataclass(frozen=True)
class Block:
    """Targets that are defined on the same rows of one place."""

    rows: pd.DataFrame
    groups: np.ndarray
    targets: dict[str, np.ndarray]
    splits: dict[int, Masks]


_OPEN: dict[tuple[str, str], ActivationSource] = {}


def cached_store(path: str, config_hash: str) -> ActivationSource:
    """The store at `path`: the one that was remembered, else opened anew and remembered.

    Raises `StoreError` when another capture lies there than the one that the sweep was planned for.
    """
    if (path, config_hash) not in _OPEN:
        found = Store(Path(path))
        if found.meta["config_hash"] != config_hash:
            raise StoreError(f"{path} holds another capture than when the sweep was planned. Plan it again.")
        cache_store(found)
    return _OPEN[path, config_hash]


def cache_store(store: ActivationSource) -> None:
    """Units that are run in this process use this very object; only the last few are kept."""
    _OPEN[store.name, store.meta["config_hash"]] = store
    for key in list(_OPEN)[:-4]:
        del _OPEN[key]


def left_out(store: ActivationSource, places: Sequence[str], targets: Sequence[str]) -> list[dict[str, Any]]:
    """The cells that cannot be probed: fewer than `MIN_ROWS` rows, or a single label."""
    found = []
    for place in places:
        rows = store.rows(place=place).reset_index(drop=True)
        for target in targets:
            given = labels(store, rows, target)
            defined = np.array([label is not None for label in given], dtype=bool)
            if not _enough(given, defined):
                found.append({"target": target, "place": place, "rows": int(defined.sum())})
    return found


def _enough(given: np.ndarray, defined: np.ndarray) -> bool:
    return defined.sum() >= MIN_ROWS and len(set(given[defined])) >= 2


def blocks(store: ActivationSource, place: str, targets: Sequence[str], seeds: Sequence[int]) -> list[Block]:
    """The targets that can be probed at this place, by the rows they share."""
    return _blocks(store.name, store.meta["config_hash"], place, tuple(targets), tuple(seeds))


# A worker meets the same place once for every address.
@lru_cache(maxsize=64)
def _blocks(path: str, config_hash: str, place: str, targets: tuple[str, ...], seeds: tuple[int, ...]) -> list[Block]:
    store = cached_store(path, config_hash)
    rows = store.rows(place=place).reset_index(drop=True)
    shared: dict[bytes, tuple[np.ndarray, dict[str, np.ndarray]]] = {}
    for target in targets:
        given = labels(store, rows, target)
        defined = np.array([label is not None for label in given], dtype=bool)
        if _enough(given, defined):
            shared.setdefault(defined.tobytes(), (defined, {}))[1][target] = given[defined].astype(str)
    made = []
    for defined, of_target in shared.values():
        part = rows[defined].reset_index(drop=True)
        groups = structures(store, part)
        made.append(Block(part, groups, of_target, {seed: grouped_split(groups, seed) for seed in seeds}))
    return made
