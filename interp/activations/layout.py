"""What a store's files are called, and how its shards and its manifest are written and read."""

from __future__ import annotations

import io
import json
import os
from typing import Any

import numpy as np

from interp.errors import StoreError, UsageError
from interp.models.address import Address
from interp.runtime.files import AnyPath, commit, explain_os_errors, file_hash, is_local

SCHEMA_VERSION = 1
META, INDEX, TRACES, MANIFEST = "meta.json", "index.parquet", "traces.parquet", "manifest.jsonl"
RECEIPTS = "receipts"
KEY = "acts"
PAGE = 4096
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def shard_path(root: AnyPath, folder: str, shard: int) -> AnyPath:
    return root / "acts" / folder / f"{shard:05d}.safetensors"


def append_line(path: AnyPath, record: dict[str, Any]) -> None:
    """Append one JSON line and see it to the disk. Behind a URL, where nothing can be appended, write all anew."""
    line = (json.dumps(record, sort_keys=True) + "\n").encode()
    if not is_local(path):
        commit(path, (path.read_bytes() if path.exists() else b"") + line)
        return
    with explain_os_errors(f"writing {path.name}"), path.open("ab") as file:
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
    """Rows of activations, an array or a tensor on the host, as the bytes of a safetensors file.

    Its header is filled up with blanks, as the format allows, so that the rows begin on a page of memory: the shards of
    an address can then be mapped as one array (`mapping.Region`).
    """
    import torch

    rows = rows if isinstance(rows, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(rows))
    content = rows.to(getattr(torch, dtype)).contiguous().view(torch.uint8).numpy()
    told = {"dtype": DTYPES[dtype], "shape": list(rows.shape), "data_offsets": [0, content.nbytes]}
    header = json.dumps({KEY: told}).encode()
    header += b" " * (-(8 + len(header)) % PAGE)
    return b"".join([len(header).to_bytes(8, "little"), header, content.data])


def checked_dtype(dtype: str) -> str:
    if dtype not in DTYPES:
        raise UsageError(f"a store keeps float32, float16 or bfloat16, but {dtype!r} came.")
    return dtype


def largest(dtype: str) -> float:
    """The largest number that a dtype holds."""
    import torch

    return float(torch.finfo(getattr(torch, dtype)).max)


def source(path: AnyPath) -> Any:
    """What pandas can read a file from: its path on a disk, its content behind a URL."""
    return path if is_local(path) else io.BytesIO(path.read_bytes())
