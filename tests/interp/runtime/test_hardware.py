"""Choice of precision by processor: emulated bfloat16 is many times slower than float32."""

import pytest
import torch

from interp.runtime.hardware import fast_bfloat16, mixed_precision, training_attention


def _product_dtype(device: str) -> torch.dtype:
    with mixed_precision(torch.device(device)):
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


@pytest.mark.parametrize("capability", ["avx512_bf16", "amx_bf16"])
def test_products_are_bfloat16_on_cpus_with_native_bfloat16(monkeypatch: pytest.MonkeyPatch, capability: str) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, capability: True})
    assert _product_dtype("cpu") == torch.bfloat16
    assert fast_bfloat16(torch.ones(1))
    assert not fast_bfloat16(torch.ones(1, dtype=torch.float64))


def test_products_are_float32_on_other_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    assert _product_dtype("cpu") == torch.float32
    assert not fast_bfloat16(torch.ones(1))


@pytest.mark.parametrize(("device", "autocast"), [("cuda", True), ("mps", False)])
def test_an_accelerator_does_not_depend_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, device: str, autocast: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    monkeypatch.setattr(torch, "autocast", lambda *arguments: torch.no_grad())
    assert isinstance(mixed_precision(torch.device(device)), torch.no_grad) is autocast


def test_attention_is_fused_except_where_its_backward_pass_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert training_attention(torch.device("cpu")) == "sdpa"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert training_attention(torch.device("cpu")) == "eager"
    assert training_attention(torch.device("cuda")) == "sdpa"
