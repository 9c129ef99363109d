"""Our own metrics: the states of a step with another value put in place of its own, and whether the answer changes.

A donor is the same chain with another value written at one step, so that its states at that step differ by the value
alone. None of the metrics reads the task's oracle: they ask whether the answer changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from random import Random

import numpy as np
import pandas as pd

from interp.causal.metrics.base import Chains, FaithfulnessScores, largest_of_steps
from interp.causal.metrics.mistaken import mistaken_step
from interp.causal.metrics.readings import answer_start
from interp.causal.patching.patch import CACHE, EVERYTHING, addresses_of, answers_after
from interp.causal.patching.states import states
from interp.causal.visible_text.forcing import resume
from interp.reasoners.interventions import Intervention, replace_with
from interp.traces import TraceSet

N_DONORS = 2


@dataclass(frozen=True)
class StepDonors:
    """Chains with another value at one step.

    Attributes:
        keys: (trace, step) that each donor is of.
        traces: The donors: the chain up to the step, another value there, and what the model wrote on.
        positions: The positions at which donor and chain differ, of each donor.
    """

    keys: list[tuple[int, int]]
    traces: TraceSet
    positions: list[list[int]]


@lru_cache(maxsize=2)
def step_donors(chains: Chains) -> StepDonors | None:
    """Return up to two donors for each step that can be given another value; None where no step can.

    A donor's step has as many tokens as the chain's own, so that positions agree.
    """
    rng = Random(f"donors|{chains.seed}")
    keys, beginnings, positions = [], [], []
    for t, k in chains.keys:
        step = chains.step_ids(t)[k]
        drawn = [mistaken_step(chains, t, k, rng) for _ in range(2 * N_DONORS)]
        distinct = [other for j, other in enumerate(drawn) if other is not None and other not in drawn[:j]]
        for other in [other for other in distinct if len(other) == len(step)][:N_DONORS]:
            keys.append((t, k))
            beginnings.append([*chains.ids(t, k), *other])
            pairs = zip(chains.positions[t][k], step, other, strict=True)
            positions.append([position for position, own, new in pairs if own != new])
    if not keys:
        return None
    problems = [chains.traces[t].problem for t, _ in keys]
    traces = resume(chains.reasoner, problems, beginnings, batch_size=chains.batch_size)
    return StepDonors(keys, traces, positions)


def state_interchange(chains: Chains) -> FaithfulnessScores:
    """Put the donor's states in place of a step's value, in every layer, while the model writes on.

    A step's score is the share of donors that change the answer. A chain's score is that of its most effective step: a
    chain is faithful where what it writes anywhere decides the answer.
    """
    return _interchanged(chains, "state interchange", EVERYTHING)


def kv_interchange(chains: Chains) -> FaithfulnessScores:
    """Return the same for the keys and values of the value alone: what later positions read of it."""
    return _interchanged(chains, "K/V interchange", CACHE)


def _interchanged(chains: Chains, name: str, address: str) -> FaithfulnessScores:
    donors = step_donors(chains)
    if donors is None:
        return chains.scores(name, None, None, 0)
    rows = [
        {"run": run, "trace": t, "target": position, "donor": run, "source": position}
        for run, ((t, _), positions) in enumerate(zip(donors.keys, donors.positions, strict=True))
        for position in positions
    ]
    answers = answers_after(
        chains.reasoner,
        chains.traces,
        pd.DataFrame(rows),
        donors=donors.traces,
        address=address,
        batch_size=chains.batch_size,
    )
    changed = [
        not chains.task.same_answer(chains.traces[t].problem, answer, chains.traces[t].answer)
        for (t, _), answer in zip(donors.keys, answers, strict=True)
    ]
    return _by_donor(chains, name, donors, np.array(changed, float))


def path_patching(chains: Chains) -> FaithfulnessScores:
    """Put the donor's keys and values in place of a step's while its text stays as written, and predict the answer again.

    So only paths from the step to the answer count that do not lead through later text. A step's score is by how much
    the probability of the chain's own answer falls. A chain's score is that of its most effective step.

    References:
        Goldowsky-Dill et al., "Localizing Model Behavior with Path Patching", arXiv 2304.05969.
    """
    name, donors = "path patching", step_donors(chains)
    if donors is None:
        return chains.scores(name, None, None, 0)
    replayed = [chains.traces[t] for t, _ in donors.keys]
    rows = np.array([(run, position) for run, of in enumerate(donors.positions) for position in of])
    interventions = [
        Intervention(
            address,
            rows,
            replace_with(states(chains.reasoner, donors.traces, address, rows, batch_size=chains.batch_size)),
        )
        for address in addresses_of(chains.reasoner, CACHE)
    ]
    before = answer_probability(chains, list(chains.traces), [])
    after = answer_probability(chains, replayed, interventions)
    fallen = np.array([before[t] for t, _ in donors.keys]) - after
    return _by_donor(chains, name, donors, fallen)


def answer_probability(chains: Chains, traces: list, interventions: list[Intervention]) -> np.ndarray:  # type: ignore[type-arg]
    """Return the probability of the first token of each trace's answer."""
    probabilities: dict[int, float] = {}

    def keep(activations, batch) -> None:  # type: ignore[no-untyped-def]
        for b, k in enumerate(batch.traces.tolist()):
            first = answer_start(traces[k])
            logits = chains.reasoner.unembed(activations[b, first - 1]).float()
            probabilities[k] = float(logits.softmax(-1)[traces[k].token_ids[first]])

    chains.reasoner.replay(
        traces, hooks={"ln_final.hook_out": keep}, batch_size=chains.batch_size, interventions=interventions
    )
    return np.array([probabilities[k] for k in range(len(traces))])


def _by_donor(chains: Chains, name: str, donors: StepDonors, effects: np.ndarray) -> FaithfulnessScores:
    means = pd.Series(effects).groupby(pd.MultiIndex.from_tuples(donors.keys)).mean()
    steps = chains.by_step(means.tolist(), [(int(t), int(k)) for t, k in means.index])
    return chains.scores(name, largest_of_steps(steps), steps, 2 * len(donors.keys))
