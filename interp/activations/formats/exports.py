"""Export of stores to other formats: SAELens's cached activations, and Arrow.

Files are written to a folder under a temporary name, which is renamed at the end, so that a folder with the final name is
complete.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import pandas as pd

from interp.activations import layout
from interp.activations.store import Store
from interp.errors import StoreError, UsageError, checked_count, unknown
from interp.models.address import Address
from interp.runtime.files import refuse_existing
from interp.runtime.progress import Progress


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote.

    Attributes:
        format: `saelens` or `arrow`.
        out: The folder.
        rows: Number of rows.
        addresses: Names of the addresses.
        dropped: Rows at the end that do not fill a context.
    """

    format: str
    out: str
    rows: int
    addresses: list[str]
    dropped: int = 0


class ExportOptions(TypedDict, total=False):
    """Options of the exports.

    Attributes:
        addresses: Addresses to export; all by default.
        progress: Called with the parts that are done, and all parts.
        context_size: Positions in a context; only for `saelens`.
    """

    addresses: Sequence[str] | None
    progress: Progress | None
    context_size: int


def export(store: Store, to: str, out: Path | str, **options: Unpack[ExportOptions]) -> ExportResult:
    """Write a store in another format.

    Args:
        store: A finished store.
        to: `saelens` or `arrow`.
        out: Folder to write.
        **options: See `ExportOptions`.

    Returns:
        What was written.

    Raises:
        UsageError: On an unknown format or address, or when the folder holds something.
        StoreError: When the store is not finished, or the folder cannot be written.
    """
    if to not in FORMATS:
        raise unknown("format", to, FORMATS)
    if not store.complete:
        raise StoreError(f"{store.path} is not finished. Run `cotlens capture resume {store.path}` first.")
    return FORMATS[to](store, Path(out), **options)


def to_arrow(
    store: Store,
    out: Path,
    *,
    addresses: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> ExportResult:
    """Write one Arrow IPC file for each shard.

    A file has the columns of the index, and a column of fixed-size lists for each address. Numbers keep the store's dtype;
    bfloat16, which Arrow lacks, becomes float32. The store's description is the metadata `cotlens` of the schema.

    Args:
        store: A finished store.
        out: Folder to write.
        addresses: Addresses to export; all by default.
        progress: Called with the number of shards that are done, and of all.

    Returns:
        What was written.
    """
    import pyarrow as pa

    chosen = _addresses(store, addresses)
    dtype = np.float16 if store.meta["dtype"] == "float16" else np.float32
    written = 0
    with _folder(out) as folder:
        shards = sorted(store.committed)
        for number, shard in enumerate(shards):
            rows = store.index[store.index["shard"] == shard].reset_index(drop=True)
            table = pa.Table.from_pandas(rows, preserve_index=False)
            for address in chosen:
                acts = store.acts(address, rows).astype(dtype, copy=False)
                lists = pa.FixedSizeListArray.from_arrays(pa.array(acts.reshape(-1)), acts.shape[1])
                table = table.append_column(address.name, lists)
            table = table.replace_schema_metadata({**(table.schema.metadata or {}), "cotlens": json.dumps(store.meta)})
            path = folder / f"part-{shard:05d}.arrow"
            with (
                layout.explain_os_errors(f"writing {path.name}"),
                pa.OSFile(str(path), "wb") as file,
                pa.ipc.new_file(file, table.schema) as writer,
            ):
                writer.write_table(table)
            written += len(rows)
            if progress:
                progress(number + 1, len(shards))
    return ExportResult("arrow", str(out), written, [address.name for address in chosen])


def to_saelens(
    store: Store,
    out: Path,
    *,
    addresses: Sequence[str] | None = None,
    context_size: int = 1,
    progress: Progress | None = None,
) -> ExportResult:
    """Write the dataset that SAELens's `ActivationsStore` reads from `cached_activations_path`.

    One row holds a context of kept positions: a column for each hook (context_size x d) and their `token_ids`. SAELens
    needs contexts of one length and splits them again, so they are cut from the sequence of all kept positions, across
    traces; positions at the end that do not fill a context are dropped. bfloat16, which the format lacks, becomes float32.

    Args:
        store: A finished store.
        out: Folder to write.
        addresses: Addresses of one width to export; all by default.
        context_size: Positions in one row.
        progress: Called with the number of files that are done, and of all.

    Returns:
        What was written.

    Raises:
        UsageError: When there are fewer rows than one context.
    """
    import pyarrow as pa
    from datasets import Array2D, Features, Sequence, Value

    checked_count("context_size", context_size)
    chosen = _addresses(store, addresses)
    dtype = "float16" if store.meta["dtype"] == "float16" else "float32"
    width = store.acts(chosen[0], store.index.iloc[:1]).shape[1]
    features = Features(
        {a.name: Array2D(shape=(context_size, width), dtype=dtype) for a in chosen}
        | {"token_ids": Sequence(Value(dtype="int32"), length=context_size)}
    )
    kept = len(store.index) // context_size * context_size
    if not kept:
        raise UsageError(
            f"the store has {len(store.index)} rows, fewer than one context of {context_size}; choose a smaller one."
        )
    schema = features.arrow_schema
    files = []
    with _folder(out) as folder:
        pieces = list(_contexts(store, kept, context_size))
        for number, rows in enumerate(pieces):
            columns = [
                _nested(store.acts(a, rows).astype(dtype, copy=False), context_size, schema.field(a.name).type)
                for a in chosen
            ]
            ids = pa.array(rows["token_id"].to_numpy(np.int32))
            columns.append(pa.FixedSizeListArray.from_arrays(ids, context_size))
            name = f"data-{number:05d}-of-{len(pieces):05d}.arrow"
            with (
                layout.explain_os_errors(f"writing {name}"),
                pa.OSFile(str(folder / name), "wb") as file,
                pa.ipc.new_stream(file, schema) as writer,
            ):
                writer.write_batch(pa.record_batch(columns, schema=schema))
            files.append({"filename": name})
            if progress:
                progress(number + 1, len(pieces))
        _describe_dataset(folder, files, features, store)
    return ExportResult("saelens", str(out), kept, [address.name for address in chosen], len(store.index) - kept)


def _contexts(store: Store, kept: int, context_size: int) -> Iterator[pd.DataFrame]:
    """Yield the kept rows in pieces of about a shard, each a whole number of contexts."""
    largest = int(store.index["shard"].value_counts().max())
    step = max(1, largest // context_size) * context_size
    for first in range(0, kept, step):
        yield store.index.iloc[first : min(first + step, kept)]


def _nested(acts: np.ndarray, context_size: int, arrow_type: Any) -> Any:
    """Return rows x d as an Arrow array of contexts x positions x d, without a copy."""
    import pyarrow as pa

    n, width = acts.shape
    values = pa.array(acts.reshape(-1))
    inner = pa.ListArray.from_arrays(pa.array(np.arange(0, n * width + 1, width, dtype=np.int32)), values)
    outer = pa.ListArray.from_arrays(pa.array(np.arange(0, n + 1, context_size, dtype=np.int32)), inner)
    return pa.ExtensionArray.from_storage(arrow_type, outer)


def _describe_dataset(folder: Path, files: list[dict[str, str]], features: Any, store: Store) -> None:
    """Write the two JSON files that Hugging Face's datasets needs."""
    from datasets import DatasetInfo

    DatasetInfo(features=features, description=f"activations of {store.meta['reasoner']['name']}").write_to_directory(
        str(folder)
    )
    state = {
        "_data_files": files,
        "_fingerprint": store.meta["config_hash"],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    layout.commit(folder / "state.json", json.dumps(state, indent=2).encode())


def _addresses(store: Store, names: Sequence[str] | None) -> list[Address]:
    return [store.address(name) for name in names] if names else store.addresses


@contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder that gets the name `out` at the end, and is removed on an error."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        refuse_existing(out, what="folder")
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    with layout.explain_os_errors(f"writing {out}"):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            if out.exists():
                out.rmdir()
            temporary.rename(out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


FORMATS: dict[str, Callable[..., ExportResult]] = {"saelens": to_saelens, "arrow": to_arrow}
