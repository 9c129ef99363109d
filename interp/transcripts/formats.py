"""The formats of transcripts: which one a file or folder has, and its transcripts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.errors import StoreError, UsageError
from interp.transcripts.chat_records import Record, is_record, read_records
from interp.transcripts.inspect_logs import is_inspect_archive, is_inspect_log, read_archive, read_log
from interp.transcripts.records import Refusal, Transcript
from interp.transcripts.thought_anchors import n_rollout_files, problem_folders, read_rollouts

_EXPECTED = (
    "chat messages as JSON or JSONL (messages, conversations or choices), a log of Inspect (.eval or .json), a folder of "
    "Thought Anchors (problem_*/base_solution.json), or a chat data set (Parquet, Arrow or JSONL with messages or "
    "conversations)"
)
_TABLES = (".parquet", ".arrow", ".jsonl", ".json")


@dataclass(frozen=True)
class TranscriptFile:
    """What was read of a file or folder.

    Attributes:
        path: Where it is.
        format: The name of its format.
        items: Its transcripts, and what could not be read, in order.
        notes: What of it was not read.
    """

    path: Path
    format: str
    items: list[Transcript | Refusal]
    notes: tuple[str, ...] = ()


def read_transcripts(paths: Sequence[Path], *, rollouts: int = 0) -> list[TranscriptFile]:
    """Read files and folders of transcripts.

    Args:
        paths: The files and folders. Requests and responses of a batch may be in different files.
        rollouts: How many rollouts of each chunk of a Thought Anchors folder are read.

    Raises:
        StoreError: A file does not exist, or is damaged.
        UsageError: Its format is not known, or the files mix chat messages with other formats.
    """
    files = []
    chats: list[tuple[Path, str, list[Record]]] = []
    for path in paths:
        content = _read(path, rollouts)
        if isinstance(content, TranscriptFile):
            files.append(content)
        else:
            chats.append((path, *content))
    if chats and not files:
        # Together, because a batch has its requests in one file and its responses in another.
        items = list(read_records(record for _, _, records in chats for record in records))
        formats = " and ".join(dict.fromkeys(name for _, name, _ in chats))
        return [TranscriptFile(chats[0][0], formats, items)]
    return files + [TranscriptFile(path, name, list(read_records(records))) for path, name, records in chats]


def _read(path: Path, rollouts: int) -> TranscriptFile | tuple[str, list[Record]]:
    """Return what a file or folder holds; of chat messages their records, which are read together."""
    if not path.exists():
        raise StoreError(f"expected transcripts at {path}, got nothing there; check the path.")
    if path.is_dir():
        return _read_folder(path, rollouts)
    if is_inspect_archive(path):
        return TranscriptFile(path, "log of Inspect", list(read_archive(path)))
    with path.open("rb") as handle:
        beginning = handle.read(8)
    if beginning.startswith(b"PAR1"):
        return "chat data set (Parquet)", list(_checked(_parquet_rows(path), path))
    if path.suffix == ".arrow" or beginning.startswith(b"ARROW1"):
        return "chat data set (Arrow)", list(_checked(_arrow_rows(path), path))
    return _read_json(path)


def _read_folder(path: Path, rollouts: int) -> TranscriptFile | tuple[str, list[Record]]:
    if problem_folders(path):
        left = n_rollout_files(path) if not rollouts else 0
        notes = (f"{left} files of rollouts are not read; --rollouts N reads N of each",) if left else ()
        return TranscriptFile(path, "Thought Anchors folder", list(read_rollouts(path, rollouts=rollouts)), notes)
    tables = sorted(file for file in path.rglob("*") if file.suffix in _TABLES and not file.name.startswith("cache-"))
    described = ("dataset_info.json", "dataset_dict.json", "state.json", "dataset_infos.json")
    records: list[Record] = []
    for file in (file for file in tables if file.name not in described):
        content = _read(file, rollouts)
        if isinstance(content, TranscriptFile):
            raise UsageError(f"expected one format in {path}, got a {content.format} in it; name the files one by one.")
        records += content[1]
    if not records:
        raise UsageError(f"expected {_EXPECTED}, got the folder {path}, which holds none of them.")
    return "chat data set (folder)", records


def _read_json(path: Path) -> TranscriptFile | tuple[str, list[Record]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise _unknown(path, "bytes that are no UTF-8 text") from None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return "chat messages (JSONL)", list(_checked(_lines(text, path), path))
    if is_inspect_log(content):
        return TranscriptFile(path, "log of Inspect", list(read_log(content, path.name)))
    if isinstance(content, list) and not all(isinstance(entry, dict) and "role" in entry for entry in content):
        records = [(f"{path.name} entry {k}", entry) for k, entry in enumerate(content, 1)]
    else:
        records = [(path.name, content)]
    return "chat messages (JSON)", list(_checked(records, path))


def _lines(text: str, path: Path) -> Iterator[Record]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield f"{path.name} line {number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                yield f"{path.name} line {number}", error


def _parquet_rows(path: Path) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=256):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path.name} row {number}", row
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path} is a damaged Parquet file ({error}).") from None


def _arrow_rows(path: Path) -> Iterator[Record]:
    """Yield the rows of an Arrow file; `datasets` writes streams, other programs files."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            try:
                table = pa.ipc.open_stream(source).read_all()
            except pa.ArrowInvalid:
                table = pa.ipc.open_file(source).read_all()
            for number, row in enumerate(table.to_pylist(), 1):
                yield f"{path.name} row {number}", row
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path} is a damaged Arrow file ({error}).") from None


def _checked(records: Iterator[Record] | list[Record], path: Path) -> Iterator[Record]:
    """Yield the records of a file; raise `UsageError` where not one of them is a chat."""
    n_chats, first = 0, None
    for source, record in records:
        n_chats += is_record(record)
        first = record if first is None else first
        yield source, record
    if not n_chats:
        raise _unknown(path, _described(first))


def _described(record: Any) -> str:
    if isinstance(record, dict):
        return f"records with {', '.join(map(str, list(record)[:8]))}"
    if isinstance(record, Exception):
        return f"text that is not JSON ({record})"
    return "an empty file" if record is None else f"records of type {type(record).__name__}"


def _unknown(path: Path, got: str) -> UsageError:
    return UsageError(f"expected {_EXPECTED}, got {got} in {path}; put the messages into one of these forms.")
