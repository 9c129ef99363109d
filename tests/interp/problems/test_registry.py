"""The registry of tasks: built-in ones, and those that another package adds through an entry point."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from random import Random

import pytest

from interp.errors import UsageError
from interp.problems import TASKS, Problem, Step, Task, Verdict, task, task_names
from interp.problems.base import Split, split_of, structure_hash
from interp.runtime import plugins


class DoublingTask(Task):
    """A task of another package: the double of a number."""

    name = "doubling"
    min_steps = max_steps = 1

    def __init__(self, largest: int | str = 1000) -> None:
        self.largest = int(largest)
        self.spec = f"doubling:largest={self.largest}"
        self.values = tuple(str(2 * number) for number in range(self.largest + 1))

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """Yield problems of one split without end."""
        while True:
            number = rng.randint(0, self.largest)
            structure = structure_hash(self.name, number)
            if split_of(structure) == split:
                double = str(2 * number)
                steps = (Step(double, double),)
                yield Problem(structure, self.spec, f"{number} ?", double, steps, structure, split, f"2 * {number}")

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check the last word."""
        words = text.split()
        return Verdict.of_steps(words[-1:] == [problem.answer], [], problem.n_steps)

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """Return the value that was set."""
        return value

    def vocabulary(self) -> list[str]:
        """Return every word."""
        return [*map(str, range(2 * self.largest + 1)), "?"]


@pytest.fixture
def doubling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register `DoublingTask` as an installed package would."""
    entry = EntryPoint(name="doubling", value=f"{__name__}:DoublingTask", group="cotlens.tasks")
    monkeypatch.setattr(EntryPoint, "load", lambda self: DoublingTask)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry] if group == "cotlens.tasks" else [])


def test_a_task_of_another_package_is_picked_by_name(doubling: None) -> None:
    """It takes options and has the defaults of `Task`."""
    made = task("doubling:largest=50")
    assert made.spec == "doubling:largest=50" and isinstance(made, Task)
    (problem,) = made.generate(1, seed=0)
    assert made.verify(problem, f"{problem.steps[0].text} {problem.answer}") == Verdict(True, (None,), None)
    assert made.facts == {} and made.fact(problem, "any", (), 0) is None and made.entities(problem) == ()
    assert made.posterior(problem, 1) == {} and made.guess_sets(problem) == ()
    assert made.meaning("7") == "7" and made.synonyms("7") == ("7",)
    with pytest.raises(UsageError, match="expected a task that can rewrite its problems, got doubling"):
        made.rewrite(problem, Random(0))


def test_the_registry_lists_built_in_tasks_and_plugins(doubling: None) -> None:
    """An unknown name or option of a plugin is refused like that of a built-in task."""
    assert task_names() == [*TASKS, "doubling"]
    with pytest.raises(UsageError, match="expected a known task, got 'dubling'; did you mean 'doubling'"):
        task("dubling")
    with pytest.raises(UsageError, match="expected a known option of task doubling, got 'largst'"):
        task("doubling:largst=3")


# Task `questions` needs a file and `transcripts` traces; they inherit the defaults that the plugin's test covers.
@pytest.mark.parametrize("name", [name for name in TASKS if name not in ("questions", "transcripts")])
def test_what_a_task_declares_is_what_it_does(name: str) -> None:
    """`rewritings` and `has_posterior` agree with the methods."""
    made = task(name)
    problem = made.generate(1, seed=0)[0]
    for what in ("constant", "operations"):
        if what not in made.rewritings:
            with pytest.raises(UsageError, match="rewrit"):
                made.rewrite(problem, Random(0), what)
        elif name != "graph":  # not every graph has an edge that can be redirected
            assert made.rewrite(problem, Random(0), what).question != problem.question
    assert made.has_posterior or all(made.posterior(problem, k) == {} for k in range(1, problem.n_steps + 1))
