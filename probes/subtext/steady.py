"""Chains whose answer is decided at a known step, and how exactly that step is found."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from interp.statistics.intervals import grouped_mean_interval
from probes.subtext.commitment import decided_at, forced_answers

if TYPE_CHECKING:
    from interp.problems.base import Problem
    from interp.reasoners import Reasoner


def steady_from(problem: Problem) -> int:
    """The first step from which on a problem's value is its answer; operations that change nothing come after it."""
    values = [step.value for step in problem.steps]
    last = len(values)
    while last > 1 and values[last - 2] == problem.answer:
        last -= 1
    return last


def steady_problems(n: int, seed: int) -> list[Problem]:
    """Held-out chains whose answer stands from a known step on: every (number of steps, step) from 2 to 5 equally often.

    Every value is left as it is by two of the operations, so the last ones can be chosen to change nothing. No word of
    the question says which.
    """
    from interp.problems.chain import ChainTask

    task, rng = ChainTask(), Random(f"steady|{seed}")
    kinds = [(steps, k) for steps in range(task.min_steps, task.max_steps + 1) for k in range(1, steps + 1)]
    found: dict[str, Problem] = {}
    while len(found) < n:
        steps, steady = kinds[len(found) % len(kinds)]
        start = value = rng.randrange(task.n_values)
        names = []
        for k in range(1, steps + 1):
            moving = k <= steady
            usable = [each for each in task.operations if (each.table[value] != value) == moving]
            chosen = rng.choice(usable)
            names.append(chosen.name)
            value = chosen.table[value]
        problem = task.problem(start, names)
        if problem.split == "test":
            found.setdefault(problem.id, problem)
    return list(found.values())


def commitment_exact(
    n: int = 560, seed: int = 0, within: int = 1, model: str | Reasoner = "chain-recurrent"
) -> dict[str, Any]:
    """How often the step of decision is found within `within` of the truth, in the form of a measure.

    `chain-recurrent` has been taught to hold the value after step k at iteration k, and the answer once it is reached;
    the problems are those of `steady_problems`, so the truth is `steady_from`. Beside it stand always naming the last
    step, and the same on step numbers shuffled among problems.
    """
    from interp.loading.load import load

    reasoner, problems = load(model) if isinstance(model, str) else model, steady_problems(n, seed)
    traces = reasoner.think(problems, batch_size=256)
    truth = np.array([steady_from(problem) for problem in problems])
    answers = forced_answers(reasoner, traces)
    agrees = np.array([[a == trace.answer for a in each] for each, trace in zip(answers, traces, strict=True)])
    found = decided_at(agrees)
    groups = np.array([problem.structure for problem in problems])
    near = np.abs(found - truth) <= within
    last = np.array([problem.n_steps for problem in problems])
    low, high = grouped_mean_interval(near, groups, seed=seed)
    shuffled = np.random.default_rng(seed).permutation(found)
    return {
        "value": float(near.mean()),
        "ci": [low, high],
        "n": n,
        "note": (
            f"{reasoner.name}, {n} held-out problems with operations that change nothing at the end; exactly right "
            f"{(found == truth).mean():.3f}; always the last step {(np.abs(last - truth) <= within).mean():.3f}, shuffled "
            f"among problems {(np.abs(shuffled - truth) <= within).mean():.3f}; answers right {traces.accuracy:.3f}"
        ),
    }
