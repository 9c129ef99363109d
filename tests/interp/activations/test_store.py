"""The activation store: it holds what the model computed, and keeps committed shards after any crash."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import importlib
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.activations import Store, layout
from interp.errors import StoreError, UsageError
from interp.organisms.catalog import weights_folder
from interp.traces import TraceSet

# Where a shard is recorded and written.
SHARDS = importlib.import_module("interp.activations.shards")


def folder_bytes(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too, by its bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def shards(folder: Path) -> list[Path]:
    return sorted((folder / "acts").rglob("*.safetensors"))


@pytest.fixture
def small(traces: TraceSet) -> TraceSet:
    return traces[:12]


# --- parity -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain_model() -> Any:
    """The organism's weights in Hugging Face's own class, wrapped by nothing."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        weights_folder("chain-coconut"), dtype=torch.float32, attn_implementation="eager"
    ).eval()


def states_by_hand(model: Any, scale: float, trace: interp.Trace) -> tuple[dict[str, np.ndarray], torch.Tensor]:
    """One trace thought again without cache, batch or padding: every state and the embeddings that were fed.

    A thought's embedding is the final-norm state of the position before it (Coconut, section 3), times `scale`.
    """
    caught: dict[str, torch.Tensor] = {}
    hooks = [
        block.register_forward_hook(lambda m, i, out, k=k: caught.update({f"blocks.{k}.hook_out": _first(out)}))
        for k, block in enumerate(model.transformer.h)
    ]
    hooks.append(
        model.transformer.h[0].register_forward_pre_hook(lambda m, i: caught.update({"blocks.0.hook_in": i[0]}))
    )
    hooks.append(model.transformer.ln_f.register_forward_hook(lambda m, i, o: caught.update({"ln_final.hook_out": o})))
    try:
        with torch.no_grad():
            fed = torch.empty(0, model.config.n_embd)
            for token, channel in zip(trace.token_ids, trace.channel, strict=True):
                if channel == "latent":
                    model(inputs_embeds=fed[None])
                    following = caught["ln_final.hook_out"][0, -1] * scale
                else:
                    following = model.transformer.wte.weight[token]
                fed = torch.cat([fed, following[None]])
            model(inputs_embeds=fed[None])
    finally:
        for hook in hooks:
            hook.remove()
    return {name: state[0].numpy() for name, state in caught.items()}, fed


def _first(out: Any) -> torch.Tensor:
    return out[0] if isinstance(out, tuple) else out


def test_what_is_stored_is_what_the_plain_model_computes(
    store: Store, traces: TraceSet, coconut: interp.Reasoner, plain_model: Any
) -> None:
    longest = [t for t in traces if t.problem.n_steps == 5][:2]
    shortest = [t for t in traces if t.problem.n_steps == 2][:2]
    for trace in [*longest, *shortest]:
        expected, _ = states_by_hand(plain_model, coconut.config.latent_scale, trace)
        rows = store.index[store.index["trace"] == trace.id]
        assert set(expected) == {a.name for a in store.addresses}
        for name, states in expected.items():
            result = store.acts(name, rows)
            np.testing.assert_allclose(result, states[rows["position"].to_numpy()], atol=1e-4)
            assert np.ptp(result) > 0.01


def test_the_recorded_latents_are_the_plain_models_states(
    traces: TraceSet, coconut: interp.Reasoner, plain_model: Any
) -> None:
    for trace in traces[:3]:
        _, fed = states_by_hand(plain_model, coconut.config.latent_scale, trace)
        at = [k for k, c in enumerate(trace.channel) if c == "latent"]
        np.testing.assert_allclose(trace.latents, fed[at].numpy(), atol=1e-5)


def test_what_is_stored_is_what_transformer_lens_caches(tmp_path: Path) -> None:
    """For a reasoner of tokens only, TransformerLens's own `run_with_cache`, one trace at a time."""
    reasoner = interp.load("chain-text")
    traces = reasoner.think(reasoner.task.generate(8, seed=0, split="test"))
    names = ["resid", "attn_out", "mlp_out", "blocks.1.attn.hook_q", "blocks.*.ln1.hook_normalized"]
    store = interp.capture(reasoner, traces, sites=names, out=tmp_path / "s", channels=["prompt", "thought", "answer"])
    assert len(store.addresses) > 12
    for trace in traces:
        _, cache = reasoner.model.run_with_cache(torch.tensor([trace.token_ids], device=reasoner.device))
        rows = store.index[store.index["trace"] == trace.id]
        for address in store.addresses:
            cached = cache[address.name][0].flatten(1).cpu().numpy()
            np.testing.assert_allclose(
                store.acts(address, rows), cached[rows["position"].to_numpy()], atol=1e-4, err_msg=str(address)
            )


@pytest.mark.parametrize(("dtype", "precision"), [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_half_precision_keeps_what_it_can(
    coconut: interp.Reasoner, traces: TraceSet, store: Store, tmp_path: Path, dtype: str, precision: float
) -> None:
    half = interp.capture(coconut, traces, out=tmp_path / "half", dtype=dtype)
    for address in store.addresses:
        exact, found = store.acts(address), half.acts(address)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, exact, rtol=precision, atol=1e-6)
        assert not np.array_equal(found, exact)
    assert sum(f.stat().st_size for f in shards(half.path)) < 0.55 * sum(f.stat().st_size for f in shards(store.path))


def test_rows_come_in_the_order_asked_across_shards(store: Store) -> None:
    whole = store.acts("blocks.1.hook_out")
    assert store.index["shard"].nunique() > 1
    for rows in (
        store.index.sample(frac=1, random_state=0),
        store.index.iloc[::-7],
        store.index.iloc[[5, 5, 800, 5]],
        store.index.iloc[:0],
    ):
        np.testing.assert_array_equal(store.acts("blocks.1.hook_out", rows), whole[rows.index.to_numpy()])


def test_rows_inside_a_later_shard_open_that_shard_alone(
    coconut: interp.Reasoner, small: TraceSet, tmp_path: Path
) -> None:
    store = interp.capture(coconut, small, out=tmp_path / "s", shard_size=4)
    name = "blocks.1.hook_out"
    whole, first = store.acts(name), int((store.index["shard"] == 0).sum())
    layout.shard_path(store.path, store.address(name).folder, 0).unlink()
    opened = Store(store.path)
    for start, stop in ((first, first + 1), (first + 1, first + 3)):
        out = np.empty_like(whole[start:stop])
        assert opened.acts(name, opened.index.iloc[start:stop], out=out) is out
        np.testing.assert_array_equal(out, whole[start:stop])


def test_the_rows_of_a_trace_at_every_address(coconut: interp.Reasoner, small: TraceSet, tmp_path: Path) -> None:
    store = interp.capture(coconut, small, out=tmp_path / "s", shard_size=4)
    for trace in (0, 5, len(small) - 1):
        rows = store.index[store.index["trace"] == small[trace].id]
        acts = store.trace_acts(trace)
        assert list(acts) == store.addresses
        for address in store.addresses:
            np.testing.assert_array_equal(acts[address], store.acts(address, rows))


def test_the_description_of_a_store(coconut: interp.Reasoner, small: TraceSet, tmp_path: Path) -> None:
    store = interp.capture(coconut, small, out=tmp_path / "s", shard_size=4, sites="final")
    size = sum(path.stat().st_size for path in store.path.rglob("*") if path.is_file())
    assert store.describe() == {
        "path": str(tmp_path / "s"),
        "reasoner": "chain-coconut",
        "traces": 12,
        "positions": len(store.index),
        "addresses": [str(address) for address in store.addresses],
        "dtype": "float32",
        "shards": "3 of 3",
        "megabytes": round(size / 2**20, 1),
    }


def test_receipts_become_lines_of_the_manifest_in_the_order_of_shards(tmp_path: Path) -> None:
    layout.append_line(tmp_path / layout.MANIFEST, {"shard": 1, "sha256": {"kept": "line"}})
    for shard in (2, 0, 1):
        layout.write_receipt(tmp_path, {"shard": shard, "sha256": {}})
    (tmp_path / layout.RECEIPTS / "00003.json").write_text("damaged", encoding="utf-8")
    layout.collect_receipts(tmp_path)
    assert layout.read_manifest(tmp_path) == [
        {"shard": 0, "sha256": {}},
        {"shard": 1, "sha256": {"kept": "line"}},
        {"shard": 2, "sha256": {}},
    ]
    assert not (tmp_path / layout.RECEIPTS).exists()


def test_batch_and_shard_size_do_not_change_values(coconut: interp.Reasoner, small: TraceSet, tmp_path: Path) -> None:
    reference = interp.capture(coconut, small, out=tmp_path / "reference")
    for batch_size, shard_size in ((1, 256), (5, 256), (64, 1), (3, 5)):
        other = interp.capture(
            coconut, small, out=tmp_path / f"{batch_size}-{shard_size}", batch_size=batch_size, shard_size=shard_size
        )
        same = [c for c in other.index if c not in ("shard", "row")]
        assert other.index[same].equals(reference.index[same])
        for address in reference.addresses:
            np.testing.assert_allclose(other.acts(address), reference.acts(address), atol=1e-5)


def test_a_trace_never_spans_shards(store: Store) -> None:
    assert (store.index.groupby("trace")["shard"].nunique() == 1).all()
    for _, part in store.index.groupby("shard"):
        assert part["row"].tolist() == list(range(len(part)))


def test_only_the_asked_channels_are_kept_and_the_last_question_token(
    coconut: interp.Reasoner, small: TraceSet, tmp_path: Path
) -> None:
    result = interp.capture(coconut, small, channels=["latent"], sites="resid_post", layers=[1], out=tmp_path / "s")
    assert set(result.index["channel"]) == {"latent", "prompt"}
    assert set(result.index.loc[result.index["channel"] == "prompt", "place"]) == {"question end"}
    assert [a.name for a in result.addresses] == ["blocks.1.hook_out"]
    everything = interp.capture(coconut, small, channels=["prompt", "latent"], out=tmp_path / "all")
    assert len(everything.rows(place="question")) == sum(len(t.problem.question.split()) - 1 for t in small)


def test_the_store_gives_its_traces_back(store: Store, traces: TraceSet) -> None:
    assert [t.problem for t in store.traces] == [t.problem for t in traces]
    assert store.traces[7].token_ids == traces[7].token_ids


def test_a_capture_of_a_store_gives_the_same_store(coconut: interp.Reasoner, store: Store, tmp_path: Path) -> None:
    again = interp.capture(coconut, store.traces, out=tmp_path / "again", shard_size=50)
    assert folder_bytes(again.path) == folder_bytes(store.path)


# --- interruption -----------------------------------------------------------------------------------------

CAPTURE = """
import sys, time
import torch; torch.set_num_threads(1)
import interp
from interp.activations import layout
from interp.traces import TraceSet
traces, out, slowed = sys.argv[1:]
plain = getattr(layout, slowed) if slowed != "fsync" else None
if slowed == "commit":
    def slow(path, content):
        time.sleep(0.05)
        return plain(path, content)
    layout.commit = slow
elif slowed == "fsync":
    import os
    sync = os.fsync
    def slow(handle):
        time.sleep(0.03)
        sync(handle)
    os.fsync = slow
print("ready", flush=True)
interp.capture(interp.load("chain-coconut"), TraceSet.from_parquet(traces), out=out, shard_size=2)
print("done", flush=True)
"""


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.005)


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize("slowed", ["commit", pytest.param("fsync", marks=pytest.mark.slow)])
def test_a_killed_capture_resumes_to_the_same_bytes(
    coconut: interp.Reasoner, small: TraceSet, tmp_path: Path, start: Callable, slowed: str
) -> None:
    small.to_parquet(tmp_path / "t.parquet")
    process = start(CAPTURE, tmp_path / "t.parquet", tmp_path / "killed", slowed)
    manifest = tmp_path / "killed" / layout.MANIFEST
    if slowed == "commit":
        wait_for(lambda: lines(manifest) >= 1, process)
    else:
        # In the middle of writing a shard: a temporary file is there.
        wait_for(lambda: lines(manifest) >= 1 and any((tmp_path / "killed").rglob("*.tmp")), process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 1 <= lines(manifest) < 6, "the kill came too late to mean anything"
    broken = Store(tmp_path / "killed")
    assert not broken.complete
    kept = {p: p.stat().st_mtime_ns for p in shards(broken.path) if int(p.stem) in broken.committed}

    again = interp.capture(coconut, small, out=tmp_path / "killed", shard_size=2)
    whole = interp.capture(coconut, small, out=tmp_path / "whole", shard_size=2)
    assert again.complete and again.validate() == []
    assert folder_bytes(again.path) == folder_bytes(whole.path)
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items()), "a committed shard was redone"


@pytest.mark.parametrize("at", range(1, 12))
def test_a_capture_that_dies_at_any_write_resumes(
    coconut: interp.Reasoner, small: TraceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """The death is a BaseException, as Ctrl-C's is, in place of the `at`-th file or manifest line."""

    class Death(BaseException):
        pass

    left = at
    plain = {"commit": layout.commit, "append_line": layout.append_line}

    def dying(name: str) -> Callable:
        def call(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise Death
            return plain[name](*arguments)

        return call

    options = {"sites": "final", "shard_size": 3}
    with monkeypatch.context() as patched:
        for name in plain:
            patched.setattr(layout, name, dying(name))
        with pytest.raises(Death):
            interp.capture(coconut, small, out=tmp_path / "died", **options)
    again = interp.capture(coconut, small, out=tmp_path / "died", **options)
    whole = interp.capture(coconut, small, out=tmp_path / "whole", **options)
    assert folder_bytes(again.path) == folder_bytes(whole.path)


def test_a_half_written_last_manifest_line_is_mended(coconut: interp.Reasoner, small: TraceSet, tmp_path: Path) -> None:
    whole = interp.capture(coconut, small, out=tmp_path / "s", shard_size=4)
    expected = folder_bytes(whole.path)
    manifest = whole.path / layout.MANIFEST
    manifest.write_bytes(manifest.read_bytes()[:-15])
    broken = Store(whole.path)
    assert broken.committed == {0, 1} and not broken.complete
    assert broken.validate() == ["shard 2 is not finished"]
    again = interp.capture(coconut, small, out=whole.path, shard_size=4)
    assert folder_bytes(again.path) == expected


def test_a_damaged_line_inside_the_manifest_is_named(coconut: interp.Reasoner, small: TraceSet, tmp_path: Path) -> None:
    store = interp.capture(coconut, small, out=tmp_path / "s", shard_size=4)
    manifest = store.path / layout.MANIFEST
    content = manifest.read_bytes().split(b"\n")
    content[1] = content[1][:-3]
    manifest.write_bytes(b"\n".join(content))
    with pytest.raises(StoreError, match=r"manifest\.jsonl: line 2 is damaged. Delete it, and capture again"):
        _ = Store(store.path).committed


def test_a_finished_capture_run_again_writes_nothing(
    coconut: interp.Reasoner, small: TraceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interp.capture(coconut, small, out=tmp_path / "s")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    monkeypatch.setattr(type(coconut), "replay", lambda *a, **k: pytest.fail("nothing was left to replay"))
    interp.capture(coconut, small, out=tmp_path / "s")
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_an_unfinished_store_reads_what_is_there_and_raises_on_the_rest(
    coconut: interp.Reasoner, small: TraceSet, tmp_path: Path
) -> None:
    store = interp.capture(coconut, small, out=tmp_path / "s", shard_size=4)
    manifest = store.path / layout.MANIFEST
    manifest.write_bytes(b"".join(manifest.read_bytes().splitlines(keepends=True)[:2]))
    broken = Store(store.path)
    done = broken.index[broken.index["shard"] < 2]
    np.testing.assert_array_equal(broken.acts("ln_final.hook_out", done), store.acts("ln_final.hook_out", done))
    with pytest.raises(StoreError, match=r"shard 2 of .* is not finished. Repair it: `cotlens capture resume"):
        broken.acts("ln_final.hook_out")


# --- damage -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [0, 40, -1])
def test_a_flipped_byte_is_found_and_named(
    coconut: interp.Reasoner, small: TraceSet, tmp_path: Path, where: int
) -> None:
    store = interp.capture(coconut, small, out=tmp_path / "s", shard_size=4)
    assert store.validate() == []
    path = layout.shard_path(store.path, "hook_out/L1", 2)
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)
    assert Store(store.path).validate() == [
        "shard 2: 00002.safetensors of blocks.1.hook_out differs from what was committed"
    ]


def test_capturing_again_redoes_a_lost_shard(coconut: interp.Reasoner, small: TraceSet, tmp_path: Path) -> None:
    store = interp.capture(coconut, small, out=tmp_path / "s", shard_size=4)
    expected = folder_bytes(store.path)
    path = layout.shard_path(store.path, "hook_out/L1", 1)
    path.unlink()
    assert Store(store.path).validate() == ["shard 1: 00001.safetensors of blocks.1.hook_out is missing"]
    with pytest.raises(StoreError, match=r"00001\.safetensors is missing. Capture again to redo it"):
        Store(store.path).acts("blocks.1.hook_out")
    again = interp.capture(coconut, small, out=store.path, shard_size=4)
    assert again.validate() == [], "the advice was followed and did not help"
    assert {k: v for k, v in folder_bytes(store.path).items() if k.startswith("acts")} == {
        k: v for k, v in expected.items() if k.startswith("acts")
    }


@pytest.mark.parametrize("damage", ["cut", "garbage header", "no header", "empty"])
def test_a_damaged_shard_says_so_and_capturing_again_redoes_it(
    coconut: interp.Reasoner, small: TraceSet, tmp_path: Path, damage: str
) -> None:
    store = interp.capture(coconut, small, out=tmp_path / "s", shard_size=4)
    path = layout.shard_path(store.path, "hook_out/L1", 1)
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut": content[:-100],
            "garbage header": content[:8] + b"\xff" * 30 + content[38:],
            "no header": b"\xff" * len(content),
            "empty": b"",
        }[damage]
    )
    with pytest.raises(StoreError, match=r"00001\.safetensors is damaged .*Capture again to redo it"):
        Store(store.path).acts("blocks.1.hook_out")
    assert interp.capture(coconut, small, out=store.path, shard_size=4).validate() == []


def test_activations_that_are_not_finite_are_refused(
    coconut: interp.Reasoner, small: TraceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = SHARDS.gather

    def spoiled(*arguments: Any, **options: Any) -> dict:
        result = plain(*arguments, **options)
        for address, rows in result.items():
            if address.name == "blocks.1.hook_out":
                rows[9, 3] = np.nan
        return result

    monkeypatch.setattr(SHARDS, "gather", spoiled)
    with pytest.raises(StoreError, match=r"blocks\.1\.hook_out is not finite in trace \d+ at position \d+") as caught:
        interp.capture(coconut, small, out=tmp_path / "s", shard_size=4)
    index = Store(tmp_path / "s").index.iloc[9]
    assert f"trace {index['trace']} at position {index['position']}" in str(caught.value)
    assert not shards(tmp_path / "s") and Store(tmp_path / "s").committed == set()


def test_what_float16_cannot_hold_is_refused(
    coconut: interp.Reasoner, small: TraceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large models have activations above 65504; as float16 they would quietly become infinite."""
    plain = SHARDS.gather

    def large(*arguments: Any, dtype: torch.dtype = torch.float32, **options: Any) -> dict:
        return {address: (rows * 1e6).to(dtype) for address, rows in plain(*arguments, **options).items()}

    monkeypatch.setattr(SHARDS, "gather", large)
    assert np.isfinite(
        interp.capture(coconut, small, out=tmp_path / "ok", dtype="bfloat16").acts("ln_final.hook_out")
    ).all()
    with pytest.raises(StoreError, match=r"trace \d+ at position \d+.*float32"):
        interp.capture(coconut, small, out=tmp_path / "s", dtype="float16")


# --- refusals ---------------------------------------------------------------------------------------------


def test_another_configuration_is_refused_and_nothing_is_touched(
    coconut: interp.Reasoner, small: TraceSet, traces: TraceSet, tmp_path: Path
) -> None:
    out = tmp_path / "s"
    interp.capture(coconut, small, out=out, shard_size=4)
    before = folder_bytes(out)
    for options, differs in (
        ({"dtype": "float16"}, "dtype"),
        ({"shard_size": 5}, "shard_size"),
        ({"sites": "final"}, "addresses"),
        ({"channels": ["latent"]}, "channels"),
    ):
        with pytest.raises(StoreError, match=rf"{differs}.*made by chain-coconut.*Choose another folder"):
            interp.capture(coconut, small, out=out, **{"shard_size": 4, **options})
        assert folder_bytes(out) == before
    with pytest.raises(StoreError, match="traces"):
        interp.capture(coconut, traces[12:24], out=out, shard_size=4)
    assert folder_bytes(out) == before


def test_another_models_store_is_refused_and_nothing_is_touched(
    coconut: interp.Reasoner, small: TraceSet, tmp_path: Path
) -> None:
    out = tmp_path / "s"
    interp.capture(coconut, small, out=out)
    before = folder_bytes(out)
    with pytest.raises(StoreError, match=r"another reasoner.*made by chain-coconut.*Choose another folder"):
        interp.capture(interp.random_init(coconut), small, out=out, transfer=True)
    assert folder_bytes(out) == before


def test_a_foreign_folder_is_refused_and_nothing_is_touched(
    coconut: interp.Reasoner, small: TraceSet, tmp_path: Path
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work", encoding="utf-8")
    before = folder_bytes(tmp_path)
    with pytest.raises(StoreError, match=r"thesis is not empty and holds no activation store. Choose another folder"):
        interp.capture(coconut, small, out=tmp_path / "thesis")
    assert folder_bytes(tmp_path) == before


def test_a_file_in_the_way_is_refused_and_kept(coconut: interp.Reasoner, small: TraceSet, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine", encoding="utf-8")
    for out in (tmp_path / "notes", tmp_path / "notes" / "below"):
        with pytest.raises(StoreError, match=r"There is a file where a folder is needed. Choose another --out"):
            interp.capture(coconut, small, out=out)
    assert (tmp_path / "notes").read_text(encoding="utf-8") == "mine"


def test_a_folder_that_refuses_to_be_written_says_so(
    coconut: interp.Reasoner, small: TraceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "somewhere")

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(StoreError, match=r"No permission to write there. Choose another --out"):
        interp.capture(coconut, small, out=tmp_path / "s")


@pytest.mark.parametrize("after", [*range(7), 9, 13, 18, 25])
def test_a_full_disk_says_so_loses_nothing_and_the_next_run_completes(
    coconut: interp.Reasoner,
    small: TraceSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
    full_after: Callable,
) -> None:
    options = {"sites": ["final", "blocks.0.hook_in"], "shard_size": 3}
    with monkeypatch.context() as patched:
        full_after(after, patched)
        with pytest.raises(StoreError, match=r"The disk is full. Free some room and run the same command again"):
            interp.capture(coconut, small, out=tmp_path / "s", **options)
    assert not list((tmp_path / "s").rglob("*.tmp"))
    if (tmp_path / "s" / layout.META).exists():
        kept = Store(tmp_path / "s")
        assert all("not finished" in line for line in kept.validate()), "something committed was lost"
    again = interp.capture(coconut, small, out=tmp_path / "s", **options)
    assert again.complete and again.validate() == []
    whole = interp.capture(coconut, small, out=tmp_path / "whole", **options)
    assert folder_bytes(again.path) == folder_bytes(whole.path)


def test_a_capture_larger_than_the_disk_is_refused_before_it_starts(
    coconut: interp.Reasoner, small: TraceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(StoreError, match=r"needs about \d+ MB and .* has 0 MB free.*Keep fewer sites"):
        interp.capture(coconut, small, out=tmp_path / "s")
    monkeypatch.undo()
    assert interp.capture(coconut, small, out=tmp_path / "s").complete


def test_another_schema_version_is_refused(coconut: interp.Reasoner, small: TraceSet, tmp_path: Path) -> None:
    store = interp.capture(coconut, small, out=tmp_path / "s")
    meta = store.path / layout.META
    meta.write_text(
        json.dumps({**json.loads(meta.read_text(encoding="utf-8")), "schema_version": 99}), encoding="utf-8"
    )
    with pytest.raises(StoreError, match=r"has schema version 99, and this version reads 1. Capture again"):
        Store(store.path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema_version": 1}', "null"])
def test_a_damaged_description_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / layout.META).write_text(content, encoding="utf-8")
    with pytest.raises(StoreError, match=r"meta\.json does not describe an activation store"):
        Store(tmp_path)


def test_a_missing_store_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"no activation store at .*\(it is not there\)\. Make one: `cotlens capture run`"
    ):
        Store(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="empty or foreign folder"):
        Store(tmp_path)


def test_names_that_are_not_in_the_store_are_refused_with_a_suggestion(store: Store) -> None:
    with pytest.raises(
        UsageError, match=r"expected a known address in this store, got 'blocks\.7\.hook_out'; did you mean"
    ):
        store.acts("blocks.7.hook_out")
    with pytest.raises(
        UsageError, match=r"expected a known place in this store, got 'thougth 2'; did you mean 'thought 2'"
    ):
        store.rows(place="thougth 2")
    with pytest.raises(UsageError, match=r"expected a known channel, got 'latents'; did you mean 'latent'"):
        store.rows(channel="latents")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "expected a dtype of float32, float16 or bfloat16, got 'int8'"),
        ({"channels": ["latnet"]}, "expected a known channel, got 'latnet'; did you mean 'latent'"),
        ({"sites": "resid_pots"}, "expected a known address, got 'resid_pots'; did you mean 'resid_post'"),
        ({"shard_size": 0}, "shard_size to be a whole number of at least 1, got 0"),
        ({"batch_size": 0}, "batch_size to be a whole number of at least 1, got 0"),
        ({"layers": [9]}, "expected layers between 0 and 2, got"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(
    coconut: interp.Reasoner, small: TraceSet, tmp_path: Path, options: dict, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        interp.capture(coconut, small, out=tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()


def test_no_traces_are_refused(coconut: interp.Reasoner, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no traces to capture"):
        interp.capture(coconut, TraceSet([]), out=tmp_path / "s")


def test_places_are_in_the_order_in_which_they_are_thought(store: Store) -> None:
    thoughts = [f"thought {k}" for k in range(1, 6)]
    assert store.places == ["question end", "begin", *thoughts, "end", "answer"]


def test_a_store_of_ten_thoughts_sorts_them_as_numbers(
    tmp_path: Path, made_problem: Callable, written_trace: Callable, write_store: Callable
) -> None:
    trace = written_trace(made_problem("q", "01234567890"))
    made = write_store(tmp_path / "s", [trace], {"blocks.0.hook_out": lambda index: np.zeros((len(index), 2))})
    assert made.places[2:13] == [f"thought {k}" for k in range(1, 12)]
    assert dataclasses.is_dataclass(trace)


def test_a_store_without_sentences_says_so_and_older_ones_can_be_read(
    coconut: interp.Reasoner, small: TraceSet, tmp_path: Path
) -> None:
    store = interp.capture(coconut, small, out=tmp_path / "s")
    with pytest.raises(UsageError, match="no trace here is divided into sentences"):
        store.rows(sentence=1)
    store.index.drop(columns="sentence").to_parquet(store.path / layout.INDEX)
    files = {layout.INDEX: layout.file_hash(store.path / layout.INDEX)}
    (store.path / layout.META).write_text(json.dumps({**store.meta, "files": files}), encoding="utf-8")
    older = Store(store.path)
    assert (older.index["sentence"] == 0).all() and older.acts("ln_final.hook_out").shape[0] == len(store.index)
