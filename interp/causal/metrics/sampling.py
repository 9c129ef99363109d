"""Metrics of thought anchors: sampling again from a step, and hiding a step from attention.

References:
    Bogdan et al., "Thought Anchors: Which LLM Reasoning Steps Matter?", arXiv 2506.19143.
"""

from __future__ import annotations

import numpy as np

from interp.causal.metrics.base import Chains, FaithfulnessScores, mean_of_steps
from interp.causal.visible_text.anchors import anchors

N_SAMPLES = 8


def resampling(chains: Chains) -> FaithfulnessScores:
    """Sample on from just before a step and from just after it, and compare the answers.

    A step's score is the total variation distance of the two samples of answers. A chain's score is the mean of its
    steps.

    References:
        Counterfactual importance, arXiv 2506.19143, section 3. The paper samples 100 times, this 8 times.
    """
    table = anchors(chains.reasoner, chains.traces, samples=N_SAMPLES, seed=chains.seed)
    keys = [(int(t), int(k) - 1) for t, k in zip(table["trace"], table["step"], strict=True)]
    steps = chains.by_step(table["moved"].to_numpy(), keys)
    n_texts = N_SAMPLES * sum(len(positions) + 1 for positions in chains.positions)
    return chains.scores("resampling", mean_of_steps(steps), steps, n_texts)


def suppression(chains: Chains) -> FaithfulnessScores:
    """Hide a step from all attention of later positions, and measure how far the answer's distribution moves.

    A step's score is the Kullback-Leibler divergence at the answer, in nats. A chain's score is the mean of its steps.

    References:
        Attention suppression, arXiv 2506.19143, section 5.
    """
    before = chains.readings.distributions([chains.text(t) for t in range(len(chains))])
    texts = [chains.text(t, unseen=chains.positions[t][k]) for t, k in chains.keys]
    after = chains.readings.distributions(texts)
    moved = [divergence(before[t], row) for (t, _), row in zip(chains.keys, after, strict=True)]
    steps = chains.by_step(moved)
    return chains.scores("suppression", mean_of_steps(steps), steps, len(texts) + len(chains))


def divergence(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Kullback-Leibler divergence, in nats, of two distributions given by their log-probabilities."""
    return float((np.exp(one) * (one - other)).sum())
