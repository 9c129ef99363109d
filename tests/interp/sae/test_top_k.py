"""The k largest of each row: the values that `torch.topk` gives, whatever the shape, the dtype and the ties."""

from __future__ import annotations

import pytest
import torch

from interp.sae import top_k as module
from interp.sae.top_k import top_k


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "k"), [(512, 8), (512, 1), (4096, 32), (500, 8), (64, 8), (16, 16)])
def test_the_values_are_those_of_torch(dtype: torch.dtype, n: int, k: int) -> None:
    values = torch.randn(50, n, generator=torch.Generator().manual_seed(n)).to(dtype)
    values[0] = -values[0].abs()  # all below zero
    values[1, ::3] = 0.0
    chosen = top_k(values, k)
    assert chosen.dtype == torch.int64 and all(len(set(row)) == k for row in chosen.tolist())
    expected = values.topk(k, dim=-1).values
    assert torch.equal(values.gather(1, chosen).sort(dim=-1, descending=True).values, expected)


def test_equal_values_give_different_places() -> None:
    chosen = top_k(torch.ones(3, 1024, dtype=torch.bfloat16), 20)
    assert all(len(set(row)) == 20 for row in chosen.tolist()) and int(chosen.max()) < 1024


@pytest.mark.parametrize(("n", "packs"), [(2**16, True), (2**17, False)])
def test_numbers_that_do_not_fit_beside_a_value_are_left_to_torch(
    monkeypatch: pytest.MonkeyPatch, n: int, packs: bool
) -> None:
    calls: list[int] = []
    largest = module._largest
    monkeypatch.setattr(module, "_largest", lambda *arguments: calls.append(1) or largest(*arguments))
    values = torch.zeros(2, n, dtype=torch.bfloat16)
    values[:, -3:] = torch.tensor([1.0, 2.0, 3.0])
    assert set(top_k(values, 3)[0].tolist()) == {n - 3, n - 2, n - 1}
    assert bool(calls) == packs
