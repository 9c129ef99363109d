"""Attribution graphs: which features at which positions determine the next token.

MLPs are replaced by transcoders, or seen as their neurons, and attention patterns and norm scales are frozen. Everything
between two features is then linear: the weight of an edge is the gradient of the later feature's input with respect to
what the earlier one writes, times what it writes (Ameisen et al. 2025, "Circuit Tracing"; Dunefsky et al., arXiv
2406.11944). What the features do not explain stays in the graph as error nodes, one for each block and position. The
edges into a node and its constant (what it reads of biases) add up to its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.causal.graphs.features import BlockFeatures, neuron_features, transcoder_features
from interp.causal.graphs.frozen import FrozenPass
from interp.errors import UsageError
from interp.traces import Trace

if TYPE_CHECKING:
    from sae_lens import Transcoder

    from interp.reasoners import Reasoner

NEURONS = 300

EMBEDDING, FEATURE, ERROR, LOGIT = "embedding", "feature", "error", "logit"


@dataclass(frozen=True)
class Graph:
    """Nodes and edges of the graph of one next token.

    Attributes:
        position: The position whose next token is explained.
        nodes: Columns type (`embedding`, `feature`, `error` or `logit`), layer (-1 embeddings, n_layers logits),
            position, feature (or token id), activation, influence, input (what a feature or a logit reads) and
            constant (the part of it that comes from biases).
        edges: `edges[target, source]` is the direct linear effect of a node on another's input, in units of its
            pre-activation, or of the logit (before a soft cap) minus the mean of all logits; shape (nodes, nodes).
        n_layers: Number of blocks.
        probability: Probability of the likeliest token.
    """

    position: int
    nodes: pd.DataFrame
    edges: Float[Tensor, "nodes nodes"]
    n_layers: int
    probability: float

    @property
    def completeness(self) -> float:
        """Share of the logit's influence that reaches embeddings and does not end in error nodes."""
        influence = influences(self.edges, self.logits)
        types = self.nodes["type"].to_numpy()
        ends = {name: float(influence[torch.tensor((types == name).tolist())].sum()) for name in (EMBEDDING, ERROR)}
        return ends[EMBEDDING] / max(sum(ends.values()), 1e-12)

    @property
    def logits(self) -> Tensor:
        """Mask of the nodes that are logits."""
        return torch.tensor((self.nodes["type"] == LOGIT).tolist())

    def select(self, kept: Bool[Tensor, " nodes"], edges: Float[Tensor, "kept kept"]) -> Self:
        """Return the graph of the nodes where a mask is true, with other edges between them."""
        return replace(self, nodes=self.nodes[kept.tolist()].reset_index(drop=True), edges=edges)


@dataclass(frozen=True)
class AttributionGraph(Graph):
    """The graph of one next token of a reasoner's trace.

    Attributes:
        trace: The trace.
        writes: What each node adds to the residual stream or to its MLP's output, shape (nodes, d_model).
        reads: The direction of its MLP's input that each feature reads, shape (nodes, d_model).
    """

    trace: Trace
    writes: Float[Tensor, "nodes d_model"]
    reads: Float[Tensor, "nodes d_model"]

    def select(self, kept: Bool[Tensor, " nodes"], edges: Float[Tensor, "kept kept"]) -> Self:
        """Return the graph of the nodes where a mask is true, with other edges between them."""
        return replace(super().select(kept, edges), writes=self.writes[kept], reads=self.reads[kept])


AnyGraph = TypeVar("AnyGraph", bound=Graph)


def influences(edges: Float[Tensor, "nodes nodes"], targets: Tensor) -> Float[Tensor, " nodes"]:
    """Return how much of the targets goes back to each node over all paths.

    Args:
        edges: Direct effects, (target, source); absolute weights are normalised by target.
        targets: Mask of the targets, shape (nodes,).

    Returns:
        Influence of each node, shape (nodes,).
    """
    weights = edges.abs()
    weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-12)
    total = torch.zeros(len(edges))
    front = targets.float() / targets.sum()
    while float(front.sum()) > 1e-6:
        front = front @ weights
        total += front
    return total


@torch.enable_grad()
def attribute(
    reasoner: Reasoner,
    trace: Trace,
    position: int,
    transcoders: Sequence[Transcoder] | None,
    *,
    top_logits: int = 1,
    neurons: int = NEURONS,
) -> AttributionGraph:
    """Build the graph of what a reasoner writes after a position.

    Args:
        reasoner: A reasoner.
        trace: Its trace.
        position: The position whose next token is explained.
        transcoders: One for each block; None takes the MLPs' own neurons as features.
        top_logits: Number of likeliest tokens that are targets.
        neurons: Number of neurons that are nodes, where neurons are the features: those that carry most to the
            likeliest token's logit.

    Returns:
        The graph, not pruned.

    Raises:
        UsageError: The trace has no such position, or the model's pass cannot be frozen.
    """
    if not 0 <= position < len(trace):
        raise UsageError(
            f"expected a position between 0 and {len(trace) - 1}, got {position}; choose one of the trace."
        )
    frozen = FrozenPass(reasoner, trace, position)
    features = neuron_features(frozen, neurons) if transcoders is None else transcoder_features(frozen, transcoders)
    chosen = frozen.logits.topk(top_logits).indices
    probability = float(torch.softmax(reasoner.unembed.capped(frozen.logits), dim=-1)[chosen[0]])
    nodes, writes, reads = _nodes(frozen, trace, features, chosen)
    leaves = [frozen.embedded.clone().requires_grad_(), *(out.clone().requires_grad_() for out in frozen.mlp_out)]
    inputs = _inputs(frozen, nodes, features, leaves)
    with torch.no_grad():
        nothing = torch.zeros_like(leaves[0])
        constants = _inputs(frozen, nodes, features, [nothing, *(nothing + block.bias for block in features)])
    edges = _edges(nodes, writes, inputs, leaves)
    influence = influences(edges, torch.tensor((nodes["type"] == LOGIT).tolist()))
    nodes = nodes.assign(
        input=_column(inputs, len(nodes)), constant=_column(constants, len(nodes)), influence=influence.numpy()
    )
    shape = {
        "position": position,
        "nodes": nodes,
        "edges": edges,
        "n_layers": len(features),
        "probability": probability,
    }
    return AttributionGraph(**shape, trace=trace, writes=writes.cpu(), reads=reads.cpu())


def prune(graph: AnyGraph, *, node_share: float = 0.8, edge_share: float = 0.95) -> AnyGraph:
    """Return the graph with its most influential nodes and edges.

    Embeddings and logits stay, so that every path keeps its ends.

    Args:
        graph: The graph.
        node_share: Share of the influence on the logits that the kept nodes carry.
        edge_share: Share of it that the kept edges carry.

    Returns:
        The pruned graph.

    Raises:
        UsageError: A share is not between 0 and 1.
    """
    for name, share in (("node_share", node_share), ("edge_share", edge_share)):
        if not 0 < share <= 1:
            raise UsageError(f"expected {name} between 0 and 1, got {share}; choose one such as 0.8.")
    influence = torch.tensor(graph.nodes["influence"].to_numpy()).float()
    inner = torch.tensor(graph.nodes["type"].isin([FEATURE, ERROR]).tolist())
    kept = _largest(influence * inner, node_share) | ~inner
    nodes = graph.nodes[kept.tolist()].reset_index(drop=True)
    edges = graph.edges[kept][:, kept]
    weights = edges.abs() / edges.abs().sum(dim=1, keepdim=True).clamp(min=1e-12)
    targets = torch.tensor((nodes["type"] == LOGIT).tolist()).float()
    scores = weights * (influence[kept] + targets)[:, None]
    edges = edges * _largest(scores.flatten(), edge_share).view_as(edges)
    return graph.select(kept, edges)


def _largest(scores: Tensor, share: float) -> Tensor:
    """Return a mask of the fewest entries that make up `share` of the sum."""
    order = scores.argsort(descending=True)
    before = scores[order].cumsum(0) - scores[order]
    kept = torch.zeros_like(scores, dtype=torch.bool)
    kept[order[before < share * scores.sum()]] = True
    return kept & (scores > 0)


def _nodes(
    frozen: FrozenPass, trace: Trace, features: Sequence[BlockFeatures], chosen: Tensor
) -> tuple[pd.DataFrame, Tensor, Tensor]:
    """Return all nodes, what each writes to the residual stream, and what each feature reads of its MLP's input."""
    rows: list[tuple[Any, ...]] = []
    writes: list[Tensor] = []
    reads: list[Tensor] = []
    nothing, n_positions = torch.zeros_like(frozen.embedded[0]), len(frozen.embedded)

    def add(row: tuple[Any, ...], write: Tensor, read: Tensor = nothing) -> None:
        rows.append(row)
        writes.append(write)
        reads.append(read)

    for place in range(n_positions):
        add((EMBEDDING, -1, place, trace.token_ids[place], 1.0), frozen.embedded[place])
    for layer, block in enumerate(features):
        for place in range(n_positions):
            for feature in torch.nonzero(block.shown[place])[:, 0].tolist():
                activation = block.acts[place, feature]
                row = (FEATURE, layer, place, feature, float(activation))
                add(row, activation * block.writes[feature], block.direction(place, feature))
            add((ERROR, layer, place, -1, float(block.errors[place].norm())), block.errors[place])
    for token in chosen.tolist():
        add((LOGIT, len(features), n_positions - 1, token, float(frozen.logits[token])), nothing)
    nodes = pd.DataFrame(rows, columns=["type", "layer", "position", "feature", "activation"])
    return nodes, torch.stack(writes).detach(), torch.stack(reads).detach()


def _inputs(
    frozen: FrozenPass, nodes: pd.DataFrame, features: Sequence[BlockFeatures], leaves: Sequence[Tensor]
) -> dict[int, Tensor]:
    """Return what each feature and logit reads when the frozen pass runs from these leaves."""
    mlp_inputs, logits = frozen.run(leaves[0], leaves[1:])
    mean = logits.mean()
    read = [block.read(states) for block, states in zip(features, mlp_inputs, strict=True)]
    inputs = {}
    for row, node in enumerate(nodes.itertuples(index=False)):
        if node.type == FEATURE:
            inputs[row] = read[node.layer][node.position, node.feature]
        elif node.type == LOGIT:
            inputs[row] = logits[node.feature] - mean
    return inputs


def _edges(nodes: pd.DataFrame, writes: Tensor, inputs: dict[int, Tensor], leaves: Sequence[Tensor]) -> Tensor:
    """Return each target's gradient with respect to where a source writes, times what it writes."""
    device = writes.device
    edges = torch.zeros(len(nodes), len(nodes), device=device)
    slots = torch.tensor([int(layer) + 1 for layer in nodes["layer"]], device=device)
    places = torch.tensor(nodes["position"].tolist(), device=device)
    source = torch.tensor((nodes["type"] != LOGIT).tolist(), device=device)
    for row, target in inputs.items():
        gradients = torch.autograd.grad(target, leaves, retain_graph=True, allow_unused=True)
        stacked = torch.stack([torch.zeros_like(leaves[0]) if g is None else g for g in gradients])
        edges[row, source] = (stacked[slots[source], places[source]] * writes[source]).sum(dim=1)
    return edges.detach().cpu()


def _column(inputs: dict[int, Tensor], n: int) -> np.ndarray:
    """Return values by row, NaN for nodes that read nothing."""
    column = np.full(n, np.nan)
    column[list(inputs)] = [float(value.detach()) for value in inputs.values()]
    return column
