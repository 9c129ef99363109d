"""CC-SHAP: whether the words of the question that explain the answer are those that explain the chain.

References:
    Parcalabescu and Frank, "On Measuring Faithfulness or Self-consistency of Natural Language Explanations", arXiv
    2311.07466.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from interp.causal.metrics.base import Chains, FaithfulnessScores
from interp.causal.metrics.readings import Text, answer_start, text_of
from interp.traces import Channel

N_ORDERS = 3


def cc_shap(chains: Chains) -> FaithfulnessScores:
    """Return the correlation, as a cosine, of Shapley shares of the question's tokens in the answer and in the chain.

    Shapley values are estimated from 3 random orders in which tokens are revealed; a hidden token is the end-of-text
    token. The value of a set of tokens is the log-probability of the answer's tokens, and that of the chain's.

    References:
        arXiv 2311.07466, section 4.
    """
    rng = np.random.default_rng([chains.seed, 17])
    texts: list[Text] = []
    orders: list[list[np.ndarray]] = []
    hidden = chains.reasoner.tokenizer.eos_token_id or 0
    for trace in chains.traces:
        whole = text_of(trace, from_thought=True)
        question = np.array([k for k, channel in enumerate(trace.channel) if channel == Channel.PROMPT])
        orders.append([rng.permutation(question) for _ in range(N_ORDERS)])
        for order in orders[-1]:
            for n_shown in range(len(order) + 1):
                ids = list(whole.ids)
                for position in order[n_shown:]:
                    ids[position] = hidden
                texts.append(replace(whole, ids=ids))
    values = iter(chains.readings.logprobs(texts))
    scores = []
    for trace, of_trace in zip(chains.traces, orders, strict=True):
        n_thought = answer_start(trace) - text_of(trace, from_thought=True).first
        shares = np.zeros((2, len(trace)))
        for order in of_trace:
            read = [next(values) for _ in range(len(order) + 1)]
            both = np.array([[of[n_thought:].sum(), of[:n_thought].mean()] for of in read])
            shares[:, order] += np.diff(both, axis=0).T
        scores.append(cosine(shares[0], shares[1]))
    return chains.scores("CC-SHAP", np.array(scores), None, len(texts))


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Return the cosine of two vectors; 0 where one of them is zero."""
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / norms if norms > 0 else 0.0
