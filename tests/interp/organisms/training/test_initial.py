"""The hand-made induction head works before training, and leaves the other weights unchanged."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from interp.errors import UsageError
from interp.organisms.catalog import Recipe, Shape, recipe
from interp.organisms.training.initial import induction_heads, lookback_heads
from interp.organisms.training.model import new_model


def made(**shape: Any) -> Recipe:
    asked = {"n_layers": 4, "n_heads": 4, "d_model": 128, "n_positions": 64, **shape}
    return recipe("chain-text").model_copy(update={"model": Shape(**asked), "initialise": "induction"})


SHAPES = pytest.mark.parametrize(
    ("vocabulary", "shape"),
    [(49, {}), (49, {"n_layers": 2}), (200, {"n_positions": 256}), (60, {"d_model": 192, "n_positions": 72})],
)


@SHAPES
@torch.no_grad()
def test_it_finds_what_followed_before_any_training(vocabulary: int, shape: dict) -> None:
    """x1 ... A B ... A: the last A attends to B, which the model then predicts."""
    model = new_model(made(**shape), vocabulary, seed=0).eval()
    draw = torch.Generator().manual_seed(1)
    n = min(vocabulary, model.config.n_positions) - 1
    context = torch.stack([torch.randperm(vocabulary, generator=draw)[:n] for _ in range(32)])
    rows = torch.arange(32)
    at = torch.randint(1, n - 1, (32,), generator=draw)
    out = model(torch.cat([context, context[rows, at][:, None]], dim=1), output_attentions=True)
    previous = out.attentions[0][:, 0].diagonal(-1, 1, 2)
    assert previous.min() > 0.99, "head 0 of layer 0 attends one position back"
    assert out.attentions[1][rows, 0, -1, at + 1].min() > 0.9, "head 0 of layer 1 attends to B"
    assert (out.logits[:, -1].argmax(-1) == context[rows, at + 1]).float().mean() > 0.95


@torch.no_grad()
def test_heads_that_look_back_do_so_and_the_induction_head_still_finds_what_followed() -> None:
    asked = made(n_positions=128).model_copy(update={"initialise": "lookback"})
    model = new_model(asked, 60, seed=0).eval()
    context = torch.stack([torch.randperm(60, generator=torch.Generator().manual_seed(k)) for k in range(32)])
    out = model(torch.cat([context, context[:, 20:21]], dim=1), output_attentions=True)
    for head, back in ((0, 1), (1, 2), (2, 5), (3, 4)):
        assert out.attentions[0][:, head].diagonal(-back, 1, 2).min() > 0.9, head
    assert (out.logits[:, -1].argmax(-1) == context[:, 21]).float().mean() > 0.9


def test_heads_that_look_back_need_four_heads() -> None:
    model = new_model(made(n_heads=2, d_model=64), 49, seed=0)
    with pytest.raises(UsageError, match="expected at least four heads for heads that look back, got 2"):
        lookback_heads(model)


@torch.no_grad()
def test_a_plain_model_finds_nothing() -> None:
    model = new_model(made().model_copy(update={"initialise": "plain"}), 49, seed=0).eval()
    context = torch.stack([torch.randperm(49)[:40] for _ in range(16)])
    out = model(torch.cat([context, context[:, 10:11]], dim=1), output_attentions=True)
    assert out.attentions[1][:, 0, -1, 11].max() < 0.2
    assert (out.logits[:, -1].argmax(-1) == context[:, 11]).float().mean() < 0.3


def test_only_the_two_heads_and_the_embeddings_are_set() -> None:
    induced, plain = (
        new_model(made().model_copy(update={"initialise": kind}), 49, seed=3).state_dict()
        for kind in ("induction", "plain")
    )
    changed = {name for name, value in induced.items() if not torch.equal(value, plain[name])}
    heads = {f"transformer.h.{layer}.attn.{part}.weight" for layer in (0, 1) for part in ("c_attn", "c_proj")}
    assert changed == {"transformer.wte.weight", "transformer.wpe.weight", "lm_head.weight", *heads}
    for name in heads:
        differs = induced[name] != plain[name]
        if "c_attn" in name:
            assert not differs.reshape(128, 3, 4, 32)[:, :, 1:].any(), "heads 1 to 3 keep what was drawn"
        else:
            assert not differs[32:].any()


def test_tokens_and_positions_keep_apart_and_no_two_codes_are_alike() -> None:
    model = new_model(made(), 49, seed=0)
    tokens, positions = model.transformer.wte.weight.detach(), model.transformer.wpe.weight.detach()
    assert not tokens[:, 96:].any() and not positions[:, :96].any()
    codes = torch.nn.functional.normalize(tokens[:, :32], dim=1)
    assert (codes @ codes.T - torch.eye(49)).max() < 0.45
    assert tokens[:, :96].std() == pytest.approx(0.1, rel=0.1)


def test_the_seed_decides() -> None:
    one, two, other = (new_model(made(), 49, seed).state_dict()["transformer.wte.weight"] for seed in (0, 0, 1))
    assert torch.equal(one, two) and not torch.equal(one, other)


@pytest.mark.parametrize("shape", [{"n_layers": 1}, {"n_heads": 1}, {"d_model": 32}, {"d_model": 84}])
def test_a_model_without_room_is_refused(shape: dict) -> None:
    with pytest.raises(UsageError, match="expected two layers, two heads and an even head size"):
        new_model(made(**shape), 49, seed=0)


def test_it_changes_the_model_in_place() -> None:
    model = new_model(made().model_copy(update={"initialise": "plain"}), 49, seed=0)
    assert induction_heads(model) is None
    assert not model.transformer.wte.weight[:, 96:].any()
