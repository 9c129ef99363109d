"""Reasoning in step embeddings: the autoencoder, the training sequences, the loss, and the saved files."""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path

import pytest
import torch

import interp
from interp.errors import CotlensError, StoreError, UsageError
from interp.models.step_autoencoder import StepAutoencoder
from interp.models.tokenizers import word_tokenizer
from interp.organisms.catalog import Recipe
from interp.organisms.training import concepts as making
from interp.organisms.training.model import new_model, tokenizer_of, with_projection
from interp.problems import task
from interp.problems.base import split_of, structure_hash
from interp.reasoners import curriculum_of
from interp.reasoners.curriculum import LessonBatch, collate

TASK = "variables:steps=2-3,distractors=1"
TEXTS = ["A B +3 = 7", "C A f = 0", "A", "= = ="]


def tiny(**options: object) -> Recipe:
    return Recipe(
        name="tiny",
        kind="concepts",
        task=TASK,
        summary="s",
        weaknesses="w",
        latent_scale=0.5,
        model={"n_layers": 1, "n_heads": 2, "d_model": 16},
        batch_size=8,
        reasoner_options={"projection": 8},
        trainer="interp.organisms.training.concepts:train_concepts",
        examiner="interp.organisms.training.concepts:examine",
        stages=({"name": "steps", "hidden_steps": 3, "updates": 4, "learning_rate": 1e-3},),
        **options,
    )


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer(task(TASK).vocabulary())


@pytest.fixture
def autoencoder(tokenizer) -> StepAutoencoder:
    torch.manual_seed(0)
    return StepAutoencoder(len(tokenizer), tokenizer.pad_token_id, longest=5, d_concept=16, d_word=8, hidden=32)


@pytest.fixture
def batch() -> LessonBatch:
    made = tiny()
    problems = list(islice(task(TASK).draws(random.Random(0), "train", 2), 60))
    length = len(problems[0].question.split())
    same = [p for p in problems if len(p.question.split()) == length][:8]
    lessons = [curriculum_of(made.reasoner()).lesson(problem, 3) for problem in same]
    return collate(lessons, tokenizer_of(made))


def test_embeddings_have_mean_0_and_variance_1(autoencoder: StepAutoencoder, tokenizer) -> None:
    result = autoencoder.encode(autoencoder.ids_of(TEXTS, tokenizer))
    assert result.shape == (4, 16)
    torch.testing.assert_close(result.mean(-1), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.var(-1, unbiased=False), torch.ones(4), atol=1e-3, rtol=0)


def test_a_few_texts_are_learned_and_decoded_exactly(autoencoder: StepAutoencoder, tokenizer) -> None:
    ids = autoencoder.ids_of(TEXTS, tokenizer)
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=1e-2)
    for _ in range(150):
        loss = torch.nn.functional.cross_entropy(
            autoencoder.decode(autoencoder.encode(ids)).flatten(0, 1), ids.flatten()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert autoencoder.texts(autoencoder.encode(ids), tokenizer) == TEXTS


@pytest.mark.parametrize("text", ["", "A B +3 = 7 7", "A B +99 = 7"])
def test_texts_that_do_not_fit_are_refused(autoencoder: StepAutoencoder, tokenizer, text: str) -> None:
    with pytest.raises(UsageError, match=f"1 to 5 words that the tokenizer knows, got '{text[:3]}"):
        autoencoder.ids_of([text], tokenizer)


def test_the_autoencoder_is_saved_in_half_precision_and_read_again(
    autoencoder: StepAutoencoder, tokenizer, tmp_path: Path
) -> None:
    autoencoder.save(tmp_path)
    again = StepAutoencoder.read(tmp_path)
    ids = autoencoder.ids_of(TEXTS, tokenizer)
    torch.testing.assert_close(again.encode(ids), autoencoder.encode(ids), atol=0.02, rtol=0)
    assert not any(parameter.requires_grad for parameter in again.parameters())
    (tmp_path / "autoencoder.safetensors").write_bytes(b"none")
    with pytest.raises(StoreError, match=r"expected a step autoencoder \(autoencoder\.safetensors"):
        StepAutoencoder.read(tmp_path)
    with pytest.raises(StoreError, match="expected a step autoencoder"):
        StepAutoencoder.read(tmp_path / "nowhere")


def test_a_lesson_has_one_thought_for_each_step_and_the_steps_words_beside_it() -> None:
    problem = task(TASK).generate(1, seed=0)[0]
    lesson = curriculum_of(tiny().reasoner()).lesson(problem, 0)
    assert lesson.n_thoughts == problem.n_steps
    assert " ".join(lesson.extra) == " ".join(step.text for step in problem.steps)
    silent = lesson.words[lesson.first_thought : lesson.first_thought + lesson.n_thoughts]
    assert set(silent) == {"<latent>"} and "=" not in lesson.words


def test_the_loss_equals_the_sum_of_its_parts(
    autoencoder: StepAutoencoder, batch: LessonBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same sum, computed part by part without noise."""
    made = tiny()
    model = with_projection(new_model(made, len(tokenizer_of(made)), 0), made)
    curriculum = curriculum_of(made.reasoner())
    with pytest.raises(CotlensError, match="trained beside a step autoencoder"):
        curriculum.loss(model, batch)
    model.step_autoencoder = autoencoder
    monkeypatch.setattr("interp.reasoners.concepts._NOISE", 0.0)
    ids, first, n = batch.ids, batch.first_thought, batch.n_thoughts
    steps = batch.extra.reshape(len(ids), n, 5)
    true = autoencoder.encode(steps)
    inputs = model.transformer.wte(ids).clone()
    inputs[:, first : first + n] = true * 0.5
    states = model.transformer(inputs_embeds=inputs).last_hidden_state
    predicted = torch.stack([model.thought_projection(states[:, first + k - 1]) for k in range(n)], dim=1)
    squared = ((predicted - true) ** 2).mean()
    words = -torch.log_softmax(autoencoder.decode(predicted), -1).gather(-1, steps[..., None]).mean()
    logits = torch.log_softmax(model.lm_head(states), -1)
    ends = [(b, p) for b in range(len(ids)) for p in range(ids.shape[1]) if batch.scored[b, p]]
    answer = -torch.stack([logits[b, p - 1, ids[b, p]] for b, p in ends]).mean()
    torch.testing.assert_close(curriculum.loss(model, batch), squared + words + answer, atol=1e-4, rtol=1e-4)


def test_the_autoencoder_is_not_trained_with_the_predictor(autoencoder: StepAutoencoder, batch: LessonBatch) -> None:
    made = tiny()
    model = with_projection(new_model(made, len(tokenizer_of(made)), 0), made)
    model.step_autoencoder = autoencoder.requires_grad_(False)
    curriculum_of(made.reasoner()).loss(model, batch).backward()
    assert all(parameter.grad is None for parameter in autoencoder.parameters())
    assert all(parameter.grad is not None for parameter in model.thought_projection.parameters())


def test_step_texts_of_the_splits_share_nothing() -> None:
    result = {split: set(making.step_texts(task(TASK), split, 0, 3000)) for split in ("train", "val", "test")}
    assert len(result["train"]) > 1000 > len(result["test"]) > 400
    assert not result["train"] & result["test"] and not result["train"] & result["val"]
    assert {split_of(structure_hash("step", text)) for text in result["test"]} == {"test"}


def test_training_writes_a_reasoner_and_its_autoencoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "_UPDATES", 10)
    monkeypatch.setattr(making, "_DRAWN", 500)
    stages: list[str] = []
    making.train_concepts(tiny(), 0, tmp_path, lambda stage, *rest: stages.append(stage))
    assert stages[-1] == "steps"
    reasoner = interp.load(tmp_path)
    assert reasoner.kind == "concepts" and reasoner.projection is not None
    traces = reasoner.think(reasoner.task.generate(5, seed=0))
    texts = StepAutoencoder.read(tmp_path).texts(torch.from_numpy(traces[0].latents), reasoner.tokenizer)
    assert len(texts) == traces[0].problem.n_steps
    measured = making.examine(reasoner, 100)
    assert 0 <= measured["thoughts_say_the_step"] < 0.2 and measured["exam"]["n"] == 100
