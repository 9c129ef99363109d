"""Capture: replay traces in masked batches and commit what passes each address, shard by shard."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from interp.activations import layout
from interp.activations.store import Store, index_of, parquet_bytes, traces_hash
from interp.errors import StoreError, UsageError, checked_count, unknown
from interp.models.address import Address, resolve
from interp.models.load import tokenizer_hash
from interp.traces import Channel, TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner
    from interp.reasoners.base import ReplayBatch

DEFAULT_CHANNELS = (Channel.SPECIAL, Channel.THOUGHT, Channel.LATENT, Channel.ANSWER)


def record(
    reasoner: Reasoner,
    traces: TraceSet,
    addresses: Sequence[Address],
    index: pd.DataFrame,
    *,
    batch_size: int = 64,
) -> dict[Address, Float32[np.ndarray, "rows d"]]:
    """The activations at `addresses` for the rows of `index`, whose traces are `traces`' places from 0."""
    buffers: dict[Address, np.ndarray] = {}
    keep = {k: group["position"].to_numpy() for k, group in index.groupby("trace")}
    first_row = {k: int(group["row"].iloc[0]) for k, group in index.groupby("trace")}

    def keeper(address: Address) -> Callable[[Any, ReplayBatch], None]:
        def hook(activations: Any, batch: ReplayBatch) -> None:
            if activations.ndim > 3:
                activations = activations.flatten(2)
            if address not in buffers:
                buffers[address] = np.empty((len(index), activations.shape[-1]), np.float32)
            found = activations.detach().float().cpu().numpy()
            for b, k in enumerate(batch.traces.tolist()):
                positions = keep.get(k)
                if positions is not None:
                    buffers[address][first_row[k] : first_row[k] + len(positions)] = found[b, positions]

        return hook

    reasoner.replay(traces, hooks={address.name: keeper(address) for address in addresses}, batch_size=batch_size)
    return buffers


def capture(
    reasoner: Reasoner,
    traces: TraceSet,
    *,
    sites: str | Sequence[str] = "resid",
    layers: Iterable[int] | None = None,
    channels: Sequence[str] = DEFAULT_CHANNELS,
    out: Path | str,
    dtype: str = "float32",
    shard_size: int = 256,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Store:
    """Write the activations of `traces` at `sites` to a store in `out`, and open it.

    Running the same capture again finishes what is missing and keeps what is there. Raises `StoreError` when
    `out` holds a store of another model or configuration, or the disk has no room; `UsageError` on unknown
    sites, layers, channels or dtypes.
    """
    out = Path(out)
    checked_count("shard_size", shard_size)
    checked_count("batch_size", batch_size)
    layout.checked_dtype(dtype)
    for channel in channels:
        if channel not in set(Channel):
            raise unknown("channel", channel, [c.value for c in Channel])
    if not len(traces):
        raise UsageError("there are no traces to capture.")
    addresses = resolve(reasoner.model, sites, layers)
    index = index_of(traces, [str(c) for c in channels], shard_size)
    meta = _meta(reasoner, traces, addresses, [str(c) for c in channels], dtype, shard_size)
    _open_folder(out, meta, index, traces)
    done = {entry["shard"] for entry in layout.read_manifest(out)}
    shards = sorted(index["shard"].unique())
    for number, shard in enumerate(shards):
        if shard not in done:
            _write_shard(reasoner, traces, addresses, index, int(shard), out, dtype, shard_size, batch_size)
        if progress:
            progress(number + 1, len(shards))
    return Store(out)


def _write_shard(
    reasoner: Reasoner,
    traces: TraceSet,
    addresses: Sequence[Address],
    index: pd.DataFrame,
    shard: int,
    out: Path,
    dtype: str,
    shard_size: int,
    batch_size: int,
) -> None:
    first = shard * shard_size
    part = index[index["shard"] == shard].assign(trace=lambda rows: rows["trace"] - first)
    found = record(reasoner, traces[first : first + shard_size], addresses, part, batch_size=batch_size)
    largest = layout.largest(dtype)
    for address, rows in found.items():
        bad = np.flatnonzero(~(np.abs(rows) <= largest).all(axis=1))
        if len(bad):
            at = part.iloc[int(bad[0])]
            how = f"too large for {dtype}" if np.isfinite(rows[bad[0]]).all() else "not finite"
            raise StoreError(
                f"{address} is {how} in trace {at['trace'] + first} at position {at['position']}. "
                "Check the weights, or capture in float32."
            )
    hashes = {
        address.name: layout.commit(layout.shard_path(out, address.folder, shard), layout.encode(rows, dtype))
        for address, rows in found.items()
    }
    layout.append_line(out / layout.MANIFEST, {"shard": shard, "rows": len(part), "sha256": hashes})


def _meta(
    reasoner: Reasoner,
    traces: TraceSet,
    addresses: Sequence[Address],
    channels: list[str],
    dtype: str,
    shard_size: int,
) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "schema_version": layout.SCHEMA_VERSION,
        "reasoner": reasoner.describe(),
        "tokenizer": tokenizer_hash(reasoner.tokenizer),
        "d_model": int(reasoner.model.cfg.d_model),
        "addresses": [address.name for address in addresses],
        "dtype": dtype,
        "channels": channels,
        "mask": "padding is never kept; of the prompt only its last position, unless the prompt channel is asked for",
        "shard_size": shard_size,
        "traces": traces_hash(traces),
        "n_traces": len(traces),
    }
    meta["config_hash"] = hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()[:16]
    meta["versions"] = {name: version(name) for name in ("torch", "transformers", "transformer-lens")}
    return meta


def _open_folder(out: Path, meta: dict[str, Any], index: pd.DataFrame, traces: TraceSet) -> None:
    """Start a store in `out`, or make sure that the one there is this one."""
    if (out / layout.META).exists():
        there = Store(out).meta
        if there["config_hash"] == meta["config_hash"]:
            layout.mend_manifest(out)
            for left in filter(_is_temporary, out.rglob("*")):
                left.unlink()
            return
        differs = [
            key for key in meta if key not in ("config_hash", "versions", "files") and meta[key] != there.get(key)
        ]
        raise StoreError(
            f"{out} holds a store with another {', '.join(differs) or 'configuration'} "
            f"(made by {there['reasoner']['name']}). Choose another folder, or remove that one."
        )
    with layout.explained(f"opening {out}"):
        started = {layout.TRACES, layout.INDEX}  # what a capture that was killed before its first shard leaves
        if out.exists() and any(p.name not in started for p in out.iterdir() if not _is_temporary(p)):
            raise StoreError(f"{out} is not empty and holds no activation store. Choose another folder.")
        out.mkdir(parents=True, exist_ok=True)
        _check_room(out, meta, len(index))
    meta["files"] = {
        layout.TRACES: layout.commit(out / layout.TRACES, traces.to_bytes()),
        layout.INDEX: layout.commit(out / layout.INDEX, parquet_bytes(index)),
    }
    # The description comes last: a folder without it is not a store yet.
    layout.commit(out / layout.META, (json.dumps(meta, indent=2, sort_keys=True) + "\n").encode())


def _is_temporary(path: Path) -> bool:
    """Whether a killed writer left this file under its temporary name."""
    return path.name.startswith(".") and path.suffix == ".tmp"


def _check_room(out: Path, meta: dict[str, Any], n_rows: int) -> None:
    width = 4 if meta["dtype"] == "float32" else 2
    needed = n_rows * meta["d_model"] * len(meta["addresses"]) * width
    free = shutil.disk_usage(out).free
    if needed > free * 0.98:
        raise StoreError(
            f"this capture needs about {needed / 2**20:.0f} MB and {out} has {free / 2**20:.0f} MB free. "
            "Keep fewer sites, layers or channels, store float16, or choose another disk."
        )
