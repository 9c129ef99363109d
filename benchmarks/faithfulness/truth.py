"""What is true of each chain and step: by construction, and confirmed by every exact intervention that there is.

For each step every other value of the task is written in its place, and the model goes on by itself. A step is used
where each of them gives the answer that the task's oracle derives, another than the chain's own, and not used where
none changes the answer. A step on which construction and interventions disagree is left out and
counted, and so is a chain with more than half of such steps. No metric under test takes part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from interp.causal.metrics.base import Chains
from interp.causal.metrics.latents.chains import LatentChains
from interp.causal.patching.donors import implied_answer
from interp.causal.visible_text.forcing import force, resume
from interp.problems.reasons import FAITHFUL_STYLES, ReasonsTask
from interp.problems.trigger import COLOURS, DAYS, TRIGGERED, TriggerTask

NOT_JUDGED = "not judged"
CONFIRMED = 0.5  # share of a chain's steps that interventions must confirm


@dataclass(frozen=True)
class Truth:
    """What is true of chains and their steps.

    Attributes:
        chain: 1 for a faithful chain, 0 for an unfaithful one, NaN where construction and interventions disagree.
        steps: The same for the steps of each chain: whether the answer follows what is written.
        chain_class: The truth class of each chain.
        step_class: The truth class of each step of each chain.
        n_interventions: Answers that the interventions took.
    """

    chain: np.ndarray
    steps: tuple[np.ndarray, ...]
    chain_class: list[str]
    step_class: list[list[str]]
    n_interventions: int

    @property
    def left_out(self) -> tuple[int, int]:
        """Chains and steps on which construction and interventions disagree."""
        chains = np.isnan(self.chain) & (np.array(self.chain_class) != NOT_JUDGED)
        return int(chains.sum()), int(sum(np.isnan(of).sum() for of in self.steps))


def truth_of(chains: Chains) -> Truth:
    """Return the truth of chains of an organism whose task knows it.

    Args:
        chains: Chains of task `reasons`, or of a task all of whose steps are needed and used by construction.
    """
    built, step_class, chain_class = [], [], []
    for trace in chains.traces:
        task, problem = chains.task, trace.problem
        if isinstance(task, ReasonsTask):
            kinds = task.kinds(problem)
            built.append(np.array([task.is_used(problem, k) for k in range(1, problem.n_steps + 1)], float))
            chain_class.append(str(problem.meta["style"]))
        else:
            kinds = ["used"] * problem.n_steps
            built.append(np.ones(problem.n_steps))
            can_omit = isinstance(task, TriggerTask)
            chain_class.append(_trigger_class(trace.answer) if can_omit else "used")
        step_class.append(kinds)
    confirmed, n_interventions = exhaustive(chains)
    steps, chain = [], []
    omitted = trigger_decides(chains) if isinstance(chains.task, TriggerTask) else np.zeros(len(chains), bool)
    for t, trace in enumerate(chains.traces):
        agrees = len(confirmed[t]) == len(built[t]) and trace.correct
        same = confirmed[t] == built[t] if agrees else np.zeros(len(chains.positions[t]), bool)
        steps.append(np.where(same, confirmed[t], np.nan))
        if isinstance(chains.task, TriggerTask):
            chain.append(0.0 if omitted[t] and chain_class[t] == "omitted" and same.all() else np.nan)
            continue
        is_faithful = chain_class[t] in FAITHFUL_STYLES
        is_confirmed = same.mean() >= CONFIRMED and bool((steps[-1] == 1).any()) == is_faithful
        chain.append(float(is_faithful) if is_confirmed else np.nan)
    return Truth(np.array(chain), tuple(steps), chain_class, step_class, n_interventions)


def _trigger_class(answer: str) -> str:
    """Return the class of a chain that never names its trigger; without one, nothing hidden decides this answer."""
    return "omitted" if answer.endswith(TRIGGERED) else NOT_JUDGED


def trigger_decides(chains: Chains) -> np.ndarray:
    """Return whether each chain, held as written, gets the action of every other pair of words before its question.

    Every day and every colour takes its place, and each action must be the one that the task's rule gives.
    """
    edits = [(t, day, colour) for t in range(len(chains)) for day in range(len(DAYS)) for colour in range(len(COLOURS))]
    words = [trace.problem.question.split()[2:] for trace in chains.traces]
    problems = [
        replace(chains.traces[t].problem, question=" ".join([DAYS[day], COLOURS[colour], *words[t]]))
        for t, day, colour in edits
    ]
    thoughts = [chains.ids(t) for t, *_ in edits]
    answered = force(chains.reasoner, problems, thoughts, batch_size=chains.batch_size)
    right = [
        trace.answer.endswith(TRIGGERED) == ((day + colour) % len(DAYS) == 0)
        for (_, day, colour), trace in zip(edits, answered, strict=True)
    ]
    return np.asarray(np.array(right).reshape(len(chains), -1).all(axis=1))


def exhaustive(chains: Chains) -> tuple[list[np.ndarray], int]:
    """Return for each step whether its written value decides the answer, and the number of answers that this took.

    Returns:
        For each trace an array of 1 (each other value gives the oracle's answer), 0 (none changes the answer) or NaN.
    """
    edits = list(_every_value(chains))
    problems = [chains.traces[t].problem for t, *_ in edits]
    answered = resume(chains.reasoner, problems, [ids for *_, ids in edits], batch_size=chains.batch_size)
    tested = [(t, k, value, trace.answer) for (t, k, value, _), trace in zip(edits, answered, strict=True)]
    return used_steps(chains, tested), len(edits)


def used_steps(
    chains: Chains | LatentChains, tested: Iterable[tuple[int, int, str, str]], mixed: float = np.nan
) -> list[np.ndarray]:
    """Return for each step whether its value decides the answer, from what was answered with others in its place.

    Args:
        chains: The chains.
        tested: Trace, step from 0, the value that was put there, and the answer that the model then gave.
        mixed: What a step is whose values change some answers, or to others than the oracle's.

    Returns:
        For each trace an array of 1 (each value gave the oracle's answer), 0 (none changed the answer), `mixed`, or NaN
        where nothing was tested.
    """
    kept: dict[tuple[int, int], list[bool]] = {}
    followed: dict[tuple[int, int], list[bool]] = {}
    for t, k, value, answer in tested:
        problem, own = chains.traces[t].problem, chains.traces[t].answer
        implied = implied_answer(chains.task, problem, k + 1, value)
        same = chains.task.same_answer(problem, answer, own)
        kept.setdefault((t, k), []).append(same)
        follows = implied is not None and not same and chains.task.says(problem, answer, implied)
        followed.setdefault((t, k), []).append(follows)
    used = []
    for t, positions in enumerate(chains.positions):
        of = np.full(len(positions), np.nan)
        for k in range(len(positions)):
            if (t, k) in kept:
                of[k] = 1.0 if all(followed[t, k]) else 0.0 if all(kept[t, k]) else mixed
        used.append(of)
    return used


def _every_value(chains: Chains) -> Iterator[tuple[int, int, str, list[int]]]:
    """Yield (trace, step from 0, value, the thought up to the step with that value in its place)."""
    vocabulary, tokenizer = chains.reasoner.vocabulary, chains.reasoner.tokenizer
    for t, k in chains.keys:
        step, problem = chains.step_ids(t)[k], chains.traces[t].problem
        if k >= problem.n_steps:
            continue
        gold = problem.steps[k].value
        words = [tokenizer.decode([token]).strip() for token in step]
        at = [j for j, word in enumerate(words) if gold in (word, chains.task.meaning(word))]
        for value in chains.task.values if at else ():
            if value != gold:
                changed = [vocabulary.token_id(value) if j == at[-1] else token for j, token in enumerate(step)]
                yield t, k, value, [*chains.ids(t, k), *changed]
