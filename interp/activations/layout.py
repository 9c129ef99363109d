"""The files of a store: their names, and reading and writing of shards and the manifest."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from interp.errors import StoreError, UsageError
from interp.models.address import Address
from interp.runtime.files import AnyPath, commit, explain_os_errors, file_hash, is_local

SCHEMA_VERSION = 1
META, INDEX, TRACES, MANIFEST = "meta.json", "index.parquet", "traces.parquet", "manifest.jsonl"
LABELS = "labels.parquet"  # labels of the user's own tables, beside those of the problems
RECEIPTS = "receipts"
KEY = "acts"
PAGE = 4096
#: Entries of a store's description that its `config_hash` does not cover.
NOT_HASHED = ("config_hash", "versions", "files", "computed", "origin")
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def shard_path(root: AnyPath, folder: str, shard: int) -> AnyPath:
    """Return the path of one shard of one address, whose `folder` is `Address.folder`."""
    return root / "acts" / folder / f"{shard:05d}.safetensors"


class ShardRecord(TypedDict):
    """A line of the manifest: one committed shard.

    Attributes:
        shard: Its number.
        rows: Its number of rows.
        sha256: The hash of its file at each address.
    """

    shard: int
    rows: int
    sha256: dict[str, str]


def description_hash(meta: dict[str, Any]) -> str:
    """Return a short hash of a store's description without the entries of `NOT_HASHED`."""
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()[:16]


def append_line(path: AnyPath, record: Mapping[str, Any]) -> None:
    """Append one JSON line and sync it to disk. Behind a URL, where nothing can be appended, write the file again."""
    line = (json.dumps(record, sort_keys=True) + "\n").encode()
    if not is_local(path):
        commit(path, (path.read_bytes() if path.exists() else b"") + line)
        return
    with explain_os_errors(f"writing {path.name}"), path.open("ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read_manifest(root: AnyPath) -> list[ShardRecord]:
    """Return the records of the committed shards, in the order of the file.

    A last line without a newline was cut off by a kill and is ignored. Of several lines about one shard the last counts.

    Raises:
        StoreError: On a damaged line.
    """
    path = root / MANIFEST
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    records: dict[int, ShardRecord] = {}
    for k, line in enumerate(lines[:-1]):
        try:
            record = json.loads(line)
            records[int(record["shard"])] = record | {"sha256": dict(record["sha256"])}
        except (ValueError, KeyError, TypeError):
            raise StoreError(
                f"{path}: line {k + 1} is damaged. Delete it, and capture again to redo its shard."
            ) from None
    return list(records.values())


def write_receipt(root: AnyPath, record: ShardRecord) -> None:
    """Write a file that records that a worker committed a shard.

    Only the driver of a capture appends to the manifest. Receipts outlive a killed driver, so that the shards its workers
    finished are not lost.
    """
    commit(root / RECEIPTS / f"{record['shard']:05d}.json", json.dumps(record, sort_keys=True).encode())


def collect_receipts(root: AnyPath) -> None:
    """Move receipts to the manifest, in the order of the shards."""
    folder = root / RECEIPTS
    if not folder.exists():
        return
    records = {record["shard"]: record for record in read_manifest(root)}
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_bytes())
            records.setdefault(record["shard"], record)
        except (ValueError, KeyError, TypeError):
            continue  # its shard is redone
    write_manifest(root, [records[shard] for shard in sorted(records)])
    for path in folder.glob("*"):
        path.unlink()
    folder.rmdir()


def write_manifest(root: AnyPath, records: Sequence[ShardRecord]) -> None:
    """Write the manifest again, unless it has this content already."""
    content = b"".join((json.dumps(record, sort_keys=True) + "\n").encode() for record in records)
    path = root / MANIFEST
    if content != (path.read_bytes() if path.exists() else b""):
        commit(path, content)


def repair_manifest(root: AnyPath) -> None:
    """Keep the complete lines whose files are unchanged; the other shards will be captured again."""
    path = root / MANIFEST
    if path.exists():
        write_manifest(root, [record for record in read_manifest(root) if not shard_faults(root, record)])


def shard_faults(root: AnyPath, record: ShardRecord) -> list[str]:
    """Return what is wrong with one committed shard, one line for each file."""
    faults = []
    for name, expected in record["sha256"].items():
        path = shard_path(root, Address(name).folder, record["shard"])
        if not path.exists():
            faults.append(f"shard {record['shard']}: {path.name} of {name} is missing")
        elif file_hash(path) != expected:
            faults.append(f"shard {record['shard']}: {path.name} of {name} differs from what was committed")
    return faults


def encode(rows: Any, dtype: str) -> bytes:
    """Return rows, an array or a tensor on the CPU, as the bytes of a safetensors file.

    The header is padded with blanks, which the format allows, so that the rows begin on a memory page. The shards of an
    address can then be mapped as one array (`mapping.Region`).
    """
    import torch

    rows = rows if isinstance(rows, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(rows))
    content = rows.to(getattr(torch, dtype)).contiguous().view(torch.uint8).numpy()
    description = {"dtype": DTYPES[dtype], "shape": list(rows.shape), "data_offsets": [0, content.nbytes]}
    header = json.dumps({KEY: description}).encode()
    header += b" " * (-(8 + len(header)) % PAGE)
    return b"".join([len(header).to_bytes(8, "little"), header, content.data])


def checked_dtype(dtype: str) -> str:
    """Return a dtype that stores can have. Raises `UsageError` on others."""
    if dtype not in DTYPES:
        raise UsageError(f"expected a dtype of float32, float16 or bfloat16, got {dtype!r}.")
    return dtype


def readable(path: AnyPath) -> Any:
    """Return what pandas can read a file from: its path on a disk, its content behind a URL."""
    return path if is_local(path) else io.BytesIO(path.read_bytes())
