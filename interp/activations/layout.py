"""What a store's files are called, and how its shards and its manifest are written and read."""

from __future__ import annotations

import io
import json
import os
from typing import Any

import numpy as np

from interp.errors import StoreError, UsageError
from interp.files import AnyPath, commit, explained, file_hash, is_local
from interp.models.address import Address

SCHEMA_VERSION = 1
META, INDEX, TRACES, MANIFEST = "meta.json", "index.parquet", "traces.parquet", "manifest.jsonl"
RECEIPTS = "receipts"
KEY = "acts"
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def shard_path(root: AnyPath, folder: str, shard: int) -> AnyPath:
    return root / "acts" / folder / f"{shard:05d}.safetensors"


def append_line(path: AnyPath, record: dict[str, Any]) -> None:
    """Append one JSON line and see it to the disk. Behind a URL, where nothing can be appended, write all anew."""
    line = (json.dumps(record, sort_keys=True) + "\n").encode()
    if not is_local(path):
        commit(path, (path.read_bytes() if path.exists() else b"") + line)
        return
    with explained(f"writing {path.name}"), path.open("ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read_manifest(root: AnyPath) -> list[dict[str, Any]]:
    """The committed shards, in order. A last line that a kill cut short is not there yet."""
    path = root / MANIFEST
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    records = []
    for k, line in enumerate(lines[:-1]):
        try:
            records.append(json.loads(line))
        except ValueError:
            raise StoreError(
                f"{path}: line {k + 1} is damaged. Delete it, and capture again to redo its shard."
            ) from None
    return records


def leave_receipt(root: AnyPath, record: dict[str, Any]) -> None:
    """Say beside a store that a shard's files are whole, where another process than the one that writes wrote them.

    Only the driver of a capture appends to the manifest; receipts outlive it, so that a driver that was killed
    finds what its workers finished.
    """
    commit(root / RECEIPTS / f"{record['shard']:05d}.json", json.dumps(record, sort_keys=True).encode())


def collect_receipts(root: AnyPath) -> None:
    """Enter what workers finished into the manifest, and put it into the order of the shards."""
    folder = root / RECEIPTS
    if not folder.exists():
        return
    known = {record["shard"]: record for record in read_manifest(root)}
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_bytes())
            known.setdefault(record["shard"], record)
        except (ValueError, KeyError, TypeError):
            continue  # its shard is redone
    write_manifest(root, [known[shard] for shard in sorted(known)])
    for path in folder.glob("*"):
        path.unlink()
    folder.rmdir()


def write_manifest(root: AnyPath, records: list[dict[str, Any]]) -> None:
    """Write the manifest anew, unless it says that already."""
    content = b"".join((json.dumps(record, sort_keys=True) + "\n").encode() for record in records)
    path = root / MANIFEST
    if content != (path.read_bytes() if path.exists() else b""):
        commit(path, content)


def mend_manifest(root: AnyPath) -> None:
    """Keep the whole lines whose files are as they were committed; what they leave out will be redone."""
    path = root / MANIFEST
    if path.exists():
        write_manifest(root, [record for record in read_manifest(root) if not faults(root, record)])


def faults(root: AnyPath, record: dict[str, Any]) -> list[str]:
    """What is wrong with one committed shard, one line for each file."""
    wrong = []
    for name, expected in record["sha256"].items():
        path = shard_path(root, Address(name).folder, record["shard"])
        if not path.exists():
            wrong.append(f"shard {record['shard']}: {path.name} of {name} is missing")
        elif file_hash(path) != expected:
            wrong.append(f"shard {record['shard']}: {path.name} of {name} differs from what was committed")
    return wrong


def encode(rows: Any, dtype: str) -> bytes:
    """Rows of activations, an array or a tensor on the host, as the bytes of a safetensors file."""
    import torch
    from safetensors.torch import save

    rows = rows if isinstance(rows, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(rows))
    return save({KEY: rows.to(getattr(torch, dtype)).contiguous()})


def checked_dtype(dtype: str) -> str:
    if dtype not in DTYPES:
        raise UsageError(f"a store keeps float32, float16 or bfloat16, but {dtype!r} came.")
    return dtype


def largest(dtype: str) -> float:
    """The largest number that a dtype holds."""
    import torch

    return float(torch.finfo(getattr(torch, dtype)).max)


class MappedRows:
    """The rows of one shard file, mapped into memory (fetched whole behind a URL) and gathered with numpy."""

    def __init__(self, path: AnyPath) -> None:
        try:
            with path.open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(size))[KEY]
            self.shape: tuple[int, int] = tuple(header["shape"])
            self._bf16 = header["dtype"] == "BF16"
            kind = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}[header["dtype"]]
            if is_local(path):
                self._rows: np.ndarray = np.memmap(path, dtype=kind, mode="r", offset=8 + size, shape=self.shape)
            else:
                self._rows = np.frombuffer(path.read_bytes(), kind, offset=8 + size).reshape(self.shape)
            self._things = as_things(np.asarray(self._rows)) if kind is np.float32 else None
        except FileNotFoundError:
            raise StoreError(f"{path} is missing. Capture again to redo it.") from None
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise StoreError(f"{path} is damaged ({error}). Capture again to redo it.") from None

    def take_into(self, out: np.ndarray, rows: np.ndarray) -> None:
        """Write the chosen rows into `out`, n x d in float32. Raises `IndexError` where there is no such row."""
        first, last = self._bounds(rows)
        if last - first == len(rows) - 1 and rows[0] == first and (np.diff(rows) == 1).all():
            self._widen(self._rows[first : last + 1], out)
        elif self._things is None:
            self._widen(self._rows[rows], out)
        else:
            self._things.take(rows, out=as_things(out), mode="clip")

    def scatter_into(self, out: np.ndarray, places: np.ndarray, rows: np.ndarray, piece: np.ndarray) -> None:
        """Write the chosen rows into `out` at `places`, through `piece`, which has their width. Raises as `take_into`."""
        self._bounds(rows)
        # Whole rows as single things, so that numpy moves each with one memcpy; other modes than clip copy them first.
        things, buffer, size = as_things(out), as_things(piece), len(piece)
        for at in range(0, len(rows), size):
            here = rows[at : at + size]
            found = buffer[: len(here)]
            if self._things is None:
                self._widen(self._rows[here], piece[: len(here)])
            else:
                self._things.take(here, out=found, mode="clip")
            things.put(places[at : at + size], found, mode="clip")

    def _bounds(self, rows: np.ndarray) -> tuple[int, int]:
        first, last = int(rows.min()), int(rows.max())
        if first < 0 or last >= len(self._rows):
            raise IndexError(f"rows 0 to {len(self._rows) - 1} are there, but {first} to {last} came")
        return first, last

    def between(self, first: int, last: int) -> np.ndarray:
        """Rows `first` to `last` - 1 in float32."""
        out = np.empty((last - first, self.shape[1]), np.float32)
        self._widen(self._rows[first:last], out)
        return out

    def _widen(self, found: np.ndarray, out: np.ndarray) -> None:
        if self._bf16:
            np.left_shift(found, 16, out=out.view(np.uint32), dtype=np.uint32)
        else:
            np.copyto(out, found)


def as_things(rows: np.ndarray) -> np.ndarray:
    """Rows of a contiguous array as one thing each, n, in the same memory."""
    return rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize)))[:, 0]


def source(path: AnyPath) -> Any:
    """What pandas can read a file from: its path on a disk, its content behind a URL."""
    return path if is_local(path) else io.BytesIO(path.read_bytes())
