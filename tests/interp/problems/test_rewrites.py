"""Rewritten problems differ in the rewritten word only, and their answers are the oracle's."""

from __future__ import annotations

from random import Random

import pytest

import interp
from interp.errors import UsageError

SPECS = ["chain", "chain:order=shuffled", "variables", "trigger", "graph"]


@pytest.mark.parametrize("spec", SPECS)
def test_one_word_changes_and_the_gold_steps_are_right(spec: str) -> None:
    task, rng = interp.task(spec), Random(0)
    for problem in task.generate(40, seed=1, split="test"):
        new = task.rewrite(problem, rng)
        before, after = problem.question.split(), new.question.split()
        assert len(before) == len(after) and sum(a != b for a, b in zip(before, after, strict=True)) == 1
        verdict = task.verify(new, " ".join([*(step.text for step in new.steps), new.answer]))
        assert verdict.answer and all(verdict.steps)
        assert new.structure != problem.structure and new.n_steps == problem.n_steps
        if spec == "graph":
            assert new.answer != problem.answer
        else:
            assert task.counterfactual(problem, 1, new.steps[0].value) == new.answer


@pytest.mark.parametrize("spec", ["chain", "chain:order=shuffled", "variables"])
def test_rewritten_operations_keep_names_and_places(spec: str) -> None:
    task, rng = interp.task(spec), Random(0)
    for problem in task.generate(20, seed=2, split="test"):
        new = task.rewrite(problem, rng, "operations")
        assert task.verify(new, " ".join([*(step.text for step in new.steps), new.answer])).answer
        if spec == "variables":
            assert new.meta["path"] == problem.meta["path"]


def test_what_cannot_be_rewritten_is_refused() -> None:
    task = interp.task("graph")
    (problem,) = task.generate(1, seed=0, split="test")
    with pytest.raises(
        UsageError, match=r"expected a known rewriting of task graph, got 'operations'\. Known: constant"
    ):
        task.rewrite(problem, Random(0), "operations")
    with pytest.raises(UsageError, match="expected a known rewriting of task graph, got 'names'"):
        task.rewrite(problem, Random(0), "names")
