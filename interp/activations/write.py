"""Stores of activations that this toolkit did not capture: made up for a test, or recorded by another program."""

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

Given = np.ndarray | Callable[[pd.DataFrame], np.ndarray]


def write_store(
    folder: Path,
    traces: Sequence[Trace],
    acts: Mapping[str, Given],
    *,
    name: str = "by hand",
    kind: str = "continuous",
    weights: str = "none",
    dtype: str = "float32",
    channels: Sequence[str] = DEFAULT_CHANNELS,
    shard_size: int = 1000,
) -> Store:
    """Write a store of `traces` with the activations that `acts` gives for each address by name.

    They are an array, rows x d_model in the order of the store's index, or a function that makes it from the index
    (columns trace, position, channel, step, thought, sentence, place, shard). Raises `StoreError` where the folder is not
    empty and `UsageError` where rows do not fit the index or each other.
    """
    if folder.exists() and any(folder.iterdir()):
        raise StoreError(f"{folder} is not empty. Choose another folder.")
    layout.checked_dtype(dtype)
    traces = TraceSet(traces)
    index = index_of(traces, list(channels), shard_size)
    found = {Address(each): given(index) if callable(given) else given for each, given in acts.items()}
    for address, rows in found.items():
        wanted = (len(index), next(iter(found.values())).shape[1])
        if rows.shape != wanted:
            raise UsageError(f"activations of {address} are {rows.shape}, but the traces' rows need {wanted}.")
    meta: dict[str, Any] = {
        "schema_version": layout.SCHEMA_VERSION,
        "reasoner": {"name": name, "kind": kind, "weights": weights, "config": {}},
        "d_model": next(iter(found.values())).shape[1],
        "addresses": [address.name for address in found],
        "dtype": dtype,
        "channels": list(channels),
        "shard_size": shard_size,
        "n_traces": len(traces),
        "traces": traces_hash(traces),
    }
    folder.mkdir(parents=True, exist_ok=True)
    layout.commit(folder / layout.TRACES, traces.to_bytes())
    layout.commit(folder / layout.INDEX, parquet_bytes(index))
    written = []
    for shard in sorted(index["shard"].unique()):
        here = (index["shard"] == shard).to_numpy()
        hashes = {
            a.name: layout.commit(layout.shard_path(folder, a.folder, int(shard)), layout.encode(x[here], dtype))
            for a, x in found.items()
        }
        written.append(hashes)
        layout.append_line(folder / layout.MANIFEST, {"shard": int(shard), "rows": int(here.sum()), "sha256": hashes})
    meta["config_hash"] = hashlib.sha256(json.dumps([meta, written], sort_keys=True).encode()).hexdigest()[:16]
    # The description comes last: a folder without it is not a store yet.
    layout.commit(folder / layout.META, json.dumps(meta).encode())
    return Store(folder)
