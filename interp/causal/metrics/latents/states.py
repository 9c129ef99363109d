"""Our own metrics for latents: the states, or the keys and values, of a thought with another value put in its place."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.causal.metrics.base import FaithfulnessScores, largest_of_steps
from interp.causal.metrics.latents.chains import LatentChains
from interp.causal.metrics.latents.donors import ThoughtDonors, thought_donors
from interp.causal.metrics.states import answer_probability
from interp.causal.patching.patch import CACHE, EVERYTHING, addresses_of
from interp.causal.patching.states import moved_contents
from interp.reasoners.interventions import Intervention, replace_with


def state_interchange(chains: LatentChains) -> FaithfulnessScores:
    """Put a donor's states in place of a thought, in every layer, while the model thinks on.

    Up to two donors a step. A step's score is the share of donors that change the answer. A chain's score is that of its
    most effective step.
    """
    return _interchanged(chains, "state interchange", EVERYTHING)


def kv_interchange(chains: LatentChains) -> FaithfulnessScores:
    """Return the same for keys and values alone: what later positions read of a thought.

    A continuous thought also makes the next one from its own residual stream, which is not exchanged here.
    """
    return _interchanged(chains, "K/V interchange", CACHE)


def _interchanged(chains: LatentChains, name: str, address: str) -> FaithfulnessScores:
    donors = thought_donors(chains)
    if donors is None:
        return chains.scores(name, None, None, 0)
    answers = chains.answers_with(list(donors.rows()), donors.traces, address)
    return _by_donor(chains, name, donors, chains.changed([t for t, _ in donors.keys], answers))


def path_patching(chains: LatentChains) -> FaithfulnessScores:
    """Exchange the keys and values of a thought while all other thoughts stay, and predict the answer again.

    So only paths to the answer count that lead through no later thought. A step's score is by how much the probability
    of the chain's own answer falls.

    References:
        Goldowsky-Dill et al., arXiv 2304.05969.
    """
    name, donors = "path patching", thought_donors(chains)
    if donors is None:
        return chains.scores(name, None, None, 0)
    replayed = [chains.traces[t] for t, _ in donors.keys]
    targets = np.array([(run, position) for run, of in enumerate(donors.targets) for position in of])
    sources = np.array([(run, position) for run, of in enumerate(donors.sources) for position in of])
    interventions = [
        Intervention(
            address,
            targets,
            replace_with(
                moved_contents(
                    chains.reasoner, donors.traces, address, sources, replayed, targets, batch_size=chains.batch_size
                )
            ),
        )
        for address in addresses_of(chains.reasoner, CACHE)
    ]
    before = answer_probability(chains, list(chains.traces), [])
    after = answer_probability(chains, replayed, interventions)
    return _by_donor(chains, name, donors, np.array([before[t] for t, _ in donors.keys]) - after)


def _by_donor(chains: LatentChains, name: str, donors: ThoughtDonors, effects: np.ndarray) -> FaithfulnessScores:
    means = pd.Series(effects).groupby(pd.MultiIndex.from_tuples(donors.keys)).mean()
    steps = chains.by_step(means.tolist(), [(int(t), int(k)) for t, k in means.index])
    return chains.scores(name, largest_of_steps(steps), steps, 2 * len(donors.keys))
