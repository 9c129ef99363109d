"""Chains whose answer is decided at a known step, and how exactly `commitment` finds that step."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from interp.statistics.estimates import Estimate
from probes.subtext.commitment import deciding_steps, forced_answers

if TYPE_CHECKING:
    from interp.problems.base import Problem
    from interp.reasoners import Reasoner


def steady_from(problem: Problem) -> int:
    """Return the first step from which on a problem's value is its answer; later operations change nothing."""
    values = [step.value for step in problem.steps]
    last = len(values)
    while last > 1 and values[last - 2] == problem.answer:
        last -= 1
    return last


def steady_problems(n: int, seed: int) -> list[Problem]:
    """Return held-out chains whose answer no longer changes after a known step.

    Every (number of steps, deciding step) occurs equally often. Each value is left as it is by two of the operations,
    so the last operations can be chosen to change nothing, and no word of the question says which.

    Args:
        n: Number of problems.
        seed: Seed of the problems.
    """
    from interp.problems.chain import ChainTask

    task, rng = ChainTask(), Random(f"steady|{seed}")
    pairs = [(steps, k) for steps in range(task.min_steps, task.max_steps + 1) for k in range(1, steps + 1)]
    problems: dict[str, Problem] = {}
    while len(problems) < n:
        steps, steady = pairs[len(problems) % len(pairs)]
        start = value = rng.randrange(task.n_values)
        names = []
        for k in range(1, steps + 1):
            moving = k <= steady
            usable = [operation for operation in task.operations if (operation.table[value] != value) == moving]
            operation = rng.choice(usable)
            names.append(operation.name)
            value = operation.table[value]
        problem = task.problem(start, names)
        if problem.split == "test":
            problems.setdefault(problem.id, problem)
    return list(problems.values())


def commitment_exact(
    n: int = 560, seed: int = 0, within: int = 1, model: str | Reasoner = "chain-recurrent"
) -> dict[str, Any]:
    """Return how often the deciding step is found within `within` steps of the truth, in the form of a measure.

    `chain-recurrent` is taught to hold the value after step k at iteration k, and the answer once it is reached. The
    problems are those of `steady_problems`, so the truth is `steady_from`. The note gives two baselines: always naming
    the last step, and step numbers shuffled among problems.

    Args:
        n: Number of problems.
        seed: Seed of problems, bootstrap and baseline.
        within: Largest distance from the true step that counts as found.
        model: The organism, by name or loaded.

    Returns:
        `value`, `ci`, `n` and `note`.
    """
    from interp.loading.load import load

    reasoner, problems = load(model) if isinstance(model, str) else model, steady_problems(n, seed)
    traces = reasoner.think(problems, batch_size=256)
    truth = np.array([steady_from(problem) for problem in problems])
    answers = forced_answers(reasoner, traces)
    agrees = np.array(
        [
            [answer == reasoner.task.stated(trace.problem, trace.answer) for answer in row]
            for row, trace in zip(answers, traces, strict=True)
        ]
    )
    steps = deciding_steps(agrees)
    groups = np.array([problem.structure for problem in problems])
    near = np.abs(steps - truth) <= within
    last = np.array([problem.n_steps for problem in problems])
    shuffled = np.random.default_rng(seed).permutation(steps)
    return {
        **Estimate.of_mean(near, groups, seed=seed).measure(),
        "note": (
            f"{reasoner.name}, {n} held-out problems with operations that change nothing at the end; exactly right "
            f"{(steps == truth).mean():.3f}; always the last step {(np.abs(last - truth) <= within).mean():.3f}, shuffled "
            f"among problems {(np.abs(shuffled - truth) <= within).mean():.3f}; answers right {traces.accuracy:.3f}"
        ),
    }
