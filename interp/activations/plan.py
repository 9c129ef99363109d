"""The plan of a capture: addresses, rows, shards, description and cost."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pandas as pd

from interp.activations import layout
from interp.activations.identity import check_own
from interp.activations.replaying import gather, row_widths
from interp.activations.rows import index_of
from interp.activations.store import traces_hash
from interp.errors import StoreError, UsageError, checked_count, unknown
from interp.models.address import Address, resolve
from interp.models.fast_model import address_widths
from interp.runtime.files import AnyPath, is_local
from interp.traces import Channel, TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

DEFAULT_CHANNELS = (Channel.SPECIAL, Channel.THOUGHT, Channel.LATENT, Channel.ANSWER)
# A worker holds one shard in memory, and a second one while the first is written.
SHARD_BYTES = 1 << 28
_TIMED_TRACES = 8


@dataclass(frozen=True)
class CaptureCost:
    """What a capture costs.

    Attributes:
        traces: Number of traces.
        positions: Number of rows.
        addresses: Number of addresses.
        shards: Number of shards.
        bytes: Bytes on disk.
        worker_bytes: Bytes that one worker keeps in memory in addition to the model.
        seconds: Seconds that one worker needs.
    """

    traces: int
    positions: int
    addresses: int
    shards: int
    bytes: int
    worker_bytes: int
    seconds: float


@dataclass(frozen=True)
class Plan:
    """A capture before anything is written.

    Attributes:
        reasoner: The reasoner that made the traces.
        traces: The traces to replay.
        addresses: The addresses to keep.
        index: One row for each position to keep.
        meta: Description of the store.
        row_bytes: Bytes of one row at all addresses.
    """

    reasoner: Reasoner
    traces: TraceSet
    addresses: tuple[Address, ...]
    index: pd.DataFrame
    meta: dict[str, Any]
    row_bytes: int

    @property
    def bytes(self) -> int:
        """Bytes of all shards on disk, with each file's header page."""
        files = self.index["shard"].nunique() * len(self.addresses)
        return len(self.index) * self.row_bytes + files * layout.PAGE

    @property
    def shard_bytes(self) -> int:
        """Bytes of the largest shard, which a worker keeps in memory in addition to the model and one batch."""
        return int(self.index["shard"].value_counts().max()) * self.row_bytes

    def estimate(self) -> CaptureCost:
        """Return what the capture costs; the time is measured on the first few traces."""
        sample = self.traces[: min(_TIMED_TRACES, self.meta["shard_size"])]
        part = self.index[self.index["trace"] < len(sample)]
        gather(self.reasoner, sample, self.addresses, part)
        started = time.perf_counter()
        gather(self.reasoner, sample, self.addresses, part)
        seconds_per_position = (time.perf_counter() - started) / sum(map(len, sample))
        return CaptureCost(
            traces=len(self.traces),
            positions=len(self.index),
            addresses=len(self.addresses),
            shards=int(self.index["shard"].nunique()),
            bytes=self.bytes,
            worker_bytes=2 * self.shard_bytes,
            seconds=seconds_per_position * sum(map(len, self.traces)),
        )

    def check_room(self, out: AnyPath) -> None:
        """Raise `StoreError` when the disk of `out` has too little room."""
        if not is_local(out):
            return
        free = shutil.disk_usage(out).free
        if self.bytes > free * 0.98:
            raise StoreError(
                f"this capture needs about {self.bytes / 2**20:.0f} MB and {out} has {free / 2**20:.0f} MB free. "
                "Keep fewer sites, layers, channels or positions, store float16, or choose another disk."
            )


def plan(
    reasoner: Reasoner,
    traces: TraceSet,
    *,
    sites: str | Sequence[str] = "resid",
    layers: Iterable[int] | None = None,
    channels: Sequence[str] | None = None,
    positions: Sequence[str] = (),
    dtype: str = "float32",
    shard_size: int = 256,
    transfer: bool = False,
) -> Plan:
    """Plan a capture; the arguments are those of `interp.activations.capture`.

    Raises:
        UsageError: On unknown sites, layers, channels, positions or dtypes, and where there are no traces.
        StoreError: The traces are another model's; with `transfer` only where their tokens mean something else.
    """
    checked_count("shard_size", shard_size)
    layout.checked_dtype(dtype)
    if channels is None:
        channels = list(Channel) if positions else DEFAULT_CHANNELS
    channels = [str(channel) for channel in channels]
    for channel in channels:
        if channel not in set(Channel):
            raise unknown("channel", channel, [c.value for c in Channel])
    if not len(traces):
        raise UsageError("there are no traces to capture; give at least one.")
    check_own(reasoner, traces, transfer=transfer)
    addresses = resolve(reasoner.model, sites, layers)
    d_model = int(reasoner.model.cfg.d_model)
    wide = address_widths(reasoner.model, [a.name for a in addresses]) or {}
    wide |= row_widths(reasoner, traces[0], [a for a in addresses if a.name not in wide])
    row_bytes = sum(wide.get(a.name, d_model) for a in addresses) * (4 if dtype == "float32" else 2)
    index = index_of(traces, channels, shard_size, positions, shard_rows=max(1, SHARD_BYTES // row_bytes))
    meta: dict[str, Any] = {
        "schema_version": layout.SCHEMA_VERSION,
        "reasoner": reasoner.describe(),
        "tokenizer": reasoner.tokenizer_hash,
        "d_model": d_model,
        "addresses": [address.name for address in addresses],
        "dtype": dtype,
        "channels": channels,
        # Part of the hash that says whether an unfinished store can be resumed, so the text stays as it is.
        "mask": "padding is never kept; of the prompt only its last position, unless the prompt channel is asked for",
        "shard_size": shard_size,
        "traces": traces_hash(traces),
        "n_traces": len(traces),
    }
    if positions:
        meta["positions"] = list(positions)
    meta["config_hash"] = layout.description_hash(meta)
    meta["versions"] = {name: version(name) for name in ("torch", "transformers", "transformer-lens")}
    meta["computed"] = {
        "device": reasoner.device.type,
        "dtype": str(reasoner.embed.weight.dtype).removeprefix("torch."),
    }
    meta["origin"] = reasoner.origin
    return Plan(reasoner, traces, tuple(addresses), index, meta, row_bytes)
