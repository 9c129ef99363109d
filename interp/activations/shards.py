"""One shard of a capture, the unit of work that any engine runs: replay its traces, commit its files.

A spec is small and says everything by name. In the process that asked, the model and the traces are at hand; a
worker elsewhere loads the model once, and of the store's tables only what its shard needs.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.activations import layout
from interp.activations.reloading import reload
from interp.activations.replaying import gather
from interp.activations.store import Store
from interp.errors import StoreError
from interp.models.address import Address
from interp.runtime.files import as_path
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

Buffers = dict[Address, Tensor]


@dataclass(frozen=True)
class ShardSpec:
    """Shard `shard` of the store at `store`: its traces `first` to `last` - 1. `threads` is None to leave them be."""

    store: str
    config_hash: str
    shard: int
    first: int
    last: int
    batch_size: int
    threads: int | None
    device: str
    computed: str


@dataclass(frozen=True)
class InProcessInputs:
    """What the asking process has in memory already."""

    reasoner: Reasoner
    traces: TraceSet
    index: pd.DataFrame


_present: dict[tuple[str, str], InProcessInputs] = {}


@contextlib.contextmanager
def present(store: str, config_hash: str, at_hand: InProcessInputs) -> Iterator[None]:
    """Let shards that are done in this process use what it has."""
    _present[store, config_hash] = at_hand
    try:
        yield
    finally:
        del _present[store, config_hash]


def capture_shard(spec: ShardSpec) -> dict[str, Any]:
    """Record and commit one shard in a worker; returns its line of the manifest, and leaves a receipt of it."""
    line = commit_shard(spec, record_shard(spec))
    layout.leave_receipt(as_path(spec.store), line)
    return line


def record_shard(spec: ShardSpec) -> Buffers:
    """What passes the store's addresses at the shard's rows, in the store's dtype. Raises `StoreError` on NaN and overflow."""
    meta = _meta(spec.store, spec.config_hash)
    at_hand = _present.get((spec.store, spec.config_hash))
    if at_hand is None:
        where = as_path(spec.store)
        reasoner = _loaded(spec.store, spec.config_hash, spec.device, spec.computed)
        traces = TraceSet.part(where / layout.TRACES, spec.first, spec.last)
        index = pd.read_parquet(layout.source(where / layout.INDEX), filters=[("shard", "==", spec.shard)])
    else:
        reasoner, traces = at_hand.reasoner, at_hand.traces[spec.first : spec.last]
        shards = at_hand.index["shard"].to_numpy()
        index = at_hand.index.iloc[slice(*np.searchsorted(shards, [spec.shard, spec.shard + 1]))]
    addresses = [Address(name) for name in meta["addresses"]]
    with _threads(spec.threads):
        return record_rows(reasoner, traces, addresses, index, spec.first, meta["dtype"], spec.batch_size)


def record_rows(
    reasoner: Reasoner,
    traces: TraceSet,
    addresses: Sequence[Address],
    index: pd.DataFrame,
    first: int,
    dtype: str,
    batch_size: int,
) -> Buffers:
    """Replay the traces of one shard and return its rows by address, in `dtype` on the CPU.

    `first` is the number of the shard's first trace in `index`. Raises `StoreError` on NaN and overflow.
    """
    index = index.assign(trace=index["trace"] - first)
    buffers = gather(reasoner, traces, addresses, index, dtype=getattr(torch, dtype), batch_size=batch_size)
    for address, rows in buffers.items():
        # One sum is cheaper than a check of every number, and finite where all of them are.
        if not torch.isfinite(rows.sum(dtype=torch.float32)) and not torch.isfinite(rows).all():
            exact = gather(reasoner, traces, [address], index, batch_size=batch_size)[address]
            _refuse(address, rows, exact, index, first, dtype)
    return buffers


def shard_ranges(index: pd.DataFrame, n_traces: int) -> list[tuple[int, int]]:
    """Return the first trace of each shard, and its last trace + 1."""
    firsts = index["trace"].to_numpy()[np.flatnonzero(np.diff(index["shard"].to_numpy(), prepend=-1))]
    bounds = [0, *firsts[1:].tolist(), n_traces]
    return list(itertools.pairwise(bounds))


def commit_shard(spec: ShardSpec, found: Buffers) -> dict[str, Any]:
    """Write a shard's files, each whole or not at all; returns its line of the manifest."""
    root = as_path(spec.store)
    dtype = _meta(spec.store, spec.config_hash)["dtype"]
    hashes = {
        address.name: layout.commit(layout.shard_path(root, address.folder, spec.shard), layout.encode(rows, dtype))
        for address, rows in found.items()
    }
    return {"shard": spec.shard, "rows": len(next(iter(found.values()))), "sha256": hashes}


def _refuse(address: Address, rows: Tensor, exact: Tensor, index: pd.DataFrame, first: int, dtype: str) -> None:
    bad = int(torch.nonzero(~torch.isfinite(rows).all(dim=1))[0, 0])
    at = index.iloc[bad]
    how = f"too large for {dtype}" if torch.isfinite(exact[bad]).all() else "not finite"
    raise StoreError(
        f"{address} is {how} in trace {at['trace'] + first} at position {at['position']}. "
        "Check the weights, or capture in float32."
    )


@functools.lru_cache(maxsize=4)
def _meta(store: str, config_hash: str) -> dict[str, Any]:
    return checked(Store(store), config_hash).meta


def checked(store: Store, config_hash: str) -> Store:
    """The store, if it still is the one that was meant. Raises `StoreError` otherwise."""
    if store.meta["config_hash"] != config_hash:
        raise StoreError(f"the store at {store.path} was replaced by another while it was being captured.")
    return store


@functools.lru_cache(maxsize=1)
def _loaded(store: str, config_hash: str, device: str, computed: str) -> Reasoner:
    """The reasoner of a store, loaded once in each worker process."""
    return reload(_meta(store, config_hash), device=device, dtype=computed)


@contextlib.contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        if number is not None:
            torch.set_num_threads(before)
