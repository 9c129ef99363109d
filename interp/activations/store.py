"""The activation store: rows are positions of traces, indexed by trace, position, channel, step and place.

    STORE/meta.json        who thought, which addresses, dtype, mask policy, versions, and a hash over all that
    STORE/index.parquet    one row for each kept position
    STORE/traces.parquet   the traces and their problems
    STORE/acts/<hook>/L<layer>/<shard>.safetensors
    STORE/manifest.jsonl   one line for each committed shard

A shard without a manifest line is redone; a trace never spans shards.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from interp.activations import layout
from interp.activations.mapping import MappedRows, Region, checked_out
from interp.errors import StoreError, UsageError, unknown
from interp.models.address import Address
from interp.runtime.files import AnyPath, file_hash, is_local, place
from interp.traces import Channel, TraceSet

THINKING = (Channel.THOUGHT, Channel.LATENT)
NO_SENTENCES = "no trace of this store was taken apart into sentences (a text reasoner with `steps: text` is)."
# Behind a URL a shard is fetched whole; so many stay in memory.
_FETCHED = 8
_GROUP = 1 << 16  # rows in a row group of the index, so that a worker can read its shard's alone


class Store:
    """A store on disk, opened for reading. Raises `StoreError` when it is missing, foreign or damaged."""

    def __init__(self, path: AnyPath | str) -> None:
        self.path = place(path)
        meta = self.path / layout.META
        if not meta.exists():
            kind = "an empty or foreign folder" if self.path.exists() else "not there"
            raise StoreError(f"no activation store at {self.path} (it is {kind}). Make one: `cotlens capture run`.")
        try:
            self.meta: dict[str, Any] = json.loads(meta.read_text())
            version = self.meta["schema_version"]
            self.addresses = [Address(name) for name in self.meta["addresses"]]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{meta} does not describe an activation store ({error}).") from None
        if version != layout.SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} has schema version {version}, and this version reads {layout.SCHEMA_VERSION}. Capture again."
            )
        self._mapped: OrderedDict[tuple[str, int], MappedRows] = OrderedDict()
        self._regions: dict[str, Region | None] = {}

    @cached_property
    def index(self) -> pd.DataFrame:
        """One row for each position: trace, position, token_id, token, channel, step, thought, sentence, place, shard, row.

        `sentence` numbers the sentences of a visible thought from 1; it is 0 elsewhere, and where a reasoner does not
        take its text apart.
        """
        try:
            found = pd.read_parquet(layout.source(self.path / layout.INDEX))
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.path / layout.INDEX} cannot be read ({error}). Capture again.") from None
        if "sentence" not in found:  # stores that were written before there were any
            found.insert(found.columns.get_loc("place"), "sentence", 0)
        return found

    @cached_property
    def traces(self) -> TraceSet:
        return TraceSet.from_parquet(self.path / layout.TRACES)

    @cached_property
    def committed(self) -> set[int]:
        return {record["shard"] for record in layout.read_manifest(self.path)}

    @property
    def complete(self) -> bool:
        return self.committed == set(self.index["shard"].unique())

    @property
    def places(self) -> list[str]:
        """The places of the kept positions, in the order in which they are thought."""
        order = self.index.groupby("place", sort=False)["position"].mean()
        return sorted(order.index, key=lambda place: place_key(place))

    def rows(
        self,
        *,
        channel: str | Sequence[str] | None = None,
        place: str | None = None,
        sentence: int | Sequence[int] | None = None,
    ) -> pd.DataFrame:
        """The part of the index in these channels, at this place, and in these sentences of a visible thought."""
        found = self.index
        if channel is not None:
            wanted = [channel] if isinstance(channel, str) else list(channel)
            for name in wanted:
                if name not in set(Channel):
                    raise unknown("channel", name, [c.value for c in Channel])
            found = found[found["channel"].isin(wanted)]
        if place is not None:
            if place not in set(self.index["place"]):
                raise unknown("place in this store", place, self.places)
            found = found[found["place"] == place]
        if sentence is not None:
            asked = [sentence] if isinstance(sentence, int) else list(sentence)
            last = int(self.index["sentence"].max())
            if not all(1 <= number <= last for number in asked):
                raise UsageError(
                    f"sentences of this store are 1 to {last}, but {asked} came." if last else NO_SENTENCES
                )
            found = found[found["sentence"].isin(asked)]
        return found

    @property
    def thought_rows(self) -> pd.DataFrame:
        """The rows of thoughts, visible or latent."""
        return self.rows(channel=THINKING)

    def address(self, name: Address | str) -> Address:
        """The stored address of that name. Raises `UsageError` when it was not captured."""
        wanted = Address(str(name))
        if wanted not in self.addresses:
            raise unknown("address in this store", wanted, self.addresses)
        return wanted

    def acts(
        self,
        address: Address | str,
        rows: pd.DataFrame | np.ndarray | None = None,
        *,
        out: Float32[np.ndarray, "rows d_model"] | None = None,
    ) -> Float32[np.ndarray, "rows d_model"]:
        """Activations at `address` for `rows` (all of them by default), in their order.

        `rows` is a part of the index, or the numbers of its rows, which is faster where they are drawn at random. They
        are written into `out` where it is given: batch after batch, asking for memory is a good part of the time. Raises
        `UsageError` on an unknown address and an `out` of another shape, `IndexError` on rows that are not there.
        """
        folder, total = self.address(address).folder, int(self._starts[-1])
        numbers = None if rows is None else self._numbers(rows)
        if not (total if numbers is None else len(numbers)):
            return np.empty((0, self.meta["d_model"]), np.float32)
        first, last = (0, total - 1) if numbers is None else (int(numbers.min()), int(numbers.max()))
        if first < 0 or last >= total:
            raise IndexError(f"rows 0 to {total - 1} are there, but {first} to {last} came")
        if numbers is None or (last - first == len(numbers) - 1 and (np.diff(numbers) == 1).all()):
            return self._between(folder, first, last + 1, out)
        region = self._region(folder)
        return self._picked(folder, numbers, out) if region is None else region.take(numbers, out)

    def _between(self, folder: str, first: int, end: int, out: np.ndarray | None) -> np.ndarray:
        """Rows `first` to `end` - 1 of one address, shard by shard."""
        for shard in np.flatnonzero((self._starts[1:] > first) & (self._starts[:-1] < end)).tolist():
            whole, start = self._whole(folder, shard), int(self._starts[shard])
            out = checked_out(out, end - first, whole.shape[1])
            here = slice(max(first, start), min(end, int(self._starts[shard + 1])))
            whole.between(here.start - start, here.stop - start, out[here.start - first : here.stop - first])
        assert out is not None
        return out

    def _picked(self, folder: str, numbers: np.ndarray, out: np.ndarray | None) -> np.ndarray:
        """Rows of these numbers, shard by shard, where an address's shards are not one region."""
        of_shard = np.searchsorted(self._starts, numbers, side="right") - 1
        for shard in np.unique(of_shard).tolist():
            whole, here = self._whole(folder, shard), of_shard == shard
            out = checked_out(out, len(numbers), whole.shape[1])
            out[here] = whole.take(numbers[here] - self._starts[shard])
        assert out is not None
        return out

    def trace_acts(self, trace: int) -> dict[Address, Float32[np.ndarray, "rows d_model"]]:
        """Everything kept of one trace, at every address, its rows in order. Raises `UsageError` on an unknown one."""
        if not 0 <= trace < len(self._bounds) - 1:
            raise UsageError(f"this store has traces 0 to {len(self._bounds) - 2}, but {trace} came.")
        first, last = int(self._bounds[trace]), int(self._bounds[trace + 1])
        if first == last:
            return {address: np.empty((0, self.meta["d_model"]), np.float32) for address in self.addresses}
        shard = int(np.searchsorted(self._starts, first, side="right")) - 1
        row = int(first - self._starts[shard])
        return {
            address: self._whole(address.folder, shard).between(row, row + last - first) for address in self.addresses
        }

    @cached_property
    def _bounds(self) -> np.ndarray:
        """Where each trace's rows begin in the index, and where the last ends."""
        return np.searchsorted(self.index["trace"].to_numpy(), np.arange(self.meta["n_traces"] + 1))

    @cached_property
    def _starts(self) -> np.ndarray:
        """The number of each shard's first row in the index, and of the last shard's last row + 1.

        Rows of the index stand in the order of the shards and of the rows in them, so that a few comparisons find a
        row's shard: columns as long as the store would be fetched from memory for every row.
        """
        shards = self.index["shard"].to_numpy()
        return np.searchsorted(shards, np.arange(shards[-1] + 2 if len(shards) else 1))

    def _numbers(self, rows: pd.DataFrame | np.ndarray) -> np.ndarray:
        """The numbers of chosen rows in the index."""
        if isinstance(rows, np.ndarray):
            return np.flatnonzero(rows) if rows.dtype == bool else rows
        return self._starts[rows["shard"].to_numpy()] + rows["row"].to_numpy()

    def _region(self, folder: str) -> Region | None:
        """All shards of an address as one, or None where they cannot be: behind a URL, not finished, damaged."""
        if folder not in self._regions:
            found, counts = None, np.diff(self._starts).tolist()
            if is_local(self.path) and self.complete:
                paths = [layout.shard_path(self.path, folder, shard) for shard in range(len(counts))]
                found = Region.of(paths, counts)
            self._regions[folder] = found
        return self._regions[folder]

    def _whole(self, folder: str, shard: int) -> MappedRows:
        """A shard of one address, open; `StoreError` where it is not finished."""
        key = (folder, shard)
        found = self._mapped.get(key)
        if found is None:
            if shard not in self.committed:
                raise StoreError(
                    f"shard {shard} of {self.path} is not finished. Run the same capture again to resume it."
                )
            found = self._mapped[key] = MappedRows(layout.shard_path(self.path, folder, shard))
            if not is_local(self.path) and len(self._mapped) > _FETCHED:
                self._mapped.popitem(last=False)
        return found

    def validate(self) -> list[str]:
        """What is wrong with the store, one line each: tables that changed, shards missing, damaged or never finished."""
        records = {record["shard"]: record for record in layout.read_manifest(self.path)}
        wrong = [
            f"{name} differs from what was committed"
            for name, expected in self.meta.get("files", {}).items()
            if file_hash(self.path / name) != expected
        ]
        for shard in sorted(self.index["shard"].unique()):
            if shard in records:
                wrong += layout.faults(self.path, records[shard])
            else:
                wrong.append(f"shard {shard} is not finished")
        return wrong

    def describe(self) -> dict[str, Any]:
        """A summary for people: model, positions, addresses, size."""
        size = sum(f.stat().st_size for f in self.path.rglob("*") if f.is_file())
        return {
            "path": str(self.path),
            "reasoner": self.meta["reasoner"]["name"],
            "traces": len(self.traces),
            "positions": len(self.index),
            "addresses": [str(a) for a in self.addresses],
            "dtype": self.meta["dtype"],
            "shards": f"{len(self.committed)} of {self.index['shard'].nunique()}",
            "megabytes": round(size / 2**20, 1),
        }


def place_key(place: str) -> tuple[int, int]:
    kind, _, number = place.rpartition(" ") if place[-1].isdigit() else (place, "", "0")
    order = ("question", "question end", "begin marker", "begin", "thought", "sentence", "end marker", "end", "answer")
    return order.index(kind) if kind in order else len(order), int(number)


def traces_hash(traces: TraceSet) -> str:
    """A short hash of the problems and tokens that activations belong to."""
    digest = hashlib.sha256()
    for trace in traces:
        digest.update(f"{trace.problem.id}{trace.token_ids}".encode())
    return digest.hexdigest()[:16]


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False, row_group_size=_GROUP)
    return buffer.getvalue()
