"""Counterfactual following: change one constant or one edge of a problem, and test whether the answer follows.

A reasoner that computes follows every rewrite; one that guesses keeps its old answer. Over the checkpoints of a
training it shows when a model begins to compute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.errors import UsageError
from interp.problems import task as make_task
from interp.runtime.progress import Progress
from interp.statistics.estimates import Estimate

if TYPE_CHECKING:
    from interp.problems.base import Problem, Task
    from interp.reasoners import Reasoner


def follow_rewrites(
    reasoner: Reasoner, problems: Sequence[Problem], *, seed: int = 0, batch_size: int = 256
) -> pd.DataFrame:
    """Answer each problem and a rewrite of it.

    Args:
        reasoner: Any reasoner.
        problems: Problems of a task that can rewrite them.
        seed: Seed of the rewrites.
        batch_size: Problems that are thought about at once.

    Returns:
        One row for each problem: structure, n_steps, before and after (the answers), expected (the right answer of
        the rewrite), moves (whether the right answer changes), followed, kept (the old answer stays although the
        right one changes), right_before.

    Raises:
        UsageError: The task cannot rewrite its problems, or none of these.
    """
    task = make_task(problems[0].task)
    if not task.rewritings:
        raise UsageError(
            f"expected a task that can rewrite its problems, got {task.name}; choose a task such as chain."
        )
    rng, pairs, reasons = Random(seed), [], []
    for problem in problems:
        try:
            pairs.append((problem, task.rewrite(problem, rng)))
        except UsageError as error:
            reasons.append(str(error))  # a graph in which no single edge can be turned
    if not pairs:
        raise UsageError(f"none of {len(problems)} problems can be rewritten: {reasons[0]}")
    before = reasoner.think([old for old, _ in pairs], batch_size=batch_size)
    after = reasoner.think([new for _, new in pairs], batch_size=batch_size)
    rows = []
    for (old, new), was, now in zip(pairs, before, after, strict=True):
        moves = new.answer != old.answer
        kept = moves and task.same_answer(old, now.answer, was.answer)
        followed = task.says(new, now.answer, new.answer)
        answers = (was.answer, now.answer, new.answer, moves, followed, kept, was.correct)
        rows.append((old.structure, old.n_steps, *answers))
    columns = ["structure", "n_steps", "before", "after", "expected", "moves", "followed", "kept", "right_before"]
    return pd.DataFrame(rows, columns=columns)


def over_checkpoints(
    reasoners: Mapping[str, Reasoner],
    problems: Sequence[Problem],
    *,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Measure following on the same rewrites for each checkpoint.

    Args:
        reasoners: Name and reasoner of each checkpoint.
        problems: Problems of a task that can rewrite them.
        seed: Seed of the rewrites.
        batch_size: Problems that are thought about at once.
        progress: Called with (checkpoints done, checkpoints in all).

    Returns:
        One row for each checkpoint. Of the rewrites that change the right answer (`n`): followed, followed_ci (95 %, by
        structure), shuffled (the answer is what another problem's rewrite asks for, which measures chance), kept (the
        old answer stayed). Of the others: needless (the answer changed all the same; NaN where there are none). And
        right_before, the accuracy on the unchanged problems.

    Raises:
        UsageError: No rewrite changes the right answer.
    """
    rows, task = [], make_task(problems[0].task)
    for name, reasoner in reasoners.items():
        rewrites = follow_rewrites(reasoner, problems, seed=seed, batch_size=batch_size)
        moving, still = rewrites[rewrites["moves"]], rewrites[~rewrites["moves"]]
        if moving.empty:
            raise UsageError(
                f"expected rewrites that change the right answer, got none among {len(rewrites)}; take more problems."
            )
        followed = Estimate.of_mean(moving["followed"].to_numpy(float), moving["structure"].to_numpy(), seed=seed)
        others = np.random.default_rng(seed).permutation(moving["expected"].to_numpy())
        rows.append(
            {
                "checkpoint": name,
                "followed": followed.value,
                "followed_ci": list(followed.interval),
                "shuffled": float(
                    np.mean([task.says(problems[0], *pair) for pair in zip(moving["after"], others, strict=True)])
                ),
                "kept": moving["kept"].mean(),
                "needless": _share_changed(task, problems[0], still),
                "right_before": rewrites["right_before"].mean(),
                "n": followed.n,
            }
        )
        if progress:
            progress(len(rows), len(reasoners))
    return pd.DataFrame(rows)


def _share_changed(task: Task, problem: Problem, rewrites: pd.DataFrame) -> float:
    """Return how often the answer changed; NaN without rewrites."""
    pairs = zip(rewrites["after"], rewrites["before"], strict=True)
    changed = [not task.same_answer(problem, after, before) for after, before in pairs]
    return float(np.mean(changed)) if changed else float("nan")
