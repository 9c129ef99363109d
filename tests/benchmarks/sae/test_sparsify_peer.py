"""sparsify beside the others: named where it is missing, and the same start where it is installed."""

from __future__ import annotations

import pytest
import torch

from benchmarks.sae import speed as sae_speed
from benchmarks.sae.sparsify_peer import INSTALL, SparsifyTrainer, installed


def test_the_note_says_that_sparsify_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WIDTH": 16, "FEATURES": 64, "ACTIVE": 4, "BATCH": 64, "_STEPS": 1, "_DIRECTIONS": 100}.items():
        monkeypatch.setattr(sae_speed, name, value)
    monkeypatch.setattr(sae_speed, "installed", lambda: False)
    taken = sae_speed.speed(1)
    assert INSTALL in taken["scale.sae_over_best"]["note"]
    assert taken["scale.sae_over_best"]["value"] == taken["sae.train_over_saelens_best"]["value"]


@pytest.mark.skipif(not installed(), reason=INSTALL)
def test_sparsify_learns_from_the_same_start() -> None:
    import sae_lens

    torch.manual_seed(0)
    sae = sae_lens.TopKTrainingSAE(sae_lens.TopKTrainingSAEConfig(d_in=8, d_sae=32, k=4))
    rows = torch.randn(256, 3) @ torch.randn(3, 8)
    trainer = SparsifyTrainer(sae, iter(()), 1e-2)
    torch.testing.assert_close(trainer.coder.encoder.weight, sae.W_enc.T)
    before = trainer.explained_variance(rows)
    for _ in range(100):
        trainer.step(rows)
    assert trainer.explained_variance(rows) > max(before, 0.8)
