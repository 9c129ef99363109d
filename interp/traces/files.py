"""Trace files: the Parquet form of traces, read and written by parts so that no list of numbers is as long as the file."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from interp.errors import StoreError
from interp.problems.base import Problem
from interp.runtime.files import as_path
from interp.runtime.written import kind_in_words
from interp.traces.columns import Column, Numbers, PositionColumns, Texts, column_of
from interp.traces.trace import Trace

ROW_GROUP = 256  # traces in a Parquet row group, the unit in which a file is read

_INTEGERS = ("token_ids", "step", "thought", "sentence")
_TEXTS = ("tokens", "channel")
_FLOATS = ("entropy", "logprob")
_POSITIONS = (*_INTEGERS, *_TEXTS, *_FLOATS)

# Older files lack some columns.
_NEWER = {"sentence", "events", "weights", "tokenizer", "value_positions", "temperature", "written_by"}
_NEWER |= {"labels", "token_labels"}
_COLUMNS = {column.name for column in fields(Trace)} - _NEWER | {"n_latents"}


def read_traces(path: Path | str, first: int = 0, last: int | None = None) -> list[Trace]:
    """Return traces `first` to `last` - 1 of a file, all by default.

    Args:
        path: A file or fsspec URL that `TraceSet.to_parquet` wrote.
        first: Index of the first trace to read.
        last: Index after the last trace to read.

    Raises:
        StoreError: There is no such file, or it is not a readable trace file.
    """
    try:
        with (as_path(path) if isinstance(path, str) else path).open("rb") as handle, _verified(handle) as file:
            missing = _COLUMNS - set(file.schema_arrow.names)
            if missing:
                raise StoreError(f"{path} is not a trace file of this project: it lacks {', '.join(sorted(missing))}.")
            traces, start = [], 0
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                if first < end and (last is None or start < last):
                    part = _traces_of(file.read_row_group(group))
                    traces += part[max(0, first - start) : None if last is None else last - start]
                start = end
        return traces
    except FileNotFoundError:
        raise StoreError(f"no traces at {path}. Make some with `cotlens think`, or check the path.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError, MemoryError) as error:
        if isinstance(error, IsADirectoryError):
            inside = (
                f"; its traces are in {path}/traces.parquet"
                if (as_path(str(path)) / "traces.parquet").exists()
                else "; name the Parquet file that `cotlens think` wrote"
            )
            kind = kind_in_words(path) or "a folder"
            raise StoreError(f"expected a trace file, got {path}, which is {kind}{inside}.") from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StoreError(f"{path} is not a readable trace file ({reason[:200]}).") from None


def traces_bytes(traces: Sequence[Trace]) -> bytes:
    """Return the content of a Parquet file of traces."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, buffer = _schema(), io.BytesIO()
    with pq.ParquetWriter(buffer, schema, write_page_checksum=True) as writer:
        for start in range(0, len(traces), ROW_GROUP):
            part = traces[start : start + ROW_GROUP]
            columns = {name: [value(trace) for trace in part] for name, value in _written_columns().items()}
            writer.write_table(pa.Table.from_pydict(columns, schema), row_group_size=ROW_GROUP)
    return buffer.getvalue()


def compacted(traces: Sequence[Trace]) -> list[Trace]:
    """Return the same traces, whose lists are made from columns when they are read."""
    names = [name for name in _POSITIONS if name in {column.name for column in fields(Trace)}]
    columns = {name: column_of([getattr(trace, name) for trace in traces]) for name in names}
    held = PositionColumns(columns, np.array([len(trace) for trace in traces], np.int64))
    others = [column.name for column in fields(Trace) if column.name not in columns]
    return [Trace.of_columns(held, k, {name: getattr(t, name) for name in others}) for k, t in enumerate(traces)]


def _verified(handle: Any) -> Any:
    """Open a Parquet file whose pages are compared with their checksums; older files have none."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(handle, page_checksum_verification=True)


def _schema() -> Any:
    """Return the columns of a trace file and their types."""
    import pyarrow as pa

    text, whole, number = pa.string(), pa.int64(), pa.float32()
    types = {name: pa.list_(whole) for name in (*_INTEGERS, "value_positions")}
    types |= {name: pa.list_(text) for name in _TEXTS} | {name: pa.list_(number) for name in (*_FLOATS, "latents")}
    types |= {"id": whole, "seed": whole, "n_latents": whole, "correct": pa.bool_(), "temperature": pa.float64()}
    return pa.schema([(name, types.get(name, text)) for name in _written_columns()])


def _written_columns() -> dict[str, Callable[[Trace], Any]]:
    """Return, by name of a column in the file, what stands there of a trace."""
    other: dict[str, Callable[[Trace], Any]] = {
        "problem": lambda trace: trace.problem.to_json(),
        "channel": lambda trace: list(map(str, trace.channel)),
        "entropy": lambda trace: np.asarray(trace.entropy, np.float32),
        "logprob": lambda trace: np.asarray(trace.logprob, np.float32),
        "latents": lambda trace: None if trace.latents is None else trace.latents.ravel(),
        "events": lambda trace: json.dumps(trace.events),
        "labels": lambda trace: json.dumps(dict(trace.labels)),
        "token_labels": lambda trace: json.dumps(dict(trace.token_labels)),
        "n_latents": lambda trace: 0 if trace.latents is None else len(trace.latents),
    }
    names = [*(column.name for column in fields(Trace)), "n_latents"]
    return {name: other.get(name, attrgetter(name)) for name in names}


def _traces_of(table: Any) -> list[Trace]:
    """Return the traces of a row group."""
    import pyarrow as pa

    present = [name for name in _POSITIONS if name in table.column_names]
    columns: dict[str, Column] = {name: _column(name, table[name]) for name in present}
    if "sentence" not in columns:
        columns["sentence"] = column_of([[]] * len(table))
    lengths = table["token_ids"].combine_chunks().value_lengths().to_numpy()
    held = PositionColumns(columns, lengths)
    for name in ("id", "seed", "n_latents"):  # one changed byte can make durations of numbers
        if name in table.column_names and not pa.types.is_integer(table.schema.field(name).type):
            raise ValueError(f"{name} has no whole numbers")
    rows = table.drop_columns(present).to_pandas().to_dict("records")
    return [Trace.of_columns(held, number, _attributes(row)) for number, row in enumerate(rows)]


def _column(name: str, lists: Any) -> Column:
    """Return the column of a row group's lists."""
    import pyarrow as pa

    lists = lists.combine_chunks()
    values, lengths = lists.flatten(), lists.value_lengths()
    if lists.null_count or (values.null_count and name not in _FLOATS):
        raise ValueError(f"{name} has missing values")
    bounds = np.concatenate([[0], np.cumsum(lengths.to_numpy())]).astype(np.int64)
    if name in _TEXTS:
        texts = values.cast(pa.string()).dictionary_encode()
        return Texts(texts.indices.to_numpy(), texts.dictionary.to_pylist(), bounds)
    if name in _INTEGERS:
        return Numbers(values.cast(pa.int64()).to_numpy(), bounds)
    values = values if values.type == pa.float32() else values.cast(pa.float64())
    return Numbers(values.to_numpy(zero_copy_only=False), bounds)


def _attributes(row: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a trace that are no columns."""
    n_latents, latents = int(row.pop("n_latents")), row.pop("latents")
    temperature = float(row.pop("temperature", float("nan")))
    known = {column.name for column in fields(Trace)}
    unknown = [name for name in row if name not in known]
    if unknown:
        raise ValueError(f"unknown columns {', '.join(unknown)}")
    return {
        "seed": 0,
        "weights": "",
        "tokenizer": "",
        "written_by": "",
        **row,
        "problem": Problem.from_json(row["problem"]),
        "events": json.loads(row.get("events") or "[]"),
        "labels": json.loads(row.get("labels") or "{}"),
        "token_labels": json.loads(row.get("token_labels") or "{}"),
        "value_positions": list(map(int, row.get("value_positions", ()))),
        "temperature": None if np.isnan(temperature) else temperature,
        "latents": None if n_latents == 0 else np.array(latents, np.float32).reshape(n_latents, -1),
    }
