"""The bench of parity finds what differs: another model, other frequencies, texts that are not the likeliest."""

from __future__ import annotations

import pytest
import torch

from benchmarks.models import parity as bench
from benchmarks.models.small_models import ARCHITECTURES, EVERY_ARCHITECTURE, MORE_ARCHITECTURES


def test_every_configuration_has_a_name_of_its_own() -> None:
    assert len(EVERY_ARCHITECTURE) == len(ARCHITECTURES) + len(MORE_ARCHITECTURES) > 35


def test_an_equal_architecture_counts_and_one_that_differs_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {name: ARCHITECTURES[name] for name in ("gpt2", "longrope")}
    result = bench.parity(chosen)
    assert result.measures["models.architectures"]["value"] == 2
    assert 0 < result.measures["models.parity_max"]["value"] < 1e-5
    rows = {row["architecture"]: row for row in result.more["parity"]}
    assert rows["longrope"]["one_by_one"] and not rows["gpt2"]["one_by_one"]
    assert all(row["same_text"] and 0.3 < row["bfloat16"] < 1.5 for row in rows.values())

    def another(model: object, token_ids: list[int]) -> bench.Passed:
        passed = plain(model, token_ids)
        passed.blocks[1][-1, 3] *= 1.01
        return passed

    plain = bench._hugging_face
    monkeypatch.setattr(bench, "_hugging_face", another)
    changed = bench.parity({"gpt2": ARCHITECTURES["gpt2"]})
    assert changed.measures["models.architectures"]["value"] == 0
    assert "not equal: gpt2" in changed.measures["models.architectures"]["note"]
    assert changed.measures["models.parity_max"]["value"] > 1e-4


def test_a_token_that_is_not_the_likeliest_is_found() -> None:
    class Counts(torch.nn.Module):
        """Says the number of tokens so far."""

        def forward(self, ids: torch.Tensor, use_cache: bool) -> object:
            logits = torch.nn.functional.one_hot(torch.tensor([[ids.shape[1]]]), 9).float()
            return type("Out", (), {"logits": logits})

    assert bench._is_greedy(Counts(), [7, 1, 2, 3], 1)
    assert not bench._is_greedy(Counts(), [7, 1, 2, 4], 1)
    assert bench._is_greedy(Counts(), [7, 7, 2, 3], 2), "the prompt is not chosen"
