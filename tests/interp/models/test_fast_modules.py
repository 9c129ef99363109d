"""The modules of the fast model equal those of PyTorch and Hugging Face and share their parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from interp.models.fast_modules import LayerNorm, TransposedLinear


@pytest.mark.parametrize("how", [{}, {"bias": False}, {"elementwise_affine": False}, {"eps": 0.1}])
def test_a_layer_norm_is_pytorchs(how: dict[str, Any]) -> None:
    theirs, inputs = torch.nn.LayerNorm(8, **how), torch.randn(2, 3, 8)
    for value in theirs.parameters():
        torch.nn.init.normal_(value)
    ours = LayerNorm(theirs)
    assert torch.equal(ours(inputs), theirs(inputs))
    assert [id(each) for each in ours.parameters()] == [id(each) for each in theirs.parameters()]


def test_a_transposed_map_is_hugging_faces() -> None:
    theirs, inputs = Conv1D(4, 6), torch.randn(2, 3, 6)
    torch.nn.init.normal_(theirs.bias)
    ours = TransposedLinear(theirs.weight, theirs.bias)
    torch.testing.assert_close(ours(inputs), theirs(inputs))
    assert ours.weight is theirs.weight and ours.bias is theirs.bias
