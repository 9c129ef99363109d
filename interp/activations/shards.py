"""One shard of a capture, the unit of work of every engine: replay its traces and commit its files.

A `ShardSpec` is small and names everything. The process that captures shares its model and traces; a worker in another
process loads the model once, and only its shard's part of the store's tables.
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
    """One shard of a store.

    Attributes:
        store: Path or URL of the store.
        config_hash: Hash of the store's description.
        shard: Number of the shard.
        first: Its first trace.
        last: Its last trace + 1.
        batch_size: Most traces in one forward pass.
        threads: Threads to compute with; None leaves the number as it is.
        device: Device of the model.
        computed: Dtype of the model.
    """

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
    """What the capturing process has in memory already."""

    reasoner: Reasoner
    traces: TraceSet
    index: pd.DataFrame


_shared_inputs: dict[tuple[str, str], InProcessInputs] = {}


@contextlib.contextmanager
def share_inputs(store: str, config_hash: str, inputs: InProcessInputs) -> Iterator[None]:
    """Within a `with` block, let shards that are captured in this process use its model and traces."""
    _shared_inputs[store, config_hash] = inputs
    try:
        yield
    finally:
        del _shared_inputs[store, config_hash]


def capture_shard(spec: ShardSpec) -> layout.ShardRecord:
    """Record and commit one shard in a worker, leave a receipt, and return its record of the manifest."""
    record = commit_shard(spec, record_shard(spec))
    layout.write_receipt(as_path(spec.store), record)
    return record


def record_shard(spec: ShardSpec) -> Buffers:
    """Return the rows of a shard by address, in the store's dtype. Raises `StoreError` on NaN and overflow."""
    meta = _meta(spec.store, spec.config_hash)
    inputs = _shared_inputs.get((spec.store, spec.config_hash))
    if inputs is None:
        root = as_path(spec.store)
        reasoner = _loaded(spec.store, spec.config_hash, spec.device, spec.computed)
        traces = TraceSet.part(root / layout.TRACES, spec.first, spec.last)
        index = pd.read_parquet(layout.readable(root / layout.INDEX), filters=[("shard", "==", spec.shard)])
    else:
        reasoner, traces = inputs.reasoner, inputs.traces[spec.first : spec.last]
        shards = inputs.index["shard"].to_numpy()
        index = inputs.index.iloc[slice(*np.searchsorted(shards, [spec.shard, spec.shard + 1]))]
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


def commit_shard(spec: ShardSpec, buffers: Buffers) -> layout.ShardRecord:
    """Write a shard's files, each completely or not at all, and return its record of the manifest."""
    root = as_path(spec.store)
    dtype = _meta(spec.store, spec.config_hash)["dtype"]
    hashes = {
        address.name: layout.commit(layout.shard_path(root, address.folder, spec.shard), layout.encode(rows, dtype))
        for address, rows in buffers.items()
    }
    return {"shard": spec.shard, "rows": len(next(iter(buffers.values()))), "sha256": hashes}


def _refuse(address: Address, rows: Tensor, exact: Tensor, index: pd.DataFrame, first: int, dtype: str) -> None:
    """Raise `StoreError` for the first row that is not finite."""
    bad = int(torch.nonzero(~torch.isfinite(rows).all(dim=1))[0, 0])
    row = index.iloc[bad]
    problem = f"too large for {dtype}" if torch.isfinite(exact[bad]).all() else "not finite"
    raise StoreError(
        f"{address} is {problem} in trace {row['trace'] + first} at position {row['position']}. "
        "Check the weights, or capture in float32."
    )


@functools.lru_cache(maxsize=4)
def _meta(store: str, config_hash: str) -> dict[str, Any]:
    return checked(Store(store), config_hash).meta


def checked(store: Store, config_hash: str) -> Store:
    """Return the store if it is still the one that is captured. Raises `StoreError` otherwise."""
    if store.meta["config_hash"] != config_hash:
        raise StoreError(f"the store at {store.path} was replaced by another while it was being captured.")
    return store


@functools.lru_cache(maxsize=1)
def _loaded(store: str, config_hash: str, device: str, computed: str) -> Reasoner:
    """Load the reasoner of a store, once in each worker process."""
    return reload(_meta(store, config_hash), device=device, dtype=computed)


@contextlib.contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Compute with this number of threads within a `with` block."""
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        if number is not None:
            torch.set_num_threads(before)
