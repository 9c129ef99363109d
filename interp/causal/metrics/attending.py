"""Metrics of attention: how much goes to a step, and by which heads."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.causal.metrics.base import Chains, FaithfulnessScores, mean_of_steps
from interp.causal.metrics.readings import answer_start

if TYPE_CHECKING:
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


def logit_attribution(chains: Chains) -> FaithfulnessScores:
    """Return what each step adds to the answer's logit on the direct path: read by attention where the answer is predicted.

    For every head: attention to the step's positions times their values, through the output matrix and the scale of the
    final norm, onto the answer's unembedding less the mean unembedding. Scores are absolute. A chain's score is the sum
    over its steps.

    References:
        Direct logit attribution, Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
    """
    model, unembed = chains.reasoner.model, chains.reasoner.unembed
    n_layers = model.cfg.n_layers
    names = [f"blocks.{k}.attn.hook_{part}" for k in range(n_layers) for part in ("pattern", "v")]
    mean = unembed.weight.detach().float().mean(0)
    added = []
    for trace, positions in zip(chains.traces, chains.positions, strict=True):
        kept: dict[str, Tensor] = {}
        hooks = {name: partial(_keep_tensor, kept, name) for name in [*names, "ln_final.hook_scale"]}
        chains.reasoner.replay([trace], hooks=hooks)
        first = answer_start(trace)
        direction = (unembed.rows([trace.token_ids[first]])[0][0] - mean) * model.ln_final.w.float()
        if "RMS" not in str(model.cfg.normalization_type):  # LayerNorm takes the mean out
            direction = direction - direction.mean()
        direction = direction / kept["ln_final.hook_scale"][first - 1]
        of_position = sum(
            _through_heads(
                kept[names[2 * k]][:, first - 1], kept[names[2 * k + 1]], model.blocks[k].attn.W_O, direction
            )
            for k in range(n_layers)
        )
        added.append(np.array([abs(float(of_position[of].sum())) for of in positions]))  # type: ignore[index]
    return chains.scores("logit attribution", np.array([of.sum() for of in added]), tuple(added), len(chains))


def _through_heads(
    pattern: Float[Tensor, "heads pos"],
    values: Float[Tensor, "pos kv_heads d_head"],
    out: Float[Tensor, "heads d_head d_model"],
    direction: Float[Tensor, " d_model"],
) -> Float[Tensor, " pos"]:
    """Return what each position adds along a direction, through all heads of a layer."""
    shared = len(pattern) // values.shape[1]  # heads that read the same keys and values
    read = values.repeat_interleave(shared, dim=1)
    return torch.einsum("hp,phd,hdm,m->p", pattern, read, out.detach().float(), direction)


def _keep_tensor(kept: dict[str, Tensor], name: str, activations: Tensor, batch: ReplayBatch) -> None:
    kept[name] = activations[0].detach().float()


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
