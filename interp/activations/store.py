"""The activation store on disk: one row for each kept position of each trace.

    STORE/meta.json        reasoner, addresses, dtype, channels, versions, and a hash of these
    STORE/index.parquet    one row for each kept position
    STORE/traces.parquet   the traces and their problems
    STORE/acts/<hook>/L<layer>/<shard>.safetensors
    STORE/manifest.jsonl   one line for each committed shard
    STORE/labels.parquet   labels of the user's own tables (`cotlens import labels`), where there are any

A shard without a manifest line is captured again. A trace never spans shards.

A shard is compared with its hash when it is first read, where its address has at most 256 MiB: a hash takes several
times as long as reading what is in memory. `Store(path, verify=True)` compares larger ones too, and `cotlens capture
validate` all of them.
"""

from __future__ import annotations

import hashlib
import io
import json
import shlex
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
from interp.runtime.written import kind_in_words
from interp.text.label_tables import read_labels, with_labels
from interp.text.placement import step_placement
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

_MAX_FETCHED = 8  # shards behind a URL that stay in memory
_VERIFIED = 256 * 2**20  # bytes of an address up to which its shards are hashed when they are first read
_ROW_GROUP = 1 << 16  # rows in a row group of the index, so that a worker can read its shard's part alone


class Store(ActivationSource):
    """A crash-safe store of activations on disk, opened for reading."""

    def __init__(self, path: AnyPath | str, *, verify: bool | None = None) -> None:
        """Open a store.

        Args:
            path: Folder or fsspec URL.
            verify: Whether a shard is compared with its hash when it is first read. By default that is done on local
                disks, at addresses of at most 256 MiB.

        Raises:
            StoreError: When there is no store, or its description is damaged.
        """
        self.path = as_path(path)
        meta = self.path / layout.META
        if not meta.exists():
            there = kind_in_words(self.path) or "an empty or foreign folder"
            state = there if self.path.exists() else "not there"
            children = self.path.iterdir() if self.path.is_dir() else ()
            inside = sorted(str(child) for child in children if (child / layout.META).exists())
            if inside:
                listed = ", ".join(inside[:3])
                raise StoreError(
                    f"no activation store at {self.path} itself, but below it: {listed}. Name one of them."
                )
            raise StoreError(f"no activation store at {self.path} (it is {state}). Make one: `cotlens capture run`.")
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
        self._verify = verify
        self._verified: set[tuple[str, int]] = set()
        self._mapped: OrderedDict[tuple[str, int], MappedRows] = OrderedDict()
        self._regions: dict[str, Region | None] = {}

    @cached_property
    def index(self) -> pd.DataFrame:
        """One row for each kept position; see `ActivationSource.index`."""
        self._require_unchanged(layout.INDEX)
        try:
            index = read_index(layout.readable(self.path / layout.INDEX))
        except (OSError, ValueError) as error:
            raise self._repairable(StoreError(f"{self.path / layout.INDEX} cannot be read ({error}).")) from None
        if "sentence" not in index:  # older stores have no such column
            index.insert(index.columns.get_loc("place"), "sentence", 0)
        return index

    @cached_property
    def traces(self) -> TraceSet:
        """The traces that the rows belong to."""
        self._require_unchanged(layout.TRACES)
        traces = TraceSet.from_parquet(self.path / layout.TRACES)
        added = self.path / layout.LABELS
        return with_labels(traces, read_labels(added)) if added.exists() else traces

    @cached_property
    def committed(self) -> set[int]:
        """The numbers of the shards that are complete on disk."""
        return {record["shard"] for record in layout.read_manifest(self.path)}

    @property
    def complete(self) -> bool:
        """Whether all shards are committed."""
        return self.committed == set(self.index["shard"].unique())

    @property
    def name(self) -> str:
        """The path of the store."""
        return str(self.path)

    def load_reasoner(self) -> Reasoner:
        """Load the reasoner that the store was captured from.

        Returns:
            The reasoner.

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
        return self._selected(address.folder, rows, out) if region is None else region.take(rows, out)

    def _between(self, folder: str, first: int, end: int, out: np.ndarray | None) -> np.ndarray:
        """Return rows `first` to `end` - 1 of one address, shard by shard."""
        for shard in np.flatnonzero((self._starts[1:] > first) & (self._starts[:-1] < end)).tolist():
            rows, start = self._shard(folder, shard), int(self._starts[shard])
            out = checked_out(out, end - first, rows.shape[1])
            part = slice(max(first, start), min(end, int(self._starts[shard + 1])))
            rows.between(part.start - start, part.stop - start, out[part.start - first : part.stop - first])
        assert out is not None
        return out

    def _selected(self, folder: str, numbers: np.ndarray, out: np.ndarray | None) -> np.ndarray:
        """Return rows by number, shard by shard, where the shards cannot be mapped as one region."""
        of_shard = np.searchsorted(self._starts, numbers, side="right") - 1
        for shard in np.unique(of_shard).tolist():
            rows, in_shard = self._shard(folder, shard), of_shard == shard
            out = checked_out(out, len(numbers), rows.shape[1])
            out[in_shard] = rows.take(numbers[in_shard] - self._starts[shard])
        assert out is not None
        return out

    def trace_acts(self, trace: int) -> dict[Address, Float32[np.ndarray, "rows d_model"]]:
        """Return all kept rows of one trace at every address.

        Args:
            trace: Number of the trace, from 0.

        Returns:
            Activations by address, shape (rows, d_model) each, the rows in the order of `index`.

        Raises:
            UsageError: There is no such trace.
        """
        first, last = self._trace_rows(trace)
        if first == last:
            return {address: np.empty((0, self.meta["d_model"]), np.float32) for address in self.addresses}
        # A trace never spans shards, so that one lookup serves every address.
        shard = int(np.searchsorted(self._starts, first, side="right")) - 1
        row = int(first - self._starts[shard])
        return {
            address: self._shard(address.folder, shard).between(row, row + last - first) for address in self.addresses
        }

    def _region(self, folder: str) -> Region | None:
        """Return all shards of an address as one array; None behind a URL, and where one is missing or damaged."""
        if folder not in self._regions:
            region, counts = None, np.diff(self._starts).tolist()
            if is_local(self.path) and self.complete:
                shards = range(len(counts))
                # Where one differs, shards are read one by one, so that the rows of the others can be read.
                if not any(self._differs(folder, shard) for shard in shards):
                    region = Region.of([layout.shard_path(self.path, folder, shard) for shard in shards], counts)
            self._regions[folder] = region
        return self._regions[folder]

    def _shard(self, folder: str, shard: int) -> MappedRows:
        """Open a shard of one address. Raises `StoreError` when it is not finished."""
        key = (folder, shard)
        rows = self._mapped.get(key)
        if rows is None:
            if shard not in self.committed:
                raise self._repairable(StoreError(f"shard {shard} of {self.path} is not finished."))
            path = layout.shard_path(self.path, folder, shard)
            try:
                rows = MappedRows(path)
            except StoreError as error:
                raise self._repairable(error) from None
            if self._differs(folder, shard):
                raise self._repairable(StoreError(f"{path} differs from what was committed."))
            self._mapped[key] = rows
            if not is_local(self.path) and len(self._mapped) > _MAX_FETCHED:
                self._mapped.popitem(last=False)
        return rows

    def _differs(self, folder: str, shard: int) -> bool:
        """Return whether a shard is another than was committed; each is hashed once, where shards are verified."""
        key = (folder, shard)
        path, expected = layout.shard_path(self.path, folder, shard), self._hashes.get(key)
        if expected is None or key in self._verified or not path.exists():
            return False  # a missing file is said where it is opened
        if file_hash(path) != expected:
            return True
        self._verified.add(key)
        return False

    @cached_property
    def _hashes(self) -> dict[tuple[str, int], str]:
        """The hash of each shard's file at each address; empty where shards are not verified."""
        size = len(self.index) * self.meta["d_model"] * np.dtype("f2" if "16" in self.meta["dtype"] else "f4").itemsize
        if not (is_local(self.path) and size <= _VERIFIED if self._verify is None else self._verify):
            return {}
        return {
            (Address(name).folder, record["shard"]): expected
            for record in layout.read_manifest(self.path)
            for name, expected in record["sha256"].items()
        }

    def validate(self) -> list[str]:
        """Check that the store is complete and unchanged.

        Returns:
            A line for each fault; an empty list where there is none.
        """
        records = {record["shard"]: record for record in layout.read_manifest(self.path)}
        faults = [f"{name} {fault}" for name in (layout.TRACES, layout.INDEX) if (fault := self._fault(name))]
        if self._description_changed():
            faults.append(f"{layout.META} differs from what was written")
        try:
            shards = sorted(self.index["shard"].unique())
        except StoreError as error:
            faults = faults or [str(error)]
            shards = sorted(records)
        for shard in shards:
            if shard in records:
                faults += layout.shard_faults(self.path, records[shard])
            else:
                faults.append(f"shard {shard} is not finished")
        return faults

    def _fault(self, name: str) -> str | None:
        """Return what is wrong with one of the store's tables; None where it is what was written."""
        path, expected = self.path / name, self.meta.get("files", {}).get(name)
        if not path.exists():
            return "is missing"
        if expected is not None and file_hash(path) != expected:
            return "differs from what was committed"
        return None

    def _require_unchanged(self, name: str) -> None:
        """Raise `StoreError` unless one of the store's tables is what was written."""
        fault = self._fault(name)
        if fault is not None:
            raise self._repairable(StoreError(f"{self.path / name} {fault}."))

    def _repairable(self, damage: StoreError) -> StoreError:
        """Return an error with what repairs the store: a command, where the store says enough to be computed again."""
        if "computed" in self.meta and self._fault(layout.TRACES) is None:
            error = StoreError(f"{damage} Repair it: `{self.resume_command}`.")
            error.repair = self.resume_command
            return error
        return StoreError(f"{damage} Run the capture that made the store again, which repairs it.")

    @property
    def resume_command(self) -> str:
        """The command that finishes the store and writes again what is damaged."""
        return shlex.join(["cotlens", "capture", "resume", str(self.path)])

    def _description_changed(self) -> bool:
        """Return whether the description of a captured store has another hash than it records."""
        described = {key: value for key, value in self.meta.items() if key not in layout.NOT_HASHED}
        return "computed" in self.meta and layout.description_hash(described) != self.meta["config_hash"]

    def describe(self) -> dict[str, Any]:
        """Return a summary of the store.

        Returns:
            JSON values: path, reasoner, traces, positions, addresses, dtype, shards and megabytes; for visible thoughts
            also steps, which counts the gold steps with and without a place.
        """
        placement = step_placement(self.traces)
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
            **({} if placement is None else {"steps": placement.to_dict()}),
        }


def traces_hash(traces: TraceSet) -> str:
    """Return a short hash of the problems and tokens of traces.

    What a user's file says of a problem beside its question (labels, steps, split) counts too, because no task says it.
    """
    digest = hashlib.sha256()
    for trace in traces:
        problem, of_file = trace.problem, ""
        if "line" in problem.meta:
            steps = [(step.text, step.value) for step in problem.steps]
            of_file = json.dumps([problem.answer, problem.split, steps, problem.meta], sort_keys=True)
        digest.update(f"{problem.id}{of_file}{trace.token_ids}".encode())
    return digest.hexdigest()[:16]


def read_index(file: Any) -> pd.DataFrame:
    """Return an index from its Parquet file, one column after the other: together they would be in memory twice."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as opened:
        names = opened.schema_arrow.names
        columns = {name: opened.read(columns=[name]).to_pandas()[name] for name in names}
    return pd.DataFrame(columns, copy=False)


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """Return a table as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False, row_group_size=_ROW_GROUP)
    return buffer.getvalue()
