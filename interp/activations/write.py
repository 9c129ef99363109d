"""Writing of stores from given activations: made for a test, or recorded by another program."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.activations import layout
from interp.activations.plan import DEFAULT_CHANNELS
from interp.activations.rows import index_of
from interp.activations.store import Store, parquet_bytes, traces_hash
from interp.errors import StoreError, UsageError
from interp.models.address import Address
from interp.traces import Trace, TraceSet

ActsOrFunction = np.ndarray | Callable[[pd.DataFrame], np.ndarray]


def write_store(
    folder: Path,
    traces: Sequence[Trace],
    acts: Mapping[str, ActsOrFunction],
    *,
    name: str = "by hand",
    kind: str = "continuous",
    weights: str = "none",
    dtype: str = "float32",
    channels: Sequence[str] = DEFAULT_CHANNELS,
    shard_size: int = 1000,
) -> Store:
    """Write a store of given activations.

    Args:
        folder: An empty or new folder.
        traces: The traces that the activations belong to.
        acts: By name of the address an array of shape (rows, d_model) in the order of the index, or a function that makes
            it from the index.
        name: Name of the reasoner.
        kind: Kind of the reasoner.
        weights: Hash of its weights.
        dtype: `float32`, `float16` or `bfloat16`.
        channels: Channels of positions that have rows, in addition to the prompt's last position.
        shard_size: Most traces in a shard.

    Returns:
        The store.

    Raises:
        StoreError: When the folder is not empty.
        UsageError: When the rows do not fit the index or each other.
    """
    if folder.exists() and any(folder.iterdir()):
        raise StoreError(f"{folder} is not empty. Choose another folder.")
    layout.checked_dtype(dtype)
    traces = TraceSet(traces)
    index = index_of(traces, list(channels), shard_size)
    arrays = {Address(key): value(index) if callable(value) else value for key, value in acts.items()}
    shape = (len(index), next(iter(arrays.values())).shape[1])
    for address, rows in arrays.items():
        if rows.shape != shape:
            raise UsageError(
                f"expected activations of {address} with shape {shape}, one row for each kept position, got {rows.shape}."
            )
    meta: dict[str, Any] = {
        "schema_version": layout.SCHEMA_VERSION,
        "reasoner": {"name": name, "kind": kind, "weights": weights, "config": {}},
        "d_model": shape[1],
        "addresses": [address.name for address in arrays],
        "dtype": dtype,
        "channels": list(channels),
        "shard_size": shard_size,
        "n_traces": len(traces),
        "traces": traces_hash(traces),
    }
    folder.mkdir(parents=True, exist_ok=True)
    layout.commit(folder / layout.TRACES, traces.to_bytes())
    layout.commit(folder / layout.INDEX, parquet_bytes(index))
    committed = []
    numbers = index["shard"].to_numpy()
    for shard in sorted(index["shard"].unique().tolist()):
        first, last = np.searchsorted(numbers, [shard, shard + 1]).tolist()
        hashes = {
            a.name: layout.commit(layout.shard_path(folder, a.folder, shard), layout.encode(x[first:last], dtype))
            for a, x in arrays.items()
        }
        committed.append(hashes)
        layout.append_line(folder / layout.MANIFEST, {"shard": shard, "rows": last - first, "sha256": hashes})
    meta["config_hash"] = hashlib.sha256(json.dumps([meta, committed], sort_keys=True).encode()).hexdigest()[:16]
    # Written last: a folder without it is not a store yet.
    layout.commit(folder / layout.META, json.dumps(meta).encode())
    return Store(folder)
