"""Counterfactual following: change one constant, or one edge, and see whether the answer goes with it.

A reasoner that computes follows every rewrite; one that has learned what answers look like keeps to its old answer.
Over the checkpoints of a training it shows when a model begins to follow.
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
from interp.statistics.intervals import grouped_mean_interval

if TYPE_CHECKING:
    from interp.problems.base import Problem
    from interp.reasoners import Reasoner


def follow_rewrites(
    reasoner: Reasoner, problems: Sequence[Problem], *, seed: int = 0, batch_size: int = 256
) -> pd.DataFrame:
    """One row for each problem and its rewrite: structure, n_steps, before, after, expected, moves (whether the right
    answer is another one), followed, kept (the old answer stays although it should move), right_before.

    Raises `UsageError` where the task cannot rewrite its problems.
    """
    task = make_task(problems[0].task)
    if not task.rewritings:
        raise UsageError(f"task {task.name} cannot rewrite its problems.")
    rng, pairs = Random(seed), []
    for problem in problems:
        try:
            pairs.append((problem, task.rewrite(problem, rng)))
        except UsageError:
            continue  # a graph in which no single edge can be turned
    if not pairs:
        raise UsageError(f"none of {len(problems)} problems of task {task.name} could be rewritten.")
    before = reasoner.think([old for old, _ in pairs], batch_size=batch_size)
    after = reasoner.think([new for _, new in pairs], batch_size=batch_size)
    out = []
    for (old, new), was, now in zip(pairs, before, after, strict=True):
        moves = new.answer != old.answer
        kept = moves and now.answer == was.answer
        told = (was.answer, now.answer, new.answer, moves, now.answer == new.answer, kept, was.correct)
        out.append((old.structure, old.n_steps, *told))
    columns = ["structure", "n_steps", "before", "after", "expected", "moves", "followed", "kept", "right_before"]
    return pd.DataFrame(out, columns=columns)


def over_checkpoints(
    reasoners: Mapping[str, Reasoner],
    problems: Sequence[Problem],
    *,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """The same rewrites put to each checkpoint; one row for each.

    Of the rewrites that move the right answer (`n`): `followed`, with its grouped 95 % interval; `shuffled`, how often
    the answer is what another problem's rewrite asks for, which is what luck gives; `kept`, how often the old answer
    stayed. Of those that leave it as it was: `needless`, how often the answer moved all the same, NaN where there are
    none. `right_before` is the share of unchanged problems that are answered right.
    """
    out = []
    for name, reasoner in reasoners.items():
        found = follow_rewrites(reasoner, problems, seed=seed, batch_size=batch_size)
        moving, still = found[found["moves"]], found[~found["moves"]]
        if moving.empty:
            raise UsageError(f"none of {len(found)} rewrites moves the right answer. Take more problems.")
        ci = grouped_mean_interval(moving["followed"].to_numpy(float), moving["structure"].to_numpy(), seed=seed)
        others = np.random.default_rng(seed).permutation(moving["expected"].to_numpy())
        out.append(
            {
                "checkpoint": name,
                "followed": moving["followed"].mean(),
                "followed_ci": list(ci),
                "shuffled": float((moving["after"].to_numpy() == others).mean()),
                "kept": moving["kept"].mean(),
                "needless": (still["after"] != still["before"]).mean() if len(still) else float("nan"),
                "right_before": found["right_before"].mean(),
                "n": len(moving),
            }
        )
        if progress:
            progress(len(out), len(reasoners))
    return pd.DataFrame(out)
