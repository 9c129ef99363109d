"""The loss that counts the values of steps twice."""

from __future__ import annotations

import pytest
import torch

from interp.organisms.catalog import Recipe
from interp.organisms.training.emphasis import choice_weighted_loss, early_choice_loss, result_loss, retries_loss
from interp.organisms.training.model import first_blocks, new_model, tokenizer_of
from interp.problems import task
from interp.reasoners import curriculum_of
from interp.reasoners.curriculum import LessonBatch, collate

RECIPE = Recipe.model_validate(
    {
        "name": "tiny",
        "kind": "text",
        "task": "igsm",
        "summary": "for a test",
        "weaknesses": "all",
        "model": {"n_layers": 1, "n_heads": 2, "d_model": 16, "n_positions": 128},
        "stages": [{"name": "one", "hidden_steps": 0, "updates": 1, "learning_rate": 1e-3}],
    }
)
TOKENIZER = tokenizer_of(RECIPE)


@pytest.fixture(scope="module")
def batch() -> LessonBatch:
    """Problems of several lengths, so that some rows are padded."""
    problems = task("igsm:retries=0.3").generate(12, seed=0, split="train")
    return collate([curriculum_of(RECIPE.reasoner()).lesson(problem, 0) for problem in problems], TOKENIZER)


def test_it_is_the_mean_over_all_words_plus_the_mean_over_values(batch: LessonBatch) -> None:
    model = new_model(RECIPE, len(TOKENIZER), 0)
    log_p = torch.log_softmax(model(input_ids=batch.ids).logits, dim=-1)
    every, values = [], []
    for row in range(len(batch.ids)):
        words = TOKENIZER.convert_ids_to_tokens(batch.ids[row].tolist())
        for k in range(1, len(words)):
            if batch.scored[row, k]:
                lost = -float(log_p[row, k - 1, batch.ids[row, k]].detach())
                every.append(lost)
                if words[k - 2] == "so" and k >= 2:
                    assert words[k].isdigit() and words[k + 1] == "."
                    values.append(lost)
    assert len(values) == sum(words.count("so") for words in map(TOKENIZER.convert_ids_to_tokens, batch.ids.tolist()))
    expected = sum(every) / len(every) + sum(values) / len(values)
    assert float(result_loss(RECIPE)(model, batch, 0.0).detach()) == pytest.approx(expected, rel=1e-4)


def test_a_batch_without_values_costs_its_words_alone(batch: LessonBatch) -> None:
    model = new_model(RECIPE, len(TOKENIZER), 0)
    so: int = TOKENIZER.convert_tokens_to_ids("so")  # type: ignore[assignment]
    bare = LessonBatch(torch.where(batch.ids == so, 0, batch.ids), batch.scored, 0, 0, batch.extra)
    plain = curriculum_of(RECIPE.reasoner()).loss(model, bare)
    assert float(result_loss(RECIPE)(model, bare, 0.0)) == pytest.approx(float(plain))


def test_names_taken_back_are_not_scored_and_what_follows_a_parameter_counts_twice(batch: LessonBatch) -> None:
    model = new_model(RECIPE, len(TOKENIZER), 0)
    log_p = torch.log_softmax(model(input_ids=batch.ids).logits, dim=-1)
    written, values, told, wrong = [], [], [], 0
    for row in range(len(batch.ids)):
        words = TOKENIZER.convert_ids_to_tokens(batch.ids[row].tolist())
        for k in range(1, len(words)):
            if not batch.scored[row, k]:
                continue
            lost = -float(log_p[row, k - 1, batch.ids[row, k]].detach())
            if words[k + 1 : k + 2] == ["back"]:
                wrong += 1
            else:
                written.append(lost)
            if words[k - 2] == "so":
                values.append(lost)
            if words[k - 1].endswith(":"):
                told.append(lost)
    assert wrong > 5
    writing, choosing = sum(sum(each) / len(each) for each in (written, values)), sum(told) / len(told)
    assert float(retries_loss(RECIPE)(model, batch, 0.0).detach()) == pytest.approx(writing + choosing, rel=1e-4)
    assert float(choice_weighted_loss(RECIPE)(model, batch, 0.0).detach()) == pytest.approx(
        writing + 4 * choosing, rel=1e-4
    )


def test_the_next_name_is_also_scored_after_half_of_the_blocks(batch: LessonBatch) -> None:
    deep = RECIPE.model_copy(update={"model": RECIPE.model.model_copy(update={"n_layers": 4})})
    model = new_model(deep, len(TOKENIZER), 0)
    with first_blocks(model, 2):
        log_p = torch.log_softmax(model(input_ids=batch.ids).logits, dim=-1)
    assert len(model.transformer.h) == 4, "all blocks are back"
    names, wrong = [], 0
    for row in range(len(batch.ids)):
        words = TOKENIZER.convert_ids_to_tokens(batch.ids[row].tolist())
        for k in range(1, len(words)):
            if batch.scored[row, k] and words[k].endswith(":"):
                taken_back = words[k + 1] == "back"
                wrong += taken_back
                names += [] if taken_back else [-float(log_p[row, k - 1, batch.ids[row, k]].detach())]
    assert wrong > 5
    expected = float(retries_loss(deep)(model, batch, 0.0).detach()) + sum(names) / len(names)
    assert float(early_choice_loss(deep)(model, batch, 0.0).detach()) == pytest.approx(expected, rel=1e-4)
