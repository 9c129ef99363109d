"""Memory-mapped shards: any rows of a store, for every dtype, width and length of shards."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from safetensors.torch import save

from interp.activations import Store, layout, mapping, write_store
from interp.activations.mapping import Region, read_header
from interp.errors import StoreError, UsageError
from interp.traces import TraceSet

HOOK = "blocks.0.hook_out"


def written(folder: Path, lengths: list[int], width: int, dtype: str = "float32", padded: bool = True) -> list[Path]:
    rng, paths = np.random.default_rng(0), []
    for number, length in enumerate(lengths):
        rows = torch.from_numpy(rng.standard_normal((length, width), np.float32))
        content = layout.encode(rows, dtype) if padded else save({layout.KEY: rows.to(getattr(torch, dtype))})
        paths.append(folder / f"{number}.safetensors")
        paths[-1].write_bytes(content)
    return paths


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=6),
    width=st.integers(1, 300),
    dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
    seed=st.integers(0, 100),
)
def test_a_region_holds_the_rows_of_its_shards(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], width: int, dtype: str, seed: int
) -> None:
    paths = written(tmp_path_factory.mktemp("region"), lengths, width, dtype)
    region = Region.of(paths, lengths)
    assert region is not None
    each = [mapping.MappedRows(path) for path in paths]
    whole = np.concatenate([rows.between(0, len_) for rows, len_ in zip(each, lengths, strict=True)])
    numbers = np.random.default_rng(seed).integers(0, len(whole), 50)
    np.testing.assert_array_equal(region.take(numbers), whole[numbers])


def test_a_shard_is_a_safetensors_file_that_others_read(tmp_path: Path) -> None:
    (path,) = written(tmp_path, [5], 3)
    rows = load_file(path)[layout.KEY]
    assert rows.shape == (5, 3) and read_header(path).offset == layout.PAGE
    np.testing.assert_array_equal(mapping.MappedRows(path).between(0, 5), rows)


def test_shards_with_headers_of_any_length_are_read_one_by_one(store: Store, traces: TraceSet, tmp_path: Path) -> None:
    """As stores were written before: nothing but speed is different."""
    acts = {HOOK: np.random.default_rng(0).standard_normal((sum(map(len, traces)), 256)).astype(np.float32)}
    made = write_store(
        tmp_path / "s", traces, acts, channels=list({c for t in traces for c in t.channel}), shard_size=3
    )
    folder = made.address(HOOK).folder
    counts = np.diff(made._starts).tolist()
    paths = [layout.shard_path(made.path, folder, k) for k in range(len(counts))]
    assert len(paths) > 2 and Region.of(paths, counts) is not None
    assert made._region(folder) is not None
    whole = made.acts(HOOK)
    for path in paths:
        path.write_bytes(save({layout.KEY: torch.from_numpy(load_file(path)[layout.KEY])}))
    longer = paths[1].read_bytes()
    size = int.from_bytes(longer[:8], "little") + 8
    paths[1].write_bytes(size.to_bytes(8, "little") + longer[8:size] + b" " * 8 + longer[size:])
    assert Region.of(paths, counts) is None
    numbers = np.random.default_rng(1).permutation(len(whole))
    opened = Store(made.path, verify=False)
    assert opened._region(folder) is None
    out = np.empty_like(whole)
    assert opened.acts(HOOK, numbers, out=out) is out
    np.testing.assert_array_equal(out, whole[numbers])


def test_a_damaged_shard_raises_when_its_rows_are_read(traces: TraceSet, tmp_path: Path) -> None:
    """A file that is too short would otherwise end the process when its last pages are touched."""
    acts = {HOOK: np.ones((sum(map(len, traces)), 64), np.float32)}
    made = write_store(
        tmp_path / "s", traces, acts, channels=list({c for t in traces for c in t.channel}), shard_size=3
    )
    path = layout.shard_path(made.path, made.address(HOOK).folder, 1)
    path.write_bytes(path.read_bytes()[: layout.PAGE + 100])
    opened, starts = Store(made.path), made._starts
    assert opened.acts(HOOK, np.array([2, 0])).shape == (2, 64)
    with pytest.raises(StoreError, match=r"00001.safetensors is damaged \(\d+ bytes, where \d+ were written\)"):
        opened.acts(HOOK, np.array([int(starts[1]), 0]))


def test_rows_are_read_into_a_given_array(store: Store) -> None:
    address = store.addresses[0]
    whole = store.acts(address)
    out = np.empty_like(whole[:4])
    for numbers in (np.array([3, 1, 1, 0]), np.array([5, 6, 7, 8])):
        assert store.acts(address, numbers, out=out) is out
        np.testing.assert_array_equal(out, whole[numbers])
    for wrong in (out[:3], out[:, :-1], np.empty((4, 2 * whole.shape[1]), np.float32)[:, ::2]):
        for numbers in (np.array([3, 1, 1, 0]), np.array([5, 6, 7, 8])):
            with pytest.raises(UsageError, match=r"expected `out` to be a contiguous float32 array of 4 x"):
                store.acts(address, numbers, out=wrong)
    with pytest.raises(IndexError, match=f"expected row numbers from 0 to {len(store.index) - 1}, got -1 to 2"):
        store.acts(address, np.array([-1, 2]))


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of mappings")
@pytest.mark.parametrize("memory", [1, 1 << 40])
def test_only_a_region_larger_than_the_memory_is_read_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    monkeypatch.setattr(mapping, "_memory", lambda: memory)
    paths = written(tmp_path, [40, 30, 20], 16)
    region = Region.of(paths, [40, 30, 20])
    assert region is not None and region.take(np.arange(90)).shape == (90, 16)
    mappings = Path("/proc/self/smaps").read_text(encoding="utf-8").split("VmFlags:")
    flags = [after for before, after in itertools.pairwise(mappings) if str(tmp_path) in before]
    assert len(flags) == 3 and all((" rr" in after.split("\n")[0]) == (memory == 1) for after in flags)
