"""Quantised checkpoints: read with every piece checked, or refused in one line that says what is missing."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

import interp
from benchmarks.models.small_models import ARCHITECTURES, SPECIAL, byte_tokenizer
from interp.errors import StoreError, UsageError
from interp.models.quantised import piece_of
from interp.models.report import LoadReport
from interp.models.weights import read_weights
from interp.models.wrapping import quiet

WEIGHTS = "model.safetensors"
BLOCK = 8
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK]}
UP = "model.layers.1.mlp.up_proj.weight"


def blocks_in_8_bits(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The projections of a model in float8, with one scale for each block, as DeepSeek-V3's files have them."""
    packed = {}
    for name, value in state.items():
        if "_proj" not in name:
            packed[name] = value
            continue
        rows, columns = value.shape
        blocks = value.reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
        scale = blocks.abs().amax((1, 3)) / 448
        packed[name] = (blocks / scale[:, None, :, None]).reshape(rows, columns).to(torch.float8_e4m3fn)
        packed[f"{name}_scale_inv"] = scale
    return packed


def rewritten(folder: Path, out: Path, quantisation: dict, change: Callable[[dict], dict] = dict) -> Path:
    copy = Path(shutil.copytree(folder, out))
    save_file(change(load_file(copy / WEIGHTS)), copy / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((copy / "config.json").read_text(encoding="utf-8")) | {"quantization_config": quantisation}
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def llama(model_folder: Callable[..., Path]) -> Path:
    return model_folder("llama")


@pytest.fixture(scope="module")
def eight_bits(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rewritten(llama, tmp_path_factory.mktemp("fp8") / "model", FP8, blocks_in_8_bits)


def finding(reasoner: Any, what: str) -> Any:
    return next(item for item in reasoner.loaded.findings if item.what == what)


def test_8_bit_weights_are_dequantised_and_compared_with_the_files(llama: Path, eight_bits: Path) -> None:
    pytest.importorskip("accelerate")
    reasoner = interp.load(eight_bits)
    state = load_file(eight_bits / WEIGHTS)
    n = sum(name.endswith("_scale_inv") for name in state)
    assert finding(reasoner, "quantisation").value == f"fp8, {n} weights dequantised to float32"
    assert finding(reasoner, "weights").how == "checked"
    held = {
        name.replace("_original_component.", ""): v for name, v in reasoner.model.original_model.state_dict().items()
    }
    scale = torch.kron(state[f"{UP}_scale_inv"], torch.ones(BLOCK, BLOCK))
    assert torch.equal(held[UP], state[UP].float() * scale)
    plain = load_file(llama / WEIGHTS)[UP]
    assert 0 < float((held[UP] - plain).abs().max()) < 0.07 * float(plain.abs().max())


def test_a_missing_scale_weight_or_place_is_named(eight_bits: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    without_scale = rewritten(
        eight_bits, tmp_path / "a", FP8, lambda s: {k: v for k, v in s.items() if k != f"{UP}_scale_inv"}
    )
    with pytest.raises(StoreError, match=r"the scale of model\.layers\.1\.mlp\.up_proj\.weight"):
        interp.load(without_scale)
    without_weight = rewritten(eight_bits, tmp_path / "b", FP8, lambda s: {k: v for k, v in s.items() if k != UP})
    with pytest.raises(StoreError, match=r"the numbers of model\.layers\.1\.mlp\.up_proj\.weight"):
        interp.load(without_weight)
    more = rewritten(eight_bits, tmp_path / "c", FP8, lambda s: s | {"other.weight_scale_inv": torch.ones(2, 2)})
    with pytest.raises(StoreError, match=r"the numbers of other\.weight"):
        interp.load(more)


@pytest.mark.parametrize(
    ("quantisation", "packages"),
    [
        ({"quant_method": "gptq", "bits": 4}, ["optimum", "gptqmodel"]),
        ({"quant_method": "awq", "bits": 4}, ["accelerate", "gptqmodel"]),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, ["accelerate", "bitsandbytes"]),
        ({"load_in_8bit": True}, ["accelerate", "bitsandbytes"]),
        ({"quant_method": "compressed-tensors"}, ["compressed_tensors"]),
        ({"quant_method": "fp8"}, ["accelerate"]),
    ],
    ids=["gptq", "awq", "bitsandbytes", "8 bits", "compressed-tensors", "fp8"],
)
def test_a_missing_package_is_named(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantisation: dict, packages: list[str]
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in packages else find_spec(name))
    folder = rewritten(llama, tmp_path / "model", quantisation)
    listed = " ".join(packages).replace("_", "-")
    with pytest.raises(UsageError, match=rf"quantised \(.*needs .*pip install {listed}\. Or load the model") as error:
        interp.load(folder)
    assert "\n" not in str(error.value)


def test_a_format_that_transformers_does_not_know_is_refused(eight_bits: Path, llama: Path, tmp_path: Path) -> None:
    folder = rewritten(eight_bits, tmp_path / "unknown", {"quant_method": "nonsense"})
    with pytest.raises(UsageError, match="transformers knows no format 'nonsense'"):
        interp.load(folder)
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="the format needs a GPU"):
            interp.load(rewritten(llama, tmp_path / "gpu", {"quant_method": "fbgemm_fp8"}))


def test_weights_of_another_format_than_the_configuration_says(eight_bits: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    with pytest.raises(StoreError, match=r"7 without a place in it|14 without a place in it"):
        interp.load(rewritten(eight_bits, tmp_path / "mxfp4", {"quant_method": "mxfp4"}))


def experts_in_4_bits(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The experts of a gpt-oss with random numbers of the format: 32 values of 4 bits share a power of two."""
    packed, draw = {}, torch.Generator().manual_seed(0)
    for name, value in state.items():
        if not name.endswith(("gate_up_proj", "down_proj")):
            packed[name] = value
            continue
        experts, inner, outer = value.shape
        shape = (experts, outer, inner // 32)
        packed[f"{name}_blocks"] = torch.randint(256, (*shape, 16), generator=draw).to(torch.uint8)
        packed[f"{name}_scales"] = torch.randint(122, 126, shape, generator=draw).to(torch.uint8)
    return packed


def test_4_bit_experts_are_the_format_s_values_times_their_scales(tmp_path: Path) -> None:
    """MXFP4 as the OCP Microscaling specification 1.0 has it: E2M1 values, the low half of a byte first."""
    pytest.importorskip("accelerate")
    shape = {**ARCHITECTURES["gpt_oss"], "intermediate_size": 64, "vocab_size": 300}
    plain = tmp_path / "plain"
    tokenizer = byte_tokenizer(pad=True, bos=True, chat=None, special=SPECIAL)
    with quiet():
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model("gpt_oss", **shape | {"vocab_size": len(tokenizer)})
        )
        model.save_pretrained(plain)
        tokenizer.save_pretrained(plain)
    kept = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    settings = {"quant_method": "mxfp4", "modules_to_not_convert": kept}
    folder = rewritten(plain, tmp_path / "packed", settings, experts_in_4_bits)
    report = LoadReport()
    read = read_weights(folder, report, dtype=torch.float32)
    assert [item.value for item in report.findings] == [
        "mxfp4, 4 weights dequantised to float32",
        "not compared with the files",
    ]
    values = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    values = torch.cat([values, -values])
    state, name = load_file(folder / WEIGHTS), "model.layers.1.mlp.experts.down_proj"
    bytes_ = state[f"{name}_blocks"].long()
    pairs = torch.stack([values[bytes_ & 15], values[bytes_ >> 4]], dim=-1).flatten(-2)
    expected = (pairs * 2.0 ** (state[f"{name}_scales"].float() - 127)[..., None]).flatten(-2).transpose(1, 2)
    assert torch.equal(read.get_parameter(name), expected)
    without = lambda state: {k: v for k, v in state.items() if k != f"{name}_scales"}  # noqa: E731
    with pytest.raises(StoreError, match=r"the scale of model\.layers\.1\.mlp\.experts\.down_proj"):
        read_weights(rewritten(folder, tmp_path / "without", settings, without), LoadReport(), dtype=torch.float32)


@pytest.mark.parametrize(
    ("name", "weight", "piece"),
    [
        ("a.q_proj.weight", "a.q_proj.weight", ""),
        ("a.q_proj.weight_packed", "a.q_proj.weight", "_packed"),
        ("a.q_proj.weight_zero_point", "a.q_proj.weight", "_zero_point"),
        ("a.q_proj.weight.quant_state.bitsandbytes__nf4", "a.q_proj.weight", ".quant_state.bitsandbytes__nf4"),
        ("a.q_proj.SCB", "a.q_proj.weight", ".SCB"),
        ("a.experts.gate_up_proj_blocks", "a.experts.gate_up_proj", "_blocks"),
        ("a.experts.gate_up_proj_scales", "a.experts.gate_up_proj", "_scales"),
        ("a.norm.bias", "a.norm.bias", ""),
    ],
)
def test_the_pieces_of_packed_weights_are_told_apart(name: str, weight: str, piece: str) -> None:
    assert piece_of(name) == (weight, piece)


@pytest.mark.slow
def test_the_command_ends_with_one_line_and_exit_code_2(llama: Path, tmp_path: Path) -> None:
    folder = rewritten(llama, tmp_path / "model", {"quant_method": "nonsense"})
    done = subprocess.run(
        [sys.executable, "-m", "cotlens.cli", "doctor", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
