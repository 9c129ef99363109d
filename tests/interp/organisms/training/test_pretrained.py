"""Organisms on a pretrained base: the curriculum loop trains adapters, which load as any adapter does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

import interp
from interp.errors import StoreError, UsageError
from interp.loading import named_models
from interp.organisms.catalog import AdapterShape, Recipe, Stage
from interp.organisms.training import checkpoint, pretrained
from interp.organisms.training.batches import problem_batches
from interp.organisms.training.model import save
from interp.organisms.training.pretrained import new_adapters, read_adapters, scored_loss, share_right
from interp.organisms.training.train import train
from interp.problems import task as make_task
from interp.reasoners.curriculum import LessonBatch, collate, next_token_loss
from tests.interp.loading.small_gguf import small_llama, write_gguf

peft = pytest.importorskip("peft")
pytest.importorskip("gguf")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A small pretrained base with the name `tiny`."""
    monkeypatch.setenv(named_models.HOME_VARIABLE, str(tmp_path / "models"))
    tiny = named_models.NamedModel("tiny", "", "", "", "", "tiny.gguf", "", 1)
    monkeypatch.setitem(named_models.NAMED_MODELS, "tiny", tiny)
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    model, tokenizer = small_llama()
    write_gguf(tmp_path / "models" / "tiny" / "tiny.gguf", model, tokenizer)
    pretrained.base_tokenizer.cache_clear()
    yield model
    pretrained.base_tokenizer.cache_clear()


def recipe(kind: str = "text", **options: Any) -> Recipe:
    stages = (Stage(name="one", hidden_steps=0 if kind == "text" else 1, updates=6, learning_rate=1e-2),)
    reasoner = {
        "prompt": "{question}\n",
        "begin": "<think>",
        "end": "</think>",
        "eos": "<eos>",
        "max_thought_tokens": 60,
    }
    reasoner |= {"steps": "text"} if kind == "text" else {"latent": "<pad>", "pause": "<pad>"}
    fields = {
        "name": "tiny-words", "kind": kind, "task": "words:form=copy", "summary": "-", "weaknesses": "-", "base": "tiny",
        "adapter": AdapterShape(rank=2, alpha=4), "batch_size": 3, "reasoner_options": reasoner, "stages": stages,
    }  # fmt: skip
    return Recipe(**(fields | options))


def lessons(made: Recipe, hidden: int, n: int = 3) -> tuple[Any, LessonBatch]:
    """The curriculum of a recipe, and a batch of problems whose questions have one length."""
    curriculum = pretrained.training_curriculum(made)
    wanted: dict[int, list] = {}
    for problem in make_task(made.task).generate(200, seed=1, split="train"):
        lesson = curriculum.lesson(problem, hidden)
        same = wanted.setdefault(lesson.first_thought, [])
        same.append(lesson)
        if len(same) == n:
            return curriculum, collate(same, pretrained.base_tokenizer("tiny"))
    raise AssertionError("no questions of one length")


def trained(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("kind", ["text", "continuous", "pause"])
def test_a_beginning_read_once_and_a_head_at_scored_positions_change_nothing(base: Any, kind: str) -> None:
    made = recipe(kind)
    model = new_adapters(made, 0).float()
    for value in (value for value in model.parameters() if value.requires_grad):
        value.data += 0.05 * torch.randn_like(value)
    curriculum, batch = lessons(made, 0 if kind == "text" else 1)
    assert curriculum.shares_beginning and bool((batch.ids[:, :4] == batch.ids[0, :4]).all())
    loss = scored_loss(curriculum, model, batch)
    loss.backward()
    gradients = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    curriculum.shares_beginning = False
    whole = next_token_loss(curriculum.logits(model, batch), batch)
    whole.backward()
    torch.testing.assert_close(loss, whole)
    for name, value in model.named_parameters():
        if value.requires_grad:
            torch.testing.assert_close(gradients[name], value.grad, atol=1e-5, rtol=1e-3)


def test_only_adapters_are_trained_and_the_base_stays(base: Any) -> None:
    model = train(recipe(), 0)
    original = dict(base.named_parameters())
    for name, value in model.named_parameters():
        plain = name.replace(".base_layer", "")
        assert value.requires_grad == ("lora_" in name)
        if "lora_" not in name:
            # The matrices are kept in bfloat16 where the machine multiplies it.
            torch.testing.assert_close(value, original[plain].to(value.dtype), rtol=0, atol=0)
    assert any(float(value.abs().max()) > 0 for name, value in trained(model).items() if "lora_B" in name)


def test_an_interrupted_training_goes_on_to_the_same_adapters(
    base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(checkpoint_every=2)
    whole = trained(train(made, 0))

    def stop(stage: str, done: int, total: int, loss: float) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(made, 0, folder=tmp_path, progress=stop)
    state, tensors = checkpoint.read(tmp_path, made.to_dict(), 0) or (None, {})
    assert state is not None and state.update == 4
    assert not any("base_layer" in name or "embed" in name for name in tensors), "the base is not in the checkpoint"
    again = trained(train(made, 0, folder=tmp_path))
    assert whole.keys() == again.keys()
    for name, value in whole.items():
        torch.testing.assert_close(again[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("stored", ["float16", "float8_e4m3fn"])
def test_what_is_saved_is_an_adapter_that_loads_and_that_peft_reads(base: Any, tmp_path: Path, stored: str) -> None:
    made = recipe(stored=stored)
    model = train(made, 0).float()
    save(model, made, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "reasoner.json",
    }
    reasoner = interp.load(tmp_path / "out")
    assert reasoner.config == made.reasoner() and reasoner.task.spec == made.task
    ids = torch.arange(12)[None] * 7 % 290
    own = peft.PeftModel.from_pretrained(base, str(tmp_path / "out")).eval()
    with torch.no_grad():
        inputs = {"inputs_embeds": reasoner.embed(ids), "attention_mask": torch.ones_like(ids), "use_cache": False}
        got = reasoner.unembed(reasoner.base(**inputs).last_hidden_state)
        torch.testing.assert_close(got, own(input_ids=ids).logits, atol=1e-4, rtol=1e-4)
    back = trained(read_adapters(new_adapters(made, 5), tmp_path / "out"))
    for name, value in trained(model).items():
        torch.testing.assert_close(back[name], value.to(getattr(torch, stored)).float(), rtol=0, atol=0)
    with pytest.raises(UsageError, match="expected adapters of the recipe's shape"):
        read_adapters(base, tmp_path / "out")


def test_what_one_pass_calls_right_is_what_thinking_writes(base: Any, tmp_path: Path) -> None:
    stage = Stage(name="one", hidden_steps=0, updates=150, learning_rate=1e-2)
    made = recipe(stages=(stage,), pool=3, adapter=AdapterShape(rank=16, alpha=32))
    save(train(made, 0), made, tmp_path / "out")
    reasoner = interp.load(tmp_path / "out")
    curriculum = pretrained.training_curriculum(made)
    learned = next(problem_batches(make_task(made.task), made, Random("tiny-words|0")))
    model = read_adapters(new_adapters(made, 0), tmp_path / "out").float()
    right = []
    for problem in [*learned, *make_task(made.task).generate(3, seed=3, split="val")]:
        batch = collate([curriculum.lesson(problem, 0)], pretrained.base_tokenizer("tiny"))
        trace = reasoner.think([problem])[0]
        written = trace.text == f"{problem.steps[0].text} {problem.answer}"
        assert share_right(curriculum, model, batch) == [written]
        right.append(trace.correct)
    assert True in right and False in right, "three were learned by heart, and no others"


def test_a_stage_that_has_learned_enough_ends_early_and_says_how_much(base: Any, tmp_path: Path) -> None:
    stage = Stage(name="one", hidden_steps=0, updates=6, learning_rate=1e-3, enough=1.0)
    never = recipe(stages=(stage, stage.model_copy(update={"name": "two"})), checkpoint_every=2)
    steps: list[tuple[str, int]] = []
    train(never, 0, folder=tmp_path / "a", progress=lambda stage, done, total, loss: steps.append((stage, done)))
    assert steps[-1] == ("two", 6)
    state, _ = checkpoint.read(tmp_path / "a", never.to_dict(), 0) or (None, {})
    assert state is not None and [(name, update) for name, update, _ in state.right][:3] == [
        ("one", 2),
        ("one", 4),
        ("one", 6),
    ]


def test_without_the_base_one_line_says_how_to_fetch_it(
    base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe()
    save(new_adapters(made, 0), made, tmp_path / "out")
    monkeypatch.setenv(named_models.HOME_VARIABLE, str(tmp_path / "empty"))
    with pytest.raises(UsageError, match=r"got none; fetch it: cotlens models get tiny"):
        interp.load(tmp_path / "out")
    with pytest.raises(UsageError, match=r"got none; fetch it: cotlens models get tiny"):
        new_adapters(made, 0)
    monkeypatch.setenv(named_models.HOME_VARIABLE, str(tmp_path / "empty"))
    with pytest.raises(UsageError, match=r"got none; fetch it: cotlens models get smollm2"):
        interp.load("smollm2-words-text")


def test_a_checkpoint_of_another_adapter_is_refused(base: Any, tmp_path: Path) -> None:
    train(recipe(checkpoint_every=2), 0, folder=tmp_path)
    with pytest.raises(StoreError, match="or of another version of the recipe"):
        train(recipe(checkpoint_every=2, adapter=AdapterShape(rank=3)), 0, folder=tmp_path)
