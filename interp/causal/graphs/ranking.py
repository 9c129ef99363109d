"""Which paths of an attribution graph matter, by the graph's edges and by how far its frozen norm scales can be trusted.

A path is an edge from one feature to another. Its weight holds for frozen norm scales. In the model, removing what makes
up much of a state also lowers the state's norm, so the rest is scaled up again and less changes than the edge says. The
share of an edge that is left when norms respond is known to first order, without any intervention.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.causal.graphs.attribution import FEATURE, AttributionGraph, Graph
from interp.causal.graphs.frozen import FrozenPass

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

Pair = tuple[int, int]


def carried(graph: Graph) -> Float[Tensor, "nodes nodes"]:
    """Return the influence on the logits that each edge between two features carries, (target, source)."""
    feature = torch.tensor((graph.nodes["type"] == FEATURE).tolist())
    weights = graph.edges.abs() / graph.edges.abs().sum(dim=1, keepdim=True).clamp(min=1e-12)
    influence = torch.tensor(graph.nodes["influence"].to_numpy()).float()
    return weights * influence[:, None] * feature[:, None] * feature[None, :]


def top_paths(graph: Graph, n: int = 5) -> list[Pair]:
    """Return the `n` edges between features that carry most influence to the logits, as (source, target) rows of `nodes`."""
    flat = carried(graph).flatten()
    best = flat.topk(min(n, len(flat))).indices.tolist()
    return [(k % len(graph.nodes), k // len(graph.nodes)) for k in best if flat[k] > 0]


def robust_paths(reasoner: Reasoner, graph: AttributionGraph, n: int = 5) -> list[Pair]:
    """Return the `n` paths that carry most influence where norm scales respond.

    The influence that an edge carries is multiplied by the share of the edge that `norm_shares` leaves, at least 0 and
    at most 1. Nothing is removed, so a test by removal stays a test.

    Args:
        reasoner: The reasoner of the graph.
        graph: The graph.
        n: Number of paths.

    Returns:
        (source, target) rows of `graph.nodes`, best first.
    """
    influence = carried(graph)
    scores: dict[Pair, float] = {}
    count = 4 * n
    while True:
        pairs = top_paths(graph, count)
        new = [pair for pair in pairs if pair not in scores]
        shares = norm_shares(reasoner, graph, new).clip(0, 1)
        scores |= {pair: float(influence[pair[1], pair[0]]) * share for pair, share in zip(new, shares, strict=True)}
        best = sorted((pair for pair in scores if scores[pair] > 0), key=lambda pair: -scores[pair])[:n]
        # No share is above 1, so no later edge can score more than the last one that was looked at carries.
        if len(pairs) < count or not n:
            return best
        source, target = pairs[-1]
        if len(best) == n and scores[best[-1]] >= float(influence[target, source]):
            return best
        count *= 2


@torch.enable_grad()
def norm_shares(reasoner: Reasoner, graph: AttributionGraph, pairs: Sequence[Pair]) -> Float[np.ndarray, " pairs"]:
    """Return the share of each edge that is left, to first order, when norm scales respond.

    Attention patterns and the outputs of MLPs between the two features stay frozen. 1 says that norms change nothing, 0
    that they undo the edge, and a negative share that they turn it round.

    Args:
        reasoner: The reasoner of the graph.
        graph: The graph.
        pairs: (source, target) rows of `graph.nodes`; each edge is not 0.
    """
    if not pairs:
        return np.empty(0)
    frozen = FrozenPass(reasoner, graph.trace, graph.position)
    leaves = [out.clone().requires_grad_() for out in frozen.mlp_out]
    inputs, _ = frozen.run(frozen.embedded, leaves, norms_respond=True)
    layers, places = graph.nodes["layer"].to_numpy(), graph.nodes["position"].to_numpy()
    gradients: dict[int, Sequence[Tensor | None]] = {}
    shares = []
    for source, target in pairs:
        if target not in gradients:
            reads = graph.reads[target].to(frozen.embedded)
            value = inputs[layers[target]][places[target]] @ reads
            gradients[target] = torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True)
        gradient = gradients[target][layers[source]]
        response = 0.0 if gradient is None else float(gradient[places[source]].cpu() @ graph.writes[source])
        shares.append(response / float(graph.edges[target, source]))
    return np.array(shares)


def total_effects(graph: Graph) -> Tensor:
    """Return the signed effect of each node on the likeliest token's logit over all paths, shape (nodes,)."""
    target = int(torch.nonzero(graph.logits)[0])
    total = torch.zeros(len(graph.nodes))
    # Edges into a feature are in units of its input, and edges out of it in units of its activation.
    acts = torch.tensor(graph.nodes["activation"].to_numpy()).float()
    features = torch.tensor((graph.nodes["type"] == FEATURE).tolist())
    passed = torch.where(features & (acts.abs() > 1e-6), 1 / acts, torch.zeros_like(acts))
    front = torch.zeros(len(graph.nodes))
    front[target] = 1.0
    for _ in range(graph.n_layers + 1):
        front = front @ graph.edges
        total += front
        front = front * passed
    return total
