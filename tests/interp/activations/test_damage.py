"""Stores and trace files that were changed or are written twice: it is noticed, and can be repaired."""

from __future__ import annotations

import json
import shutil
import threading
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

import interp
from interp.activations import Store, layout, resume
from interp.errors import StoreError, UsageError
from interp.runtime import locks
from interp.runtime.locks import LOCK, locked
from interp.traces import TraceSet


@pytest.fixture(scope="module")
def whole(coconut: interp.Reasoner, traces: TraceSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished store of eight traces in two shards."""
    return interp.capture(
        coconut, traces[:8], out=tmp_path_factory.mktemp("whole") / "s", sites="final", shard_size=4
    ).path


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "s"))


def flip(path: Path, at: int) -> None:
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


def same(one: TraceSet, other: TraceSet) -> bool:
    return TraceSet(one).to_bytes() == TraceSet(other).to_bytes()


def test_any_changed_byte_of_a_trace_file_is_noticed_or_changes_nothing(traces: TraceSet, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    traces[:3].to_parquet(path)
    before = path.read_bytes()
    noticed = 0
    for at in range(0, len(before), 97):
        flip(path, at)
        try:
            assert same(TraceSet.from_parquet(path), traces[:3]), f"byte {at} changes the traces in silence"
        except StoreError as error:
            assert "is not a readable trace file" in str(error) or "is not a trace file" in str(error)
            noticed += 1
        path.write_bytes(before)
    assert noticed > len(before) // 97 // 2


@pytest.mark.parametrize("name", [layout.TRACES, layout.INDEX])
@pytest.mark.parametrize("damage", ["flipped", "cut off", "emptied", "missing"])
def test_a_damaged_table_is_noticed_wherever_it_is_read_and_the_capture_repairs_it(
    name: str, damage: str, copy: Path, coconut: interp.Reasoner, traces: TraceSet, whole: Path
) -> None:
    path = copy / name
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        flip(path, path.stat().st_size // 3)
    else:
        path.write_bytes(path.read_bytes()[: 100 if damage == "cut off" else 0])
    fault = "is missing" if damage == "missing" else "differs from what was committed"
    damaged = Store(copy)
    assert damaged.validate() == [f"{name} {fault}"]
    by_hand = (
        "Run the capture that made the store again" if name == layout.TRACES else "Repair it: `cotlens capture resume"
    )
    with pytest.raises(StoreError, match=f"{name} {fault}. {by_hand}"):
        _ = damaged.traces if name == layout.TRACES else damaged.index
    with pytest.raises(StoreError, match=fault):
        damaged.describe()
    interp.capture(coconut, traces[:8], out=copy, sites="final", shard_size=4)
    assert Store(copy).validate() == []
    assert {p.name: p.read_bytes() for p in copy.glob("*") if p.is_file()} == {
        p.name: p.read_bytes() for p in whole.glob("*") if p.is_file()
    }


def test_a_damaged_index_is_repaired_by_resume_but_damaged_traces_are_not_trusted(copy: Path) -> None:
    flip(copy / layout.INDEX, 900)
    assert resume(copy).validate() == []
    flip(copy / layout.TRACES, 900)
    with pytest.raises(StoreError, match=r"traces.parquet differs .* Run the capture that made the store again"):
        resume(copy)


def test_validate_names_a_missing_index_and_still_checks_the_shards(copy: Path, cotlens: Callable) -> None:
    (copy / layout.INDEX).unlink()
    flip(copy / "acts/ln_final.hook_out/L_/00001.safetensors", 5000)
    result = cotlens("capture", "validate", copy)
    assert result.code == 5 and "is damaged in 2 places" in result.error
    assert result.out.splitlines() == [
        "index.parquet is missing",
        "shard 1: 00001.safetensors of ln_final.hook_out differs from what was committed",
    ]


def test_validate_notices_a_changed_description(copy: Path) -> None:
    meta = json.loads((copy / layout.META).read_text(encoding="utf-8"))
    (copy / layout.META).write_text(json.dumps({**meta, "shard_size": 5}), encoding="utf-8")
    assert Store(copy).validate() == ["meta.json differs from what was written"]


def test_a_shard_with_a_damaged_header_is_refused(copy: Path) -> None:
    path = copy / "acts/ln_final.hook_out/L_/00000.safetensors"
    content = path.read_bytes()
    for changed in (
        b"\xff" * 8 + content[8:],
        b"\x00\x00\x00\x00\x00\x7f\x00\x00" + content[8:],
        content + b"\x00",
        content[:-1],
    ):
        path.write_bytes(changed)
        with pytest.raises(StoreError, match=r"00000.safetensors is damaged .* Capture again to redo it"):
            Store(copy).acts("ln_final.hook_out")
    path.write_bytes(content.replace(b", 128]", b", 120]", 1))
    with pytest.raises(StoreError, match="is damaged"):
        Store(copy).acts("ln_final.hook_out")


def test_doubled_and_damaged_lines_of_a_manifest(copy: Path) -> None:
    path = copy / layout.MANIFEST
    lines = path.read_bytes()
    path.write_bytes(lines + lines)  # two captures into one store wrote this
    assert Store(copy).complete and Store(copy).validate() == []
    assert resume(copy).complete
    path.write_bytes(lines.replace(b'"shard"', b'"sh\x01rd"', 1))
    with pytest.raises(StoreError, match=r"manifest.jsonl: line 1 is damaged. Delete it, and capture again"):
        _ = Store(copy).committed
    path.write_bytes(lines.replace(b'"shard"', b'"shord"', 1))
    with pytest.raises(StoreError, match="line 1 is damaged"):
        _ = Store(copy).committed


# --- two at once ------------------------------------------------------------------------------------------


def test_a_second_capture_into_a_store_waits_for_its_turn(
    coconut: interp.Reasoner, traces: TraceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, errors = tmp_path / "s", []
    commit = layout.commit

    def commit_slowly(path: Path, content: bytes) -> str:
        if path.suffix == ".safetensors" and not errors:
            with pytest.raises(StoreError) as refused:
                interp.capture(coconut, traces[:8], out=out, sites="final", shard_size=4)
            errors.append(str(refused.value))
        return commit(path, content)

    monkeypatch.setattr(layout, "commit", commit_slowly)
    interp.capture(coconut, traces[:8], out=out, sites="final", shard_size=4)
    (error,) = errors
    assert f"another process is capturing to {out} now. Wait until it has finished" in error
    store = interp.capture(coconut, traces[:8], out=out, sites="final", shard_size=4)
    assert store.validate() == [] and len((out / layout.MANIFEST).read_bytes().splitlines()) == 2
    assert not (out / LOCK).exists()


def test_a_finished_store_is_opened_where_nothing_can_be_locked(
    copy: Path, coconut: interp.Reasoner, traces: TraceSet
) -> None:
    with FileLock(copy / LOCK):
        assert interp.capture(coconut, traces[:8], out=copy, sites="final", shard_size=4).complete


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    with locked(tmp_path, "capturing to"):
        assert (tmp_path / LOCK).exists()
    assert not (tmp_path / LOCK).exists()


def test_a_flipped_byte_in_a_shard_is_noticed_when_its_rows_are_read(copy: Path) -> None:
    before = Store(copy)
    whole, address = before.acts("ln_final.hook_out"), "ln_final.hook_out"
    shard = before.index["shard"].to_numpy()
    path = copy / "acts/ln_final.hook_out/L_/00001.safetensors"
    flip(path, path.stat().st_size - 3)
    in_order, mixed = np.flatnonzero(shard == 0), np.random.default_rng(0).permutation(np.flatnonzero(shard == 0))
    for rows in (in_order, mixed):
        assert np.array_equal(Store(copy).acts(address, rows), whole[rows])
    for rows in (None, np.array([0, len(shard) - 1]), np.flatnonzero(shard == 1)):
        with pytest.raises(
            StoreError, match=r"00001.safetensors differs from what was committed. Repair it: `cotlens capture resume"
        ):
            Store(copy).acts(address, rows)
    assert not np.array_equal(Store(copy, verify=False).acts(address), whole)


def test_thinking_training_studies_and_sweeps_are_locked_too(
    coconut: interp.Reasoner, traces: TraceSet, tmp_path: Path, copy: Path, store: Store, cotlens: Callable
) -> None:
    parts = tmp_path / "t.parquet.parts"
    parts.mkdir()
    (tmp_path / "o").mkdir()
    for name in ("sae", "run", "demo", "sweep"):
        (tmp_path / name).mkdir()
    with ExitStack() as held:
        for folder in (parts, *(tmp_path / name for name in ("o", "sae", "run", "demo", "sweep"))):
            held.enter_context(FileLock(folder / LOCK))
        thinking = cotlens("think", "chain-coconut", "--task", "chain:n=3", "--out", tmp_path / "t.parquet")
        training = cotlens("organisms", "train", "chain-text", "--out", tmp_path / "o")
        sae = cotlens("sae", "train", copy, "--out", tmp_path / "sae")
        study = cotlens("study", "chain-coconut", "--n", "40", "--out", tmp_path / "run")
        demo = cotlens("demo", "--n", "300", "--out", tmp_path / "demo")
        sweep = cotlens("probe", "sweep", store.path, "--controls", "none", "--out", tmp_path / "sweep")
    refused = [(thinking, "thinking into"), (training, "training into"), (sae, "training an SAE in")]
    refused += [(study, "writing a run into"), (demo, "writing a run into"), (sweep, "sweeping into")]
    for result, work in refused:
        assert result.code == 5 and f"another process is {work}" in result.error and "--out" in result.error


def test_a_file_system_without_locks_gives_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(self: FileLock) -> None:
        raise OSError(locks.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", no_locks)
    with pytest.warns(UserWarning, match="cannot be locked .* let only one process write it"), locked(tmp_path, "x"):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with locked(interp.runtime.files.as_path("memory://somewhere"), "x"):
            pass


def test_a_lock_is_held_against_threads_of_the_same_process(tmp_path: Path) -> None:
    errors: list[Exception] = []

    def second() -> None:
        try:
            with locked(tmp_path, "capturing to"):
                pass
        except StoreError as error:
            errors.append(error)

    with locked(tmp_path, "capturing to"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(errors) == 1


# --- rows that are no vectors ------------------------------------------------------------------------------


def test_rows_of_heads_keep_their_width_and_count_for_the_space(coconut: interp.Reasoner, traces: TraceSet) -> None:
    from interp.activations.plan import plan

    planned = plan(coconut, traces[:2], sites=["blocks.0.attn.hook_z", "blocks.0.ln1.hook_scale"])
    assert planned.row_bytes == 4 * (128 + 1)
    with pytest.raises(UsageError, match=r"expected at least one layer, got none"):
        plan(coconut, traces[:2], layers=[])
