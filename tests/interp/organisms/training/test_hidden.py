"""The loss that hides values from the logit lens: which positions and values it penalises."""

from __future__ import annotations

import random
from itertools import islice

import pytest
import torch

from interp.errors import UsageError
from interp.organisms.catalog import Recipe
from interp.organisms.training import hidden
from interp.organisms.training.model import new_model, tokenizer_of
from interp.problems import task
from interp.reasoners import curriculum_of
from interp.reasoners.curriculum import collate, next_token_loss


def tiny(kind: str = "continuous", spec: str = "chain") -> Recipe:
    return Recipe(
        name="tiny",
        kind=kind,
        task=spec,
        summary="s",
        weaknesses="w",
        latent_scale=0.1,
        model={"n_layers": 2, "n_heads": 2, "d_model": 32},
        stages=({"name": "hide", "hidden_steps": 5, "updates": 4, "learning_rate": 1e-3},),
    )


MADE = tiny()
PROBLEMS = list(islice(task("chain").draws(random.Random(0), "train", 3), 6))
BATCH = collate([curriculum_of(MADE.reasoner()).lesson(p, 5) for p in PROBLEMS], tokenizer_of(MADE))


@pytest.fixture
def model():
    return new_model(MADE, len(tokenizer_of(MADE)), 0)


def shown_values(model) -> tuple[list[tuple[int, torch.Tensor]], list[tuple[int, torch.Tensor]]]:
    """(true value, the digits' logits) at every layer: where each value is worked out, and at each thought its own."""
    digits = tokenizer_of(MADE).convert_tokens_to_ids(list("0123456789"))

    def lens(state: torch.Tensor) -> torch.Tensor:
        return model.lm_head(model.transformer.ln_f(state))[digits]

    worked_out, own = [], []
    for problem, row in zip(PROBLEMS, BATCH.ids, strict=True):
        embeds = model.transformer.wte(row[: BATCH.first_thought][None])
        before = None
        for value in [*(int(step.value) for step in problem.steps), None]:
            first, *blocks = unnormed(model, embeds)
            worked_out += [(value, lens(each)) for each in blocks if value is not None]
            own += [(before, lens(each)) for each in (first, *blocks) if before is not None]
            state = model.transformer(inputs_embeds=embeds).last_hidden_state[:, -1:]
            embeds, before = torch.cat([embeds, state * 0.1], dim=1), value
    return worked_out, own


def unnormed(model, embeds: torch.Tensor) -> list[torch.Tensor]:
    """The residual stream at the last position: what enters the first block, and what leaves each."""
    state = embeds + model.transformer.wpe.weight[: embeds.shape[1]]
    result = [state[0, -1]]
    mask = torch.full((embeds.shape[1],) * 2, float("-inf")).triu(1)[None, None]
    for block in model.transformer.h:
        out = block(state, attention_mask=mask)
        state = out[0] if isinstance(out, tuple) else out
        result.append(state[0, -1])
    return result


def test_at_first_the_loss_is_the_reasoners_own(model) -> None:
    plain = next_token_loss(curriculum_of(MADE.reasoner()).logits(model, BATCH), BATCH)
    torch.testing.assert_close(hidden.lens_hiding_loss(MADE)(model, BATCH, 0.0), plain)


def test_later_it_adds_what_the_lens_sees_of_the_true_values(model) -> None:
    groups = []
    for shown in shown_values(model):
        terms = []
        for value, row in shown:
            others = torch.cat([row[:value], row[value + 1 :]])
            terms.append(torch.relu(2.0 + row[value] - others.max()) + (row[value] - others.mean()) ** 2)
        groups.append(torch.stack(terms).mean())
    loss = hidden.lens_hiding_loss(MADE)
    added = loss(model, BATCH, 1.0) - loss(model, BATCH, 0.0)
    torch.testing.assert_close(added, 0.1 * sum(groups), atol=1e-4, rtol=1e-3)
    half = loss(model, BATCH, 0.3) - loss(model, BATCH, 0.0)
    torch.testing.assert_close(half, added / 2, atol=1e-4, rtol=1e-3)


def test_its_gradient_reaches_the_thoughts_and_no_hook_stays(model) -> None:
    hidden.lens_hiding_loss(MADE)(model, BATCH, 1.0).backward()
    assert model.transformer.h[0].mlp.c_fc.weight.grad.abs().sum() > 0
    assert not any(each._forward_hooks for each in (model.transformer.ln_f, *model.transformer.h))


@pytest.mark.parametrize(
    ("kind", "spec"), [("text", "chain"), ("continuous", "variables"), ("continuous", "chain:order=shuffled")]
)
def test_what_it_cannot_hide_is_refused(kind: str, spec: str) -> None:
    with pytest.raises(UsageError, match=f"got kind '{kind}' and task '{spec}'"):
        hidden.lens_hiding_loss(tiny(kind, spec))
