"""What a store's files are called, and how its shards and its manifest are written and read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from interp.errors import StoreError, UsageError
from interp.files import commit, explained, file_hash
from interp.models.address import Address

SCHEMA_VERSION = 1
META, INDEX, TRACES, MANIFEST = "meta.json", "index.parquet", "traces.parquet", "manifest.jsonl"
KEY = "acts"
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def shard_path(root: Path, folder: str, shard: int) -> Path:
    return root / "acts" / folder / f"{shard:05d}.safetensors"


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Append one JSON line and see it to the disk."""
    with explained(f"writing {path.name}"), path.open("ab") as file:
        file.write((json.dumps(record, sort_keys=True) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())


def read_manifest(root: Path) -> list[dict[str, Any]]:
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


def mend_manifest(root: Path) -> None:
    """Keep the whole lines whose files are as they were committed; what they leave out will be redone."""
    path = root / MANIFEST
    if path.exists():
        lines = path.read_bytes().split(b"\n")[:-1]
        records = read_manifest(root)
        sound = [line for line, record in zip(lines, records, strict=True) if not faults(root, record)]
        content = b"".join(line + b"\n" for line in sound)
        if content != path.read_bytes():
            commit(path, content)


def faults(root: Path, record: dict[str, Any]) -> list[str]:
    """What is wrong with one committed shard, one line for each file."""
    wrong = []
    for name, expected in record["sha256"].items():
        path = shard_path(root, Address(name).folder, record["shard"])
        if not path.exists():
            wrong.append(f"shard {record['shard']}: {path.name} of {name} is missing")
        elif file_hash(path) != expected:
            wrong.append(f"shard {record['shard']}: {path.name} of {name} differs from what was committed")
    return wrong


def encode(rows: np.ndarray, dtype: str) -> bytes:
    """Rows of activations as the bytes of a safetensors file."""
    import torch
    from safetensors.torch import save

    return save({KEY: torch.from_numpy(np.ascontiguousarray(rows)).to(getattr(torch, dtype)).contiguous()})


def checked_dtype(dtype: str) -> str:
    if dtype not in DTYPES:
        raise UsageError(f"a store keeps float32, float16 or bfloat16, but {dtype!r} came.")
    return dtype


def largest(dtype: str) -> float:
    """The largest number that a dtype holds."""
    import torch

    return float(torch.finfo(getattr(torch, dtype)).max)


class MappedRows:
    """The rows of one shard file, mapped into memory and gathered with numpy."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(size))[KEY]
            self.shape: tuple[int, int] = tuple(header["shape"])
            self._bf16 = header["dtype"] == "BF16"
            kind = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}[header["dtype"]]
            self._rows = np.memmap(path, dtype=kind, mode="r", offset=8 + size, shape=self.shape)
        except FileNotFoundError:
            raise StoreError(f"{path} is missing. Capture again to redo it.") from None
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise StoreError(f"{path} is damaged ({error}). Capture again to redo it.") from None

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The chosen rows in float32, n x d."""
        found = np.asarray(self._rows[rows])
        if self._bf16:
            return (found.astype(np.uint32) << 16).view(np.float32)
        return found.astype(np.float32, copy=False)
