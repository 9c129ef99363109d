"""Capture by every engine: the stores are equal byte for byte, and a killed worker costs only unfinished shards."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.activations import Store, layout, resume
from interp.errors import StoreError, UsageError
from interp.runtime.files import as_path
from interp.traces import TraceSet

NO_RAY = importlib.util.find_spec("ray") is None  # a quarter of a gigabyte, so no part of the `dev` extra


def folder_bytes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def small(traces: TraceSet) -> TraceSet:
    return traces[:12]


@pytest.fixture(scope="module")
def whole(coconut: interp.Reasoner, small: TraceSet, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return interp.capture(coconut, small, out=tmp_path_factory.mktemp("whole") / "s", shard_size=2, threads=1)


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param("process", marks=pytest.mark.slow),
        pytest.param("slurm", marks=pytest.mark.slow),
        pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.skipif(NO_RAY, reason="needs cotlens[ray], 250 MB")]),
    ],
)
def test_every_engine_writes_the_same_bytes(
    coconut: interp.Reasoner, small: TraceSet, whole: Store, tmp_path: Path, engine: str
) -> None:
    settings = f"slurm:cluster=local,folder={tmp_path / 'jobs'}" if engine == "slurm" else engine
    if engine == "slurm" and coconut.device.type == "cuda":
        settings += ",gpus_per_node=1"
    result = interp.capture(coconut, small, out=tmp_path / "s", shard_size=2, engine=settings, workers=1)
    assert folder_bytes(result.path) == folder_bytes(whole.path)


PROGRAM = """
import sys
if __name__ == "__main__":
    import interp
    from interp.traces import TraceSet
    traces, out = sys.argv[1:]
    interp.capture(interp.load("chain-coconut"), TraceSet.from_parquet(traces), out=out, shard_size=2,
                   engine="process", workers=1)
"""


def children(pid: int) -> list[int]:
    """The worker processes of a driver."""
    result = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[1])
                command = (folder / "cmdline").read_bytes()
            except (OSError, IndexError):
                continue
            if parent == pid and b"spawn_main" in command:
                result.append(int(folder.name))
    return result


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds workers through /proc")
@pytest.mark.parametrize("victim", ["worker", "driver"])
def test_a_killed_worker_or_driver_costs_only_unfinished_shards(
    small: TraceSet, coconut: interp.Reasoner, whole: Store, tmp_path: Path, start: Callable, victim: str
) -> None:
    many = TraceSet([*small] * 8)
    many.to_parquet(tmp_path / "t.parquet")
    program = tmp_path / "program.py"  # spawned workers import the file that their driver runs
    program.write_text(PROGRAM, encoding="utf-8")
    out = tmp_path / "s"
    driver = start(
        "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')",
        program,
        tmp_path / "t.parquet",
        out,
    )
    until = time.monotonic() + 120
    while not (out / layout.MANIFEST).exists():
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < until
        time.sleep(0.002)
    (worker,) = children(driver.pid)
    os.kill(worker if victim == "worker" else driver.pid, signal.SIGKILL)
    _, said = driver.communicate(timeout=60)
    if victim == "worker":
        assert "PartialError: a worker process died" in said
    else:
        until = time.monotonic() + 20
        while Path(f"/proc/{worker}").exists() and b"spawn_main" in Path(f"/proc/{worker}/cmdline").read_bytes():
            assert time.monotonic() < until, "the worker outlived its driver"
            time.sleep(0.05)
    half = Store(out)
    finished = half.committed | {int(path.stem) for path in (out / layout.RECEIPTS).glob("*.json")}
    assert 1 <= len(finished) < 48, "the kill came too late to mean anything"
    kept = {p: p.stat().st_mtime_ns for p in (out / "acts").rglob("*.safetensors") if int(p.stem) in finished}
    again = resume(out, threads=1)
    assert again.validate() == [] and again.complete and not (out / layout.RECEIPTS).exists()
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items()), "a finished shard was redone"
    first = again.index[again.index["trace"] < len(small)]
    for address in whole.addresses:
        np.testing.assert_array_equal(again.acts(address, first), whole.acts(address))


def test_a_flipped_byte_is_found_and_only_its_shard_redone(
    coconut: interp.Reasoner, small: TraceSet, whole: Store, tmp_path: Path, cotlens: Callable
) -> None:
    store = interp.capture(coconut, small, out=tmp_path / "s", shard_size=2, threads=1)
    path = layout.shard_path(store.path, "hook_out/L1", 3)
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    before = {p: p.stat().st_mtime_ns for p in (store.path / "acts").rglob("*.safetensors")}
    ended = cotlens("capture", "validate", store.path, "--json")
    assert ended.code == 5
    assert ended.json["wrong"] == ["shard 3: 00003.safetensors of blocks.1.hook_out differs from what was committed"]
    assert cotlens("capture", "resume", store.path).code == 0
    redone = {int(p.stem) for p, written in before.items() if p.stat().st_mtime_ns != written}
    assert redone == {3}
    assert folder_bytes(store.path) == folder_bytes(whole.path)


def test_a_store_in_memory_is_the_store_on_disk(coconut: interp.Reasoner, small: TraceSet, whole: Store) -> None:
    where = "memory://runs/captured"
    result = interp.capture(coconut, small, out=where, shard_size=2, threads=1)
    assert result.index.equals(whole.index) and result.validate() == [] and result.complete
    for address in whole.addresses:
        np.testing.assert_array_equal(result.acts(address), whole.acts(address))
        np.testing.assert_array_equal(result.trace_acts(5)[address], whole.trace_acts(5)[address])
    shard = layout.shard_path(as_path(where), "hook_out/L1", 1)
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert len(Store(where).validate()) == 1
    again = resume(where, threads=1)
    assert again.validate() == []
    assert [t.token_ids for t in again.traces] == [t.token_ids for t in small]


def test_workers_cannot_write_to_a_store_in_memory(coconut: interp.Reasoner, small: TraceSet) -> None:
    with pytest.raises(UsageError, match="is the memory of this process, which workers cannot reach"):
        interp.capture(coconut, small, out="memory://elsewhere", engine="process")
    with pytest.raises(UsageError, match="'nosuch://x' cannot be reached"):
        Store("nosuch://x")


@pytest.mark.slow
def test_a_reasoner_that_workers_cannot_load_is_refused(
    coconut: interp.Reasoner, small: TraceSet, tmp_path: Path
) -> None:
    fresh = interp.random_init(coconut)
    with pytest.raises(UsageError, match=r"has to be loaded by that name.*engine inline"):
        interp.capture(fresh, small, out=tmp_path / "s", transfer=True, engine="process", workers=1)
    assert interp.capture(fresh, small, out=tmp_path / "s", transfer=True).complete
    with pytest.raises(UsageError, match="engine inline"):
        (tmp_path / "s" / layout.MANIFEST).unlink()
        resume(tmp_path / "s")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_store_begun_on_a_gpu_says_how_to_resume_on_a_cpu(
    coconut: interp.Reasoner, small: TraceSet, tmp_path: Path
) -> None:
    store = interp.capture(coconut, small, out=tmp_path / "s", shard_size=2)
    (tmp_path / "s" / layout.MANIFEST).unlink()
    path = tmp_path / "s" / layout.META
    path.write_text(path.read_text(encoding="utf-8").replace('"device": "cpu"', '"device": "cuda"'), encoding="utf-8")
    with pytest.raises(UsageError, match=r"--device cpu.*slurm:gpus_per_node=1, --engine ray:num_gpus=1"):
        resume(tmp_path / "s")
    assert resume(tmp_path / "s", device="cpu").complete and store.path == tmp_path / "s"


def test_resume_refuses_other_weights(
    coconut: interp.Reasoner, small: TraceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = interp.capture(coconut, small, out=tmp_path / "s")
    (store.path / layout.MANIFEST).unlink()
    other = interp.random_init(coconut)
    monkeypatch.setattr("interp.loading.load.load", lambda *a, **k: other)
    with pytest.raises(StoreError, match="has other weights than the store was begun with"):
        resume(store.path)


@pytest.mark.parametrize(
    ("positions", "kept"),
    [
        (["thought 2"], {"question end", "thought 2"}),
        (["thought *", "answer"], {"question end", "answer", *(f"thought {k}" for k in range(1, 6))}),
        (["-1:"], {"question end", "answer"}),
    ],
)
def test_positions_narrow_what_is_kept(
    coconut: interp.Reasoner, small: TraceSet, whole: Store, tmp_path: Path, positions: list[str], kept: set[str]
) -> None:
    result = interp.capture(coconut, small, out=tmp_path / "s", positions=positions)
    assert set(result.index["place"]) == kept
    expected = whole.index[whole.index["place"].isin(kept)]
    assert result.index[["trace", "position"]].values.tolist() == expected[["trace", "position"]].values.tolist()
    np.testing.assert_allclose(result.acts("blocks.1.hook_out"), whole.acts("blocks.1.hook_out", expected), atol=1e-5)
    again = resume(tmp_path / "s")
    assert again.meta["positions"] == positions


def test_positions_that_select_nothing_are_refused(coconut: interp.Reasoner, small: TraceSet, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no position matches 'thougth \*'"):
        interp.capture(coconut, small, out=tmp_path / "s", positions=["thougth *"])


def test_a_shard_never_outgrows_what_a_worker_may_hold(
    coconut: interp.Reasoner, small: TraceSet, whole: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards end by bytes as well as by traces; a trace still never spans two."""
    from interp.activations import plan

    row = 4 * 128 * len(whole.addresses)
    longest = int(whole.index["trace"].value_counts().max())
    monkeypatch.setattr(plan, "SHARD_BYTES", row * (longest + 3))
    planned = plan.plan(coconut, small)
    assert planned.row_bytes == row and planned.shard_bytes <= row * (longest + 3)
    result = interp.capture(coconut, small, out=tmp_path / "s")
    assert result.index["shard"].nunique() > 3
    assert (result.index.groupby("trace")["shard"].nunique() == 1).all()
    for address in whole.addresses:
        np.testing.assert_allclose(result.acts(address), whole.acts(address), atol=1e-5)


def test_the_plain_model_and_the_wrapped_one_record_the_same(
    coconut: interp.Reasoner, small: TraceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from interp.reasoners import network

    sites: Any = ["resid", "attn_out", "mlp_out", "blocks.*.ln2.hook_out"]
    plain = interp.capture(coconut, small, out=tmp_path / "plain", sites=sites)
    monkeypatch.setattr(network, "fast_model_for", lambda bridge, names: None)
    wrapped = interp.capture(coconut, small, out=tmp_path / "wrapped", sites=sites)
    assert len(plain.addresses) == 14
    for address in plain.addresses:
        assert not np.array_equal(plain.acts(address), np.zeros_like(plain.acts(address)))
        np.testing.assert_allclose(plain.acts(address), wrapped.acts(address), atol=1e-4)


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(
    small: TraceSet, whole: Store, tmp_path: Path, cotlens: Callable
) -> None:
    small.to_parquet(tmp_path / "t.parquet")
    arguments = ["capture", "run", "chain-coconut", tmp_path / "t.parquet", "--out", tmp_path / "s", "--shard-size", 2]
    output = cotlens(*arguments, "--dry-run", "--json")
    assert output.code == 0 and not (tmp_path / "s").exists()
    result = output.json
    assert result["positions"] == len(whole.index) and result["shards"] == 6 and result["seconds"] > 0
    written = sum(path.stat().st_size for path in (whole.path / "acts").rglob("*.safetensors"))
    assert result["bytes"] == written
    options = ["--layers", "0-1", "--sites", "resid_post", "--positions", "thought *", "--dtype", "bfloat16"]
    assert cotlens(*arguments, *options).code == 0
    store = Store(tmp_path / "s")
    assert [a.name for a in store.addresses] == ["blocks.0.hook_out", "blocks.1.hook_out"]
    assert store.meta["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "sproing"], "expected a known engine, got 'sproing'"),
        (["--layers", "zero"], "expected numbers and ranges after --layers"),
        (["--positions", "nowhere"], "no position matches 'nowhere'"),
        (["--threads", "0"], "threads to be a whole number"),
    ],
)
def test_bad_options_of_a_run_are_refused(
    small: TraceSet, tmp_path: Path, cotlens: Callable, arguments: list[str], message: str
) -> None:
    small.to_parquet(tmp_path / "t.parquet")
    ended = cotlens("capture", "run", "chain-coconut", tmp_path / "t.parquet", "--out", tmp_path / "s", *arguments)
    assert ended.code == 2 and message in ended.error
    assert not (tmp_path / "s").exists()
