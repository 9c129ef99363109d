"""The loading options of every command; a store records them for workers and for `resume`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import interp
from interp.activations import Store, layout
from interp.errors import StoreError
from interp.models.markers import COCONUT_TOKENS
from interp.models.wrapping import quiet

THINKING = json.dumps({"thoughts": 2, "max_answer_tokens": 1})


@pytest.fixture(scope="module")
def checkpoint(model_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bare state dict stored as pickle, as Coconut's code writes it, and the folder of its base model."""
    base = model_folder("gpt2", special=COCONUT_TOKENS)
    with quiet():
        state = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).state_dict()
    file = tmp_path_factory.mktemp("run") / "checkpoint_3"
    torch.save({f"base_causallm.{name}": value.clone() for name, value in state.items()}, file)
    return file, base


def test_a_store_remembers_how_its_model_was_loaded(
    checkpoint: tuple[Path, Path], cotlens: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths, pickle, another dtype, a worker, and `resume` from another folder."""
    file, base = checkpoint
    monkeypatch.chdir(file.parent)
    how = ["--base", os.path.relpath(base), "--reasoner", THINKING, "--device", "cpu"]
    model, traces, out = file.name, tmp_path / "t.parquet", tmp_path / "s"
    questions = tmp_path / "q.jsonl"
    questions.write_text(
        '{"question": "What is two?", "answer": "2"}\n{"question": "And three plus 1?", "answer": "4"}\n',
        encoding="utf-8",
    )
    refused = cotlens("think", model, "--questions", questions, "--out", traces, *how)
    assert refused.code == 2 and "--allow-pickle" in refused.error
    how += ["--allow-pickle", "--model-dtype", "bfloat16"]
    assert cotlens("think", model, "--questions", questions, "--out", traces, *how).code == 0
    run = ["capture", "run", model, traces, "--out", out, "--shard-size", "1", *how]
    result = cotlens(*run, "--engine", "process", "--workers", "1")
    assert result.code == 0, result.err
    meta = Store(out).meta
    assert meta["computed"] == {"device": "cpu", "dtype": "bfloat16"}
    assert meta["origin"] == {"source": str(file), "base": str(base), "allow_pickle": True}
    assert meta["reasoner"]["config"]["thoughts"] == 2
    shard = out / "acts" / "hook_out" / "L1" / "00001.safetensors"
    committed = shard.read_bytes()
    flipped = bytearray(committed)
    flipped[-3] ^= 1
    shard.write_bytes(bytes(flipped))
    monkeypatch.chdir(tmp_path)
    assert cotlens("capture", "validate", out).code == 5
    assert cotlens("capture", "resume", out).code == 0
    assert shard.read_bytes() == committed
    (out / layout.MANIFEST).unlink()
    monkeypatch.chdir(file.parent)
    other = cotlens(*(part if part != "bfloat16" else "float32" for part in run))
    # Other weights, for they are rounded, than those that made the traces and began the store.
    assert other.code == 5 and "in the dtype in which it did" in other.error
    other = cotlens(*(part if part != "bfloat16" else "float32" for part in run), "--transfer")
    assert other.code == 5 and "another reasoner" in other.error


def test_the_same_weights_in_another_dtype_do_not_finish_a_store(
    coconut: interp.Reasoner, traces: interp.TraceSet, tmp_path: Path
) -> None:
    store = interp.capture(coconut, traces[:2], out=tmp_path / "s")
    meta = store.meta | {"computed": {"device": "cpu", "dtype": "bfloat16"}}
    (store.path / layout.META).write_text(json.dumps(meta), encoding="utf-8")
    with pytest.raises(StoreError, match=r"expected a model in bfloat16.*got float32.*--model-dtype"):
        interp.capture(coconut, traces[:2], out=tmp_path / "s")


@pytest.mark.parametrize(
    "command",
    [
        *(("think",), ("doctor",), ("capture", "run"), ("decode", "run"), ("decode", "eval"), ("sae", "eval")),
        *(("sae", "features"), ("causal", "interchange"), ("causal", "ablate"), ("causal", "steer")),
        *(("causal", "attribute"), ("causal", "swap"), ("causal", "faithfulness"), ("subtext", "measure")),
        *(("subtext", "locate"), ("subtext", "discover"), ("subtext", "paraphrase"), ("subtext", "commitment")),
    ],
    ids=" ".join,
)
def test_every_command_that_loads_a_model_has_the_loading_options(command: tuple[str, ...], cotlens: Callable) -> None:
    result = cotlens(*command, "--help")
    options = ("--reasoner", "--device", "--model-dtype", "--base", "--lora-alpha", "--allow-pickle")
    assert result.code == 0 and all(f" {option} " in result.out for option in options)


def test_an_unknown_device_is_refused_by_every_command(cotlens: Callable, store: Store, tmp_path: Path) -> None:
    for command in (("causal", "ablate", "chain-coconut"), ("decode", "run", store.path, "--out", tmp_path / "r")):
        result = cotlens(*command, "--device", "warp:9")
        assert result.code == 2 and "device 'warp:9' cannot be used here" in result.error
