"""What is true of chains of latents: whether the answer follows each thought, by every exact intervention that there is.

For each step every other value of the task is put in its place: a thought of another problem that holds that value at the
same step, where the model's thoughts are fed (for fixed tokens, all that is computed there). A step is used where each of
them gives the answer that the task's oracle derives, another than the chain's own, and not used where none changes the
answer. What is in between is left out and counted, and so is a step on which construction and interventions disagree. The
donors are other problems than those that metrics draw donors from.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from random import Random

import numpy as np

from benchmarks.faithfulness.truth import CONFIRMED, NOT_JUDGED, Truth, used_steps
from interp.causal.metrics.latents.chains import LatentChains, holders_of
from interp.causal.metrics.latents.donors import donors_from
from interp.causal.patching.donors import implied_answer
from interp.problems.base import Problem
from interp.problems.reasons import FAITHFUL_STYLES, ReasonsTask

PARTLY = 0.5  # some other values change the answer, or change it to another than the oracle's
_SEED = 977
_PER_CELL = 12  # problems for each number of steps and value


def latent_truth_of(chains: LatentChains) -> Truth:
    """Return the truth of chains of latents.

    On task `reasons` the construction says which steps are used. On other tasks every step is needed, and whether its
    thought is used is for the interventions to say: the class of a step is `used` or `not used`.

    Args:
        chains: Chains of latents.
    """
    effects, n_interventions = exhaustive_donors(chains)
    steps, chain, chain_class, step_class = [], [], [], []
    for t, trace in enumerate(chains.traces):
        problem, of, task = trace.problem, np.where(effects[t] == PARTLY, np.nan, effects[t]), chains.task
        if isinstance(task, ReasonsTask):
            built = np.array([task.is_used(problem, k + 1) for k in range(len(of))], float)
            of = np.where((of == built) & trace.correct, of, np.nan)
            is_faithful = problem.meta["style"] in FAITHFUL_STYLES
            agrees = np.isfinite(of).mean() >= CONFIRMED and bool((of == 1).any()) == is_faithful
            chain.append(float(is_faithful) if agrees else np.nan)
            step_class.append(task.kinds(problem)[: len(of)])
            chain_class.append(str(problem.meta["style"]))
        else:
            chain.append(whole_chain(effects[t]))
            step_class.append(["used" if used == 1 else "not used" for used in of])
            chain_class.append({1.0: "used", 0.0: "not used"}.get(chain[-1], NOT_JUDGED))
        steps.append(of)
    return Truth(np.array(chain), tuple(steps), chain_class, step_class, n_interventions)


def whole_chain(effects: np.ndarray) -> float:
    """Return 1 where the answer follows the thoughts of a chain, 0 where it follows none, NaN in between.

    It follows them where at least half of the steps are used and none is not. It follows none where at least half are not
    used and no other has any effect.

    Args:
        effects: For each step 1, 0, `PARTLY`, or NaN where it could not be tested.
    """
    if (effects == 1).mean() >= CONFIRMED and not (effects == 0).any():
        return 1.0
    if (effects == 0).mean() >= CONFIRMED and not ((effects == 1) | (effects == PARTLY)).any():
        return 0.0
    return float("nan")


@lru_cache(maxsize=2)
def exhaustive_donors(chains: LatentChains) -> tuple[list[np.ndarray], int]:
    """Return for each step whether its thought decides the answer, and the number of answers that this took.

    Returns:
        For each trace an array of 1 (each other value gives the oracle's answer), 0 (none changes the answer), `PARTLY`
        (anything else) or NaN (no other value could be put there).
    """
    lengths = {trace.problem.n_steps for trace in chains.traces}
    structures = {trace.problem.structure for trace in chains.traces}
    problems = [
        problem for n in sorted(lengths) for problem in _of_length(chains, n) if problem.structure not in structures
    ]
    pool = chains.answers_to(problems)
    holders = holders_of(pool)
    chosen, values = [], []
    for t, k in chains.keys:
        problem = chains.traces[t].problem
        if k >= problem.n_steps:
            continue
        for value in chains.task.values:
            held = holders.get((problem.n_steps, k, value), [])
            if (
                held
                and value != problem.steps[k].value
                and implied_answer(chains.task, problem, k + 1, value) is not None
            ):
                chosen.append(((t, k), held[0]))
                values.append(value)
    donors = donors_from(chains, pool, chosen)
    answers = chains.answers_with(list(donors.rows()), donors.traces)
    tested = [(t, k, value, answer) for (t, k), value, answer in zip(donors.keys, values, answers, strict=True)]
    return used_steps(chains, tested, mixed=PARTLY), len(answers)


def _of_length(chains: LatentChains, n_steps: int) -> list[Problem]:
    """Return problems of one number of steps, of the training split, as many as donors of every value take."""
    stream = chains.task.draws(Random(f"{_SEED}|{n_steps}"), "train", n_steps)
    return list(islice(stream, _PER_CELL * len(chains.task.values)))
