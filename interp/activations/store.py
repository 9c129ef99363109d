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
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from interp.activations import layout
from interp.activations.mapping import MappedRows, Region, checked_out
from interp.activations.source import ActivationSource
from interp.errors import StoreError
from interp.models.address import Address
from interp.runtime.files import AnyPath, as_path, file_hash, is_local
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

# Behind a URL a shard is fetched whole; so many stay in memory.
_FETCHED = 8
_GROUP = 1 << 16  # rows in a row group of the index, so that a worker can read its shard's alone


class Store(ActivationSource):
    """A store on disk, opened for reading. Raises `StoreError` when it is missing, foreign or damaged."""

    def __init__(self, path: AnyPath | str) -> None:
        self.path = as_path(path)
        meta = self.path / layout.META
        if not meta.exists():
            kind = "an empty or foreign folder" if self.path.exists() else "not there"
            raise StoreError(f"no activation store at {self.path} (it is {kind}). Make one: `cotlens capture run`.")
        try:
            self.meta: dict[str, Any] = json.loads(meta.read_text(encoding="utf-8"))
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
    def name(self) -> str:
        """The path of the store."""
        return str(self.path)

    def load_reasoner(self) -> Reasoner:
        """Load the reasoner that the store was captured from.

        Raises:
            UsageError: When it cannot be loaded.
            StoreError: When its weights have changed since.
        """
        from interp.activations.reloading import reload

        return reload(self.meta)

    def _read(
        self, address: Address, rows: slice | np.ndarray, out: np.ndarray | None
    ) -> Float32[np.ndarray, "rows d_model"]:
        if isinstance(rows, slice):
            return self._between(address.folder, rows.start, rows.stop, out)
        region = self._region(address.folder)
        return self._picked(address.folder, rows, out) if region is None else region.take(rows, out)

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
        first, last = self._trace_rows(trace)
        if first == last:
            return {address: np.empty((0, self.meta["d_model"]), np.float32) for address in self.addresses}
        # A trace never spans shards, so that one lookup serves every address.
        shard = int(np.searchsorted(self._starts, first, side="right")) - 1
        row = int(first - self._starts[shard])
        return {
            address: self._whole(address.folder, shard).between(row, row + last - first) for address in self.addresses
        }

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
