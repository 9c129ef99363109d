"""The loss of the curriculum and its lessons, beside a reference that was written from the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import interp
from interp.errors import CotlensError, StoreError
from interp.organisms.training import build
from interp.organisms.training import train as training
from interp.organisms.training.model import new_model, tokenizer_of
from interp.problems import task
from interp.reasoners import curriculum_of
from interp.reasoners.curriculum import Lesson, collate, next_token_loss
from tests.interp.organisms.training.tiny import tiny


def plain_loss(model: Any, problems: list, tokenizer: Any, kind: str, hidden: int, scale: float) -> torch.Tensor:
    """Coconut's objective with nothing but full forward passes, one problem at a time, written from the paper.

    Every thought needs a forward pass over everything before it; the loss is the mean next-token loss over the
    words after the last thought, but for an end marker that follows a thought, which is forced.
    """
    total, count = torch.zeros(()), 0
    for problem in problems:
        words = [*problem.question.split(), "<bot>"]
        fed = [model.transformer.wte.weight[tokenizer.convert_tokens_to_ids(word)] for word in words]
        n_thoughts = 0 if kind in ("direct", "text") else min(hidden, problem.n_steps)
        for _ in range(n_thoughts):
            if kind == "continuous":
                seen = model(inputs_embeds=torch.stack(fed)[None], use_cache=False, output_hidden_states=True)
                fed.append(seen.hidden_states[-1][0, -1] * scale)  # GPT-2's last hidden state is after ln_f
            else:
                fed.append(model.transformer.wte.weight[tokenizer.convert_tokens_to_ids("<pause>")])
        written = [] if kind == "direct" else [step.text for step in problem.steps[n_thoughts:]]
        after = [*written, "<eot>", problem.answer, "<eos>"]
        start = len(fed)
        fed += [model.transformer.wte.weight[tokenizer.convert_tokens_to_ids(word)] for word in after]
        log_p = model(inputs_embeds=torch.stack(fed)[None], use_cache=False).logits[0].log_softmax(-1)
        for k, word in enumerate(after):
            if word == "<eot>" and not written:
                continue
            total = total - log_p[start + k - 1, tokenizer.convert_tokens_to_ids(word)]
            count += 1
    return total / count


@pytest.mark.parametrize(
    ("kind", "hidden", "scale"),
    [
        ("continuous", 1, 0.1),
        ("continuous", 2, 1.0),
        ("continuous", 5, 0.7),
        ("pause", 2, 1.0),
        ("text", 0, 1.0),
        ("direct", 0, 1.0),
    ],
)
def test_the_loss_and_its_gradients_are_the_papers(kind: str, hidden: int, scale: float) -> None:
    made = tiny(kind, latent_scale=scale)
    problems = task("chain:steps=3").generate(4, seed=0, split="train")
    tokenizer = tokenizer_of(made)
    model = new_model(made, len(tokenizer), seed=3)
    batch = collate([curriculum_of(made.reasoner()).lesson(problem, hidden) for problem in problems], tokenizer)

    def gradients(loss: torch.Tensor) -> dict[str, torch.Tensor]:
        model.zero_grad()
        loss.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    loss = curriculum_of(made.reasoner()).loss(model, batch)
    reference = plain_loss(model, problems, tokenizer, kind, hidden, scale)
    assert float(loss.detach()) == pytest.approx(float(reference.detach()), abs=1e-5)
    found, expected = gradients(loss), gradients(reference)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=2e-6, rtol=1e-4, msg=name)
    assert max(float(g.abs().max()) for g in expected.values()) > 1e-3


def test_gradients_flow_through_the_whole_chain_of_thoughts() -> None:
    """With the thoughts cut off the gradient is another one, so the test above can tell."""
    made = tiny(latent_scale=0.7)
    problems, tokenizer = task("chain:steps=3").generate(4, seed=0, split="train"), tokenizer_of(made)
    model = new_model(made, len(tokenizer), seed=3)
    curriculum = curriculum_of(made.reasoner())
    batch = collate([curriculum.lesson(problem, 3) for problem in problems], tokenizer)
    grads = []
    for logits in (curriculum.logits(model, batch), model(input_ids=batch.ids).logits):
        model.zero_grad()
        next_token_loss(logits, batch).backward()
        grads.append(model.transformer.wpe.weight.grad[:4].clone())
    assert (grads[0] - grads[1]).abs().max() > 1e-5


def test_a_projection_of_the_thoughts_is_trained_kept_and_used(tmp_path: Path) -> None:
    made = tiny(reasoner_options={"projection": 8}, latent_scale=1.0)
    model = training.train(made, 0)
    fresh = training.train(made.model_copy(update={"stages": made.stages[:1]}), 0)
    before, after = (each.thought_projection.inner.weight for each in (fresh, model))
    assert not torch.equal(before, after), "the projection was not trained"
    build.save(model, made, tmp_path)
    loaded = interp.load(tmp_path)
    trace = loaded.think(task("chain:steps=2").generate(1, seed=0))[0]
    question = torch.tensor([trace.token_ids[: trace.channel.index("latent")]], device=loaded.device)
    with torch.no_grad():
        state = loaded.base(inputs_embeds=loaded.embed(question)).last_hidden_state[0, -1]
        inner = torch.nn.functional.gelu(loaded.projection.inner(state))
        expected = torch.nn.functional.layer_norm(
            loaded.projection.outer(inner), (16,), loaded.projection.norm.weight, loaded.projection.norm.bias
        )
    torch.testing.assert_close(torch.tensor(trace.latents[0]), expected.cpu(), atol=1e-5, rtol=1e-4)
    (tmp_path / "projection.safetensors").unlink()
    with pytest.raises(StoreError, match=r"expected projection\.safetensors, a projection of 16 through 8"):
        interp.load(tmp_path)


def test_lessons_of_different_length_are_padded_out_of_the_loss() -> None:
    made = tiny("text")
    problems = [task(f"chain:steps={n}").generate(1, seed=0, split="train")[0] for n in (2, 5)]
    tokenizer = tokenizer_of(made)
    model = new_model(made, len(tokenizer), seed=3)
    curriculum = curriculum_of(made.reasoner())
    lessons = [curriculum.lesson(problem, 0) for problem in problems]

    def total(some: list[Lesson]) -> torch.Tensor:
        batch = collate(some, tokenizer)
        return curriculum.loss(model, batch) * batch.scored.sum()

    torch.testing.assert_close(total(lessons), total(lessons[:1]) + total(lessons[1:]), atol=1e-5, rtol=1e-5)
    silent = [curriculum_of(tiny("pause").reasoner()).lesson(problem, 2) for problem in problems]
    with pytest.raises(CotlensError, match=r"to lie in the same columns, got .*; batch by shape"):
        collate(silent, tokenizer)


@pytest.mark.parametrize(("kind", "hidden"), [("continuous", 2), ("pause", 2), ("text", 0), ("direct", 0)])
def test_training_sequences_are_what_the_reasoner_will_see(kind: str, hidden: int) -> None:
    problem = task("chain:steps=3").generate(1, seed=0)[0]
    lesson = curriculum_of(tiny(kind).reasoner()).lesson(problem, hidden)
    values = [step.text for step in problem.steps]
    middle = {
        "continuous": ["<latent>", "<latent>", values[2]],
        "pause": ["<pause>", "<pause>", values[2]],
        "text": values,
        "direct": [],
    }[kind]
    assert lesson.words == [*problem.question.split(), "<bot>", *middle, "<eot>", problem.answer, "<eos>"]
    assert lesson.first_thought == problem.question.count(" ") + 2 and lesson.n_thoughts == hidden
