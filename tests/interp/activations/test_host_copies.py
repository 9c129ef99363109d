"""Copies to the host: the asynchronous GPU path gives the same bytes as the CPU path, and also runs on a CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.activations.host_copies import MAX_PENDING, HostCopies
from interp.traces import TraceSet

CPU = torch.device("cpu")
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def copied(copies: HostCopies, batches: list[tuple[torch.Tensor, Any]], dtype: torch.dtype) -> torch.Tensor:
    """What arrives of some batches whose memory is written over as soon as they were taken, as a model may do."""
    counts = [len(source) if cells is None else len(cells) for source, cells in batches]
    (buffer,) = copies.empty(1, sum(counts), batches[0][0].shape[1], dtype)
    first = 0
    for (source, cells), count in zip(batches, counts, strict=True):
        copies.next_batch()
        again = source.clone()
        copies.take(again, cells, buffer[first : first + count])
        again.fill_(float("nan"))
        first += count
    copies.finish()
    return buffer


def made(device: torch.device) -> list[tuple[torch.Tensor, Any]]:
    generator = torch.Generator().manual_seed(0)
    found: list[tuple[torch.Tensor, Any]] = []
    for k in range(2 * MAX_PENDING + 3):
        source = torch.randn(300 + k, 64, generator=generator).to(device)
        cells = torch.randperm(300, generator=generator)[: 40 + k].to(device) if k % 2 else None
        found.append((source, cells))
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_staged_copies_give_the_same_bytes(dtype: torch.dtype) -> None:
    batches = made(CPU)
    straight = copied(HostCopies(CPU), batches, dtype)
    assert torch.equal(copied(HostCopies(CPU, staged=True), batches, dtype), straight)
    expected = torch.cat([source if cells is None else source[cells] for source, cells in batches]).to(dtype)
    assert torch.equal(straight, expected) and not straight.is_inference()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_store_is_the_same_with_staged_and_direct_copies(
    coconut: interp.Reasoner, traces: TraceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    straight = interp.capture(coconut, traces[:9], out=tmp_path / "a", dtype=dtype, batch_size=2)
    monkeypatch.setattr("interp.activations.replaying.HostCopies", lambda device: HostCopies(device, staged=True))
    staged = interp.capture(coconut, traces[:9], out=tmp_path / "b", dtype=dtype, batch_size=2)
    hashes = [[line["sha256"] for line in map(json.loads, _manifest(store))] for store in (straight, staged)]
    assert hashes[0] == hashes[1] and len(hashes[0]) == 1


def _manifest(store: interp.activations.Store) -> list[str]:
    return (store.path / "manifest.jsonl").read_text(encoding="utf-8").splitlines()


@pytest.mark.gpu
@on_a_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_pinned_copies_behind_the_computation_give_the_cpus_bytes(dtype: torch.dtype) -> None:
    device = torch.device("cuda")
    copies = HostCopies(device)
    assert all(buffer.is_pinned() for buffer in copies.empty(2, 2, 2, dtype))
    assert torch.equal(copied(copies, made(device), dtype), copied(HostCopies(CPU), made(CPU), dtype))


@pytest.mark.gpu
@on_a_gpu
def test_a_capture_on_a_gpu_is_the_capture_on_the_cpu_but_for_rounding(tmp_path: Path) -> None:
    """Thinking, replay and capture on the device; the store says where it was computed, and is read without it."""
    there = interp.load("chain-coconut", device="cuda")
    here = interp.load("chain-coconut", device="cpu")
    problems = interp.task("chain").generate(24, seed=3, split="test")
    traces = here.think(problems)
    assert [trace.answer for trace in there.think(problems)] == [trace.answer for trace in traces]
    ours = interp.capture(there, traces, out=tmp_path / "gpu", batch_size=4)
    theirs = interp.capture(here, traces, out=tmp_path / "cpu", batch_size=4)
    assert ours.meta["computed"] == {"device": "cuda", "dtype": "float32"}
    for address in theirs.addresses:
        np.testing.assert_allclose(ours.acts(address), theirs.acts(address), atol=2e-3, rtol=2e-3)


@pytest.mark.gpu
@on_a_gpu
def test_a_model_on_a_gpu_is_loaded_in_its_own_dtype(model_folder: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = model_folder("qwen3")
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    result = interp.load(tmp_path)
    assert result.device.type == "cuda" and result.embed.weight.dtype == torch.bfloat16
    assert interp.load(tmp_path, dtype="float32", device="cuda:0").embed.weight.dtype == torch.float32
