"""Precision follows what the processor can do: bfloat16 that is emulated takes many times as long as float32."""

import pytest
import torch

from interp.runtime.hardware import fast_bfloat16, mixed_precision, training_attention


def _product(device: str) -> torch.dtype:
    with mixed_precision(torch.device(device)):
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


@pytest.mark.parametrize("capability", ["avx512_bf16", "amx_bf16"])
def test_products_are_in_bfloat16_where_the_processor_has_them(
    monkeypatch: pytest.MonkeyPatch, capability: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, capability: True})
    assert _product("cpu") == torch.bfloat16
    assert fast_bfloat16(torch.ones(1))
    assert not fast_bfloat16(torch.ones(1, dtype=torch.float64))


def test_and_in_float32_where_it_would_emulate_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    assert _product("cpu") == torch.float32
    assert not fast_bfloat16(torch.ones(1))


@pytest.mark.parametrize(("device", "rough"), [("cuda", True), ("mps", False)])
def test_a_gpu_is_not_asked_what_the_processor_can_do(
    monkeypatch: pytest.MonkeyPatch, device: str, rough: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    monkeypatch.setattr(torch, "autocast", lambda *asked: torch.no_grad())
    assert isinstance(mixed_precision(torch.device(device)), torch.no_grad) is rough


def test_attention_is_fused_but_where_its_backward_pass_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert training_attention(torch.device("cpu")) == "sdpa"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert training_attention(torch.device("cpu")) == "eager"
    assert training_attention(torch.device("cuda")) == "sdpa"
