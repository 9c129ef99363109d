"""The breadth loss: each thought is trained on all nodes at its distance from the root."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from interp.errors import UsageError
from interp.organisms.catalog import Recipe, recipe
from interp.organisms.training.batches import problem_batches
from interp.organisms.training.breadth import breadth_loss, frontiers
from interp.organisms.training.model import tokenizer_of
from interp.problems import Problem, task
from interp.reasoners import curriculum_of
from interp.reasoners.curriculum import LessonBatch, collate, next_token_loss


@pytest.fixture(scope="module")
def made() -> Recipe:
    return recipe("graph-coconut-breadth").model_copy(update={"batch_size": 12})


@pytest.fixture(scope="module")
def problems(made: Recipe) -> list[Problem]:
    return next(problem_batches(task("graph"), made, Random(0)))


@pytest.fixture(scope="module")
def batch(made: Recipe, problems: list[Problem]) -> LessonBatch:
    lessons = [curriculum_of(made.reasoner()).lesson(problem, 4) for problem in problems]
    return collate(lessons, tokenizer_of(made))


def wanted(made: Recipe, problem: Problem, step: int) -> set[int]:
    graph, tokenizer = task("graph"), tokenizer_of(made)
    nodes = [node for node in graph.entities(problem) if graph.fact(problem, "frontier", (node,), step) == "yes"]
    return set(tokenizer.convert_tokens_to_ids(nodes))


def test_frontiers_are_the_tasks_own(made: Recipe, problems: list[Problem], batch: LessonBatch) -> None:
    n_steps = problems[0].n_steps
    result = frontiers(batch.ids[:, : batch.first_thought - 1], n_steps, len(tokenizer_of(made)))
    for row, problem in enumerate(problems):
        for step in range(1, n_steps + 1):
            assert set(result[row, step - 1].nonzero()[:, 0].tolist()) == wanted(made, problem, step)


def test_the_loss_is_least_where_each_thought_is_the_whole_frontier(
    made: Recipe, problems: list[Problem], batch: LessonBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With given logits: only the nodes of a frontier, all alike, is better than the path node alone or anything."""
    n_vocabulary = len(tokenizer_of(made))
    tokenizer = tokenizer_of(made)

    def logits(of: Any) -> torch.Tensor:
        result = torch.zeros(len(problems), batch.ids.shape[1], n_vocabulary)
        for row, problem in enumerate(problems):
            for step in range(1, problem.n_steps + 1):
                result[row, batch.first_thought - 2 + step, list(of(problem, step))] = 20.0
        return result

    def path(problem: Problem, step: int) -> set[int]:
        return {int(tokenizer.convert_tokens_to_ids(problem.steps[step - 1].value))}

    curriculum_class = type(curriculum_of(made.reasoner()))
    scores = {}
    for name, given in {
        "frontier": logits(lambda problem, step: wanted(made, problem, step)),
        "path": logits(path),
        "nothing": logits(lambda problem, step: set()),
    }.items():
        monkeypatch.setattr(curriculum_class, "logits", lambda self, model, batch, given=given: given)
        scores[name] = float(breadth_loss(made)(SimpleNamespace(), batch, 0.0) - next_token_loss(given, batch))
    sizes = torch.tensor([[len(wanted(made, p, k)) for k in range(1, p.n_steps + 1)] for p in problems]).float()
    assert sizes.max() > 1, "no frontier is wider than the path, so nothing is tested"
    assert scores["frontier"] == pytest.approx(float(sizes.log().mean()), abs=1e-4)
    assert scores["frontier"] < scores["nothing"]
    assert scores["frontier"] < scores["path"]


def test_other_tasks_are_refused() -> None:
    with pytest.raises(
        UsageError, match="expected task graph for the breadth loss, got 'chain' in recipe chain-coconut"
    ):
        breadth_loss(recipe("chain-coconut"))
