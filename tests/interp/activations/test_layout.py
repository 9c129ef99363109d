"""The files of a store: manifest, receipts, hashes and tables, on a disk and behind a URL."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.activations import Store, layout, write_store
from interp.activations.store import parquet_bytes
from interp.problems.base import Problem
from interp.runtime.files import AnyPath, as_path
from interp.traces import Trace

HERE = "blocks.0.hook_out"
RECORDS: list[layout.ShardRecord] = [
    {"shard": 2, "rows": 5, "sha256": {"a": "1", "b": "2"}},
    {"shard": 0, "rows": 4, "sha256": {"a": "3", "b": "4"}},
]


def turned(record: layout.ShardRecord) -> layout.ShardRecord:
    """The same record with its keys in another order."""
    return {"sha256": dict(reversed(record["sha256"].items())), "rows": record["rows"], "shard": record["shard"]}


@pytest.fixture(params=["disk", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> AnyPath:
    return tmp_path if request.param == "disk" else as_path(f"memory://layout/{tmp_path.name}")


def test_lines_are_appended_and_read_in_their_order(root: AnyPath) -> None:
    assert layout.read_manifest(root) == []
    for count, record in enumerate(RECORDS, start=1):
        layout.append_line(root / layout.MANIFEST, record)
        assert layout.read_manifest(root) == RECORDS[:count]


def test_the_order_of_keys_changes_no_byte(root: AnyPath) -> None:
    layout.write_manifest(root, RECORDS)
    written = (root / layout.MANIFEST).read_bytes()
    layout.write_manifest(root, [turned(record) for record in RECORDS])
    assert (root / layout.MANIFEST).read_bytes() == written
    for record in RECORDS:
        layout.append_line(root / "appended", turned(record))
        layout.write_receipt(root, record)
        (receipt,) = (root / layout.RECEIPTS).glob("*.json")
        content = receipt.read_bytes()
        layout.write_receipt(root, turned(record))
        assert receipt.read_bytes() == content
        receipt.unlink()
    assert (root / "appended").read_bytes() == written
    description = {"dtype": "float32", "reasoner": {"name": "a", "kind": "b"}}
    assert layout.description_hash(description) == layout.description_hash(dict(reversed(description.items())))
    assert layout.description_hash(description) != layout.description_hash({**description, "dtype": "float16"})


def test_receipts_without_a_manifest_become_one(root: AnyPath) -> None:
    for record in RECORDS:
        layout.write_receipt(root, record)
    layout.collect_receipts(root)
    assert layout.read_manifest(root) == RECORDS[::-1]
    assert not (root / layout.RECEIPTS).exists()


def test_a_table_is_written_without_the_labels_of_its_rows() -> None:
    frame = pd.DataFrame({"row": [3, 1, 2]}, index=[7, 5, 6])
    read = pd.read_parquet(io.BytesIO(parquet_bytes(frame)))
    pd.testing.assert_frame_equal(read, frame.reset_index(drop=True))


def test_a_trace_without_kept_rows_gives_none(
    made_problem: Callable[..., Problem], written_trace: Callable[..., Trace], tmp_path: Path
) -> None:
    """A trace without a prompt, as imported ones can be, has no `question end`, which is kept otherwise."""
    trace = written_trace(made_problem("a b c", "12"))
    bare = written_trace(made_problem("a b c", "12"), prompt=[])
    store = write_store(
        tmp_path / "s", [trace, bare, trace], {HERE: lambda index: np.ones((len(index), 3))}, channels=["prompt"]
    )
    (rows,) = store.trace_acts(1).values()
    assert rows.shape == (0, 3) and rows.dtype == np.float32
    assert [len(rows) for k in (0, 2) for rows in store.trace_acts(k).values()] == [3, 3]


def test_the_reasoner_of_a_store_is_loaded(coconut: interp.Reasoner, problems: list[Problem], tmp_path: Path) -> None:
    store = interp.capture(coconut, coconut.think(problems[:2]), out=tmp_path / "s", sites="final")
    reasoner = Store(store.path).load_reasoner()
    assert reasoner.name == coconut.name and reasoner is not coconut
    assert torch.equal(reasoner.embed.weight, coconut.embed.weight)


@pytest.mark.parametrize("scheme", ["file", "local"])
def test_a_url_of_this_disk_is_a_plain_path(scheme: str, tmp_path: Path) -> None:
    """A `UPath` of it cannot replace a file, so a store there could not be committed."""
    where = as_path(f"{scheme}://{tmp_path}/a%20store")
    assert type(where) is type(tmp_path) and where == tmp_path / "a store"
