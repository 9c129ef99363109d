"""Induction heads: the scores, and what ablating heads does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import interp
from interp import causal
from interp.causal.known.induction import _ablation, _losses, _mean_outputs, _sequences, offset_scores
from interp.errors import UsageError


def test_scores_of_heads_whose_attention_is_known() -> None:
    length, n = 5, 11
    pattern = torch.zeros(1, 4, n, n)
    for t in range(1, n):
        pattern[0, 0, t, max(t - length + 1, 0)] = 1.0
        pattern[0, 1, t, t - 1] = 1.0
        pattern[0, 2, t, max(t - length, 0)] = 1.0
        pattern[0, 3, t, : t + 1] = 1 / (t + 1)
    scores = {name: score[0].tolist() for name, score in offset_scores(pattern, length).items()}
    uniform = float(np.mean([1 / (t + 1) for t in range(n - length, n - 1)]))
    assert scores["induction"] == pytest.approx([1, 0, 0, uniform])
    assert scores["previous token"] == pytest.approx([0, 1, 0, uniform])
    assert scores["same token"] == pytest.approx([0, 0, 1, uniform])


def test_sequences_repeat_and_hold_no_special_tokens() -> None:
    reasoner = interp.load("chain-text")
    rng = np.random.default_rng(0)
    (text,), (other,) = (_sequences(reasoner, 1, 6, rng, repeats=repeats) for repeats in (True, False))
    assert text.token_ids[-6:] == text.token_ids[-12:-6] and other.token_ids[-6:] != other.token_ids[-12:-6]
    assert not {*text.token_ids[-12:]} & {*reasoner.tokenizer.all_special_ids}


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_ablation_puts_means_in_place_of_some_heads_alone(name: str, model_folder: Callable) -> None:
    reasoner = interp.load(model_folder(name))
    rng = np.random.default_rng(0)
    texts = _sequences(reasoner, 3, 8, rng, repeats=True)
    means = _mean_outputs(reasoner, texts, [0, 1])
    kept: dict[int, np.ndarray] = {}

    def keep(outputs: torch.Tensor, batch: object) -> None:
        kept[len(kept)] = outputs.reshape(*outputs.shape[:2], 4, -1).numpy()

    for edits in ((), _ablation(texts, [(1, 2)], means, 4)):
        reasoner.replayer.replay(texts, hooks={"blocks.1.attn.hook_z": keep}, interventions=edits)
    before, after = kept[0], kept[1]
    np.testing.assert_allclose(after[:, :, 2], np.broadcast_to(means[1][2].numpy(), after[:, :, 2].shape), atol=1e-6)
    np.testing.assert_allclose(after[:, :, [0, 1, 3]], before[:, :, [0, 1, 3]], atol=1e-6)
    plain, ablated = (_losses(reasoner, texts, 8, edits) for edits in ([], _ablation(texts, [(1, 2)], means, 4)))
    assert not np.allclose(plain, ablated)


def test_heads_below_the_threshold_are_not_chosen_and_others_are_ablated(model_folder: Callable) -> None:
    reasoner = interp.load(model_folder("llama"))
    none = causal.induction_heads(reasoner, 4, length=8)
    assert not none.heads["chosen"].any() and none.ablations["ablated"].tolist() == ["nothing"]
    assert len(none.heads) == 8 and none.heads["induction"].is_monotonic_decreasing
    some = causal.induction_heads(reasoner, 4, length=8, threshold=0.0)
    chosen = int(some.heads["chosen"].sum())
    assert 0 < chosen < 8
    assert some.ablations["ablated"].tolist()[:2] == ["nothing", "induction heads"]
    assert some.ablations["heads"].tolist()[1] == chosen
    assert some.ablations["loss, repeated half"].nunique() > 1


def test_what_cannot_be_run_is_refused(model_folder: Callable) -> None:
    reasoner = interp.load(model_folder("llama"))
    with pytest.raises(UsageError, match="at most 192 tokens"):
        causal.induction_heads(reasoner, 4, length=100)
    with pytest.raises(UsageError, match="at least 4"):
        causal.induction_heads(reasoner, 2)
    with pytest.raises(UsageError, match=r"attention in every block, got .*none in block 0"):
        causal.induction_heads(interp.load(model_folder("mamba")), 4)


def test_the_command(cotlens: Callable, model_folder: Callable) -> None:
    result = cotlens("causal", "heads", model_folder("llama"), "--n", "4", "--length", "8", "--json").json
    assert result["n_heads"] == 8 and {"induction", "control", "chosen"} <= result["heads"][0].keys()
