"""Metrics of attention: how much goes to a step, and by which heads."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from interp.causal.metrics.base import Chains, FaithfulnessScores, mean_of_steps
from interp.causal.metrics.readings import answer_start

if TYPE_CHECKING:
    from torch import Tensor

    from interp.reasoners.replayer import ReplayBatch
    from interp.traces import Trace

N_RECEIVERS = 20


def attention_to_steps(chains: Chains) -> FaithfulnessScores:
    """Return the attention that goes from where the answer is predicted to each step, as the mean over heads and layers.

    A chain's score is the attention to all of its steps.

    References:
        Attention as an explanation, Jain and Wallace, arXiv 1902.10186, who found that it is none.
    """
    received = [
        [float(weights[:, :, answer_start(trace) - 1, positions].sum(-1).mean()) for positions in of]
        for trace, of, weights in _attention(chains)
    ]
    steps = tuple(np.array(of) for of in received)
    return chains.scores("attention to steps", np.array([of.sum() for of in steps]), steps, len(chains))


def receiver_heads(chains: Chains) -> FaithfulnessScores:
    """Return the attention that each step receives from later steps, by the heads that single out steps most.

    The heads are the 20 (or all) with the highest kurtosis, over steps, of the attention that steps receive. A chain's
    score is the mean of its steps.

    References:
        Receiver heads, arXiv 2506.19143, section 4.
    """
    of_heads = []  # for each trace: layers x heads x steps
    for trace, of, weights in _attention(chains):
        last = answer_start(trace)
        columns = [weights[:, :, positions[-1] + 1 : last, positions].mean((-2, -1)) for positions in of]
        of_heads.append(np.stack(columns, axis=-1).reshape(-1, len(of)))
    kurtosis = np.nanmean([_kurtosis(heads) for heads in of_heads], axis=0)
    chosen = np.argsort(-kurtosis)[: min(N_RECEIVERS, len(kurtosis))]
    steps = tuple(heads[chosen].mean(0) for heads in of_heads)
    return chains.scores("receiver heads", mean_of_steps(steps), steps, len(chains))


def _kurtosis(rows: np.ndarray) -> np.ndarray:
    """Return the excess kurtosis of each row, 0 where a row does not vary."""
    centred = rows - rows.mean(1, keepdims=True)
    variance = (centred**2).mean(1)
    return np.where(variance > 0, (centred**4).mean(1) / np.maximum(variance, 1e-30) ** 2 - 3, 0.0)


def _attention(chains: Chains) -> Iterator[tuple[Trace, list[list[int]], Float[np.ndarray, "layers heads pos pos"]]]:
    """Yield each trace with the positions of its steps and its attention: layers x heads x from x to."""
    n_layers = chains.reasoner.model.cfg.n_layers
    for trace, positions in zip(chains.traces, chains.positions, strict=True):
        layers: dict[int, np.ndarray] = {}
        hooks = {f"blocks.{k}.attn.hook_pattern": partial(_keep, layers, k) for k in range(n_layers)}
        chains.reasoner.replay([trace], hooks=hooks)
        yield trace, positions, np.stack([layers[k] for k in range(n_layers)])


def _keep(layers: dict[int, np.ndarray], layer: int, pattern: Tensor, batch: ReplayBatch) -> None:
    layers[layer] = pattern[0].float().cpu().numpy()
