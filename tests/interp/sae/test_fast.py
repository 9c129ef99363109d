"""The sparse kernels equal SAELens: losses, gradients, statistics, weights, files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import SAE, SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import TrainStepInput

from interp.sae.fast import FastTopKTrainingSAE, FastTopKTrainingSAEConfig, FastTrainer
from interp.sae.train import silent, to_inference

D, FEATURES, K, ROWS = 20, 48, 5, 64


def pair(**options: Any) -> tuple[Any, Any]:
    """SAELens's training SAE and ours, with the same weights."""
    common: dict[str, Any] = {"d_in": D, "d_sae": FEATURES, "k": K, "apply_b_dec_to_input": True, **options}
    torch.manual_seed(0)
    theirs = TopKTrainingSAE(TopKTrainingSAEConfig(**common))
    with torch.no_grad():
        theirs.b_dec.copy_(0.1 * torch.randn(D))
        theirs.b_enc.copy_(0.1 * torch.randn(FEATURES))
        theirs.W_dec.mul_(torch.rand(FEATURES, 1) + 0.5)  # norms that matter for the choice
    ours = FastTopKTrainingSAE(FastTopKTrainingSAEConfig(**common, select_in_bfloat16=False))
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def given(dead: torch.Tensor | None) -> TrainStepInput:
    rows = torch.randn(ROWS, D, generator=torch.Generator().manual_seed(1))
    return TrainStepInput(rows, {}, dead, n_training_steps=0, is_logging_step=False)


@pytest.mark.parametrize("options", [{}, {"rescale_acts_by_decoder_norm": False}, {"apply_b_dec_to_input": False}])
@pytest.mark.parametrize("n_dead", [0, 4, 30])
def test_losses_and_gradients_are_those_of_autograd(options: dict[str, Any], n_dead: int) -> None:
    """Without dead features, with fewer than half the width, and with more."""
    theirs, ours = pair(**options)
    dead = torch.zeros(FEATURES, dtype=torch.bool)
    dead[:n_dead] = True
    outputs = [sae.training_forward_pass(given(dead)) for sae in (theirs, ours)]
    for output in outputs:
        output.loss.backward()
    torch.testing.assert_close(outputs[1].sae_out, outputs[0].sae_out, atol=1e-5, rtol=1e-5)
    for name, loss in outputs[0].losses.items():
        torch.testing.assert_close(outputs[1].losses[name], loss, atol=1e-4, rtol=1e-5)
    if n_dead:
        assert outputs[1].losses["auxiliary_reconstruction_loss"].item() > 0
    for name, parameter in theirs.named_parameters():
        result = dict(ours.named_parameters())[name].grad
        assert result is not None and float(result.abs().max()) > 0
        torch.testing.assert_close(result, parameter.grad, atol=1e-4, rtol=1e-4, msg=name)


def test_gradients_equal_finite_differences() -> None:
    from interp.sae.fast import _SparseTopK

    torch.manual_seed(0)
    w_enc, b_enc = torch.randn(6, 9, dtype=torch.double), torch.randn(9, dtype=torch.double)
    w_dec, b_dec = torch.randn(9, 6, dtype=torch.double), torch.randn(6, dtype=torch.double)
    rows = torch.randn(4, 6, dtype=torch.double)
    indices = ((rows - b_dec) @ w_enc + b_enc).topk(3).indices.sort().values
    leaves = [each.requires_grad_() for each in (w_enc, b_enc, w_dec, b_dec)]
    for centre in (True, False):
        torch.autograd.gradcheck(lambda *w, c=centre: _SparseTopK.apply(rows, *w, indices, c), leaves)


def batches(sets: int = 4) -> Iterator[torch.Tensor]:
    """Sparse sums of known directions, the same again and again."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(30, D))
    result = []
    for _ in range(sets):
        active = rng.uniform(1, 2, size=(ROWS, 30)) * (rng.random((ROWS, 30)) < 0.1)
        result.append(torch.from_numpy((active @ directions).astype(np.float32)))
    while True:
        yield from result


def trainer(kind: Any, sae: Any, updates: int) -> Any:
    config = SAETrainerConfig(
        total_training_samples=updates * ROWS,
        train_batch_size_samples=ROWS,
        lr=1e-2,
        lr_end=1e-3,
        lr_decay_steps=updates // 2,
        dead_feature_window=5,
        n_batches_for_norm_estimate=2,
    )
    return kind(cfg=config, sae=sae, data_provider=batches())


def test_a_training_goes_as_saelens_goes() -> None:
    """Weights and statistics agree after many steps of a trainer that revives dead features and lowers its rate."""
    theirs, ours = pair()
    with silent():
        slow, fast = trainer(SAETrainer, theirs, 60), trainer(FastTrainer, ours, 60)
        slow.fit(), fast.fit()
    assert fast.optimizer.param_groups[0]["lr"] == pytest.approx(slow.optimizer.param_groups[0]["lr"])
    assert fast.optimizer.defaults["fused"] and fast.lr_scheduler.optimizer is fast.optimizer
    torch.testing.assert_close(fast.act_freq_scores, slow.act_freq_scores, atol=8, rtol=0.05)
    assert float((fast.dead_neurons == slow.dead_neurons).float().mean()) > 0.9
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(dict(ours.named_parameters())[name], parameter, atol=2e-2, rtol=2e-2, msg=name)


def test_choosing_in_bfloat16_explains_as_much() -> None:
    explained = []
    for rough in (False, True):
        _, sae = pair()
        sae.cfg.select_in_bfloat16 = rough
        with silent():
            result = trainer(FastTrainer, sae, 300).fit()
        rows = torch.cat([batch for batch, _ in zip(batches(), range(4), strict=False)])
        with torch.no_grad():
            rest = ((to_inference(result)(rows) - rows) ** 2).sum()
        explained.append(float(1 - rest / ((rows - rows.mean(0)) ** 2).sum()))
    assert explained[0] > 0.7 and abs(explained[0] - explained[1]) < 0.02


def test_values_are_exact_where_the_choice_was_rough() -> None:
    _, sae = pair()
    sae.cfg.select_in_bfloat16 = True
    rows = given(None).sae_in
    output = sae.training_forward_pass(given(None))
    exact = ((rows - sae.b_dec) @ sae.W_enc + sae.b_enc).relu()
    codes = output.feature_acts
    torch.testing.assert_close(codes.values, exact.gather(1, codes.indices), atol=1e-5, rtol=1e-5)


def test_it_is_saved_as_saelens_saves_a_topk(tmp_path: Path) -> None:
    _, sae = pair()
    rows = given(None).sae_in
    with silent():
        sae.save_inference_model(str(tmp_path))
        loaded = SAE.load_from_disk(str(tmp_path))
    assert loaded.cfg.architecture() == "topk"
    output = sae.training_forward_pass(given(None))
    with torch.no_grad():
        torch.testing.assert_close(loaded(rows), output.sae_out, atol=1e-4, rtol=1e-4)
