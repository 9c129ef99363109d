"""Attribution graphs: which features at which positions determine the next token.

MLPs are replaced by transcoders, and attention patterns and norm scales are frozen. Everything between two features is
then linear: the weight of an edge is the gradient of the later feature's input with respect to what the earlier one
writes, times what it writes (Ameisen et al. 2025, "Circuit Tracing"; Dunefsky et al., arXiv 2406.11944). What the
transcoders do not explain stays in the graph as error nodes, one for each block and position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import UsageError
from interp.models.devices import copy_to
from interp.traces import Trace

if TYPE_CHECKING:
    from sae_lens import Transcoder

    from interp.reasoners import Reasoner
    from interp.reasoners.replayer import ReplayBatch

EMBEDDING, FEATURE, ERROR, LOGIT = "embedding", "feature", "error", "logit"


@dataclass(frozen=True)
class AttributionGraph:
    """The graph of one next token.

    Attributes:
        trace: The trace.
        position: The position whose next token is explained.
        nodes: Columns type (`embedding`, `feature`, `error` or `logit`), layer (-1 embeddings, n_layers logits),
            position, feature (or token id), activation, influence.
        edges: `edges[target, source]` is the direct linear effect of a node on another's input, in units of its
            pre-activation, or of the logit minus the mean of all logits; shape (nodes, nodes).
        n_layers: Number of blocks.
        probability: Probability of the likeliest token.
    """

    trace: Trace
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


def attribute(
    reasoner: Reasoner, trace: Trace, position: int, transcoders: Sequence[Transcoder], *, top_logits: int = 1
) -> AttributionGraph:
    """Build the graph of what a reasoner writes after a position.

    Args:
        reasoner: A reasoner with a GPT-2 model.
        trace: Its trace.
        position: The position whose next token is explained.
        transcoders: One for each block.
        top_logits: Number of likeliest tokens that are targets.

    Returns:
        The graph, not pruned.

    Raises:
        UsageError: The model is not GPT-2, or the trace has no such position.
    """
    if not 0 <= position < len(trace):
        raise UsageError(
            f"expected a position between 0 and {len(trace) - 1}, got {position}; choose one of the trace."
        )
    pass_, device = _Pass(reasoner, trace, position), reasoner.device
    transcoders = [copy_to(transcoder, device) for transcoder in transcoders]
    leaves, pre, logits, errors, acts = pass_.linearise(transcoders)
    probability, chosen = torch.softmax(logits.detach(), dim=-1).topk(top_logits)
    nodes, writes, targets = _nodes(trace, position, transcoders, acts, errors, pre, logits, chosen, leaves)
    n = len(nodes)
    edges = torch.zeros(n, n, device=device)
    flat = [leaves[0], *leaves[1]]
    slots = torch.tensor([int(layer) + 1 for layer in nodes["layer"]], device=device)
    places = torch.tensor(nodes["position"].tolist(), device=device)
    source = torch.tensor((nodes["type"] != LOGIT).tolist(), device=device)
    for row, target in targets:
        gradients = torch.autograd.grad(target, flat, retain_graph=True, allow_unused=True)
        stacked = torch.stack([torch.zeros_like(flat[0]) if g is None else g for g in gradients])
        edges[row, source] = (stacked[slots[source], places[source]] * writes[source]).sum(dim=1)
    graph = AttributionGraph(trace, position, nodes, edges.detach().cpu(), len(leaves[1]), float(probability[0]))
    return AttributionGraph(
        trace,
        position,
        nodes.assign(influence=influences(graph.edges, graph.logits).numpy()),
        graph.edges,
        graph.n_layers,
        graph.probability,
    )


def prune(graph: AttributionGraph, *, node_share: float = 0.8, edge_share: float = 0.95) -> AttributionGraph:
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
    return AttributionGraph(graph.trace, graph.position, nodes, edges, graph.n_layers, graph.probability)


def _largest(scores: Tensor, share: float) -> Tensor:
    """Return a mask of the fewest entries that make up `share` of the sum."""
    order = scores.argsort(descending=True)
    before = scores[order].cumsum(0) - scores[order]
    kept = torch.zeros_like(scores, dtype=torch.bool)
    kept[order[before < share * scores.sum()]] = True
    return kept & (scores > 0)


def _nodes(
    trace: Trace,
    position: int,
    transcoders: Sequence[Transcoder],
    acts: list[Tensor],
    errors: list[Tensor],
    pre: list[Tensor],
    logits: Tensor,
    chosen: Tensor,
    leaves: tuple[Tensor, list[Tensor]],
) -> tuple[pd.DataFrame, Tensor, list[tuple[int, Tensor]]]:
    """Return all nodes, what each writes to the residual stream, and the scalar that each target node reads."""
    rows: list[tuple[Any, ...]] = []
    writes: list[Tensor] = []
    targets: list[tuple[int, Tensor]] = []
    for place in range(position + 1):
        rows.append((EMBEDDING, -1, place, trace.token_ids[place], 1.0))
        writes.append(leaves[0][place].detach())
    for layer, transcoder in enumerate(transcoders):
        for place in range(position + 1):
            for feature in torch.nonzero(acts[layer][place])[:, 0].tolist():
                targets.append((len(rows), pre[layer][place, feature]))
                rows.append((FEATURE, layer, place, feature, float(acts[layer][place, feature])))
                writes.append(acts[layer][place, feature] * transcoder.W_dec[feature].detach())
            rows.append((ERROR, layer, place, -1, float(errors[layer][place].norm())))
            writes.append(errors[layer][place])
    for token in chosen.tolist():
        targets.append((len(rows), logits[token] - logits.mean()))
        rows.append((LOGIT, len(transcoders), position, token, float(logits[token].detach())))
        writes.append(torch.zeros_like(writes[0]))
    nodes = pd.DataFrame(rows, columns=["type", "layer", "position", "feature", "activation"])
    return nodes, torch.stack(writes), targets


class _Pass:
    """The attention patterns, norm scales and MLP inputs of one forward pass up to a position."""

    def __init__(self, reasoner: Reasoner, trace: Trace, position: int) -> None:
        base = reasoner.model.original_model
        self.blocks: Any = getattr(getattr(base, "transformer", None), "h", None)
        if self.blocks is None or not hasattr(base.transformer, "ln_f"):
            raise UsageError(
                f"expected a GPT-2 model for attribution graphs, got {reasoner.name}; use another organism."
            )
        self.final: Any = base.transformer.ln_f
        self.unembed: Any = reasoner.unembed
        self.n_heads = reasoner.model.cfg.n_heads
        recorded: dict[str, Tensor] = {}
        n_layers = len(self.blocks)
        names = ["blocks.0.hook_in", "ln_final.hook_in"]
        names += [f"blocks.{k}.{hook}" for k in range(n_layers) for hook in _HOOKS]

        def keep(name: str) -> Any:
            def hook(activations: Tensor, batch: ReplayBatch) -> None:
                recorded[name] = activations[0].detach().float()

            return hook

        reasoner.replay([trace], hooks={name: keep(name) for name in names})
        end = position + 1
        self.embedded = recorded["blocks.0.hook_in"][:end]
        self.last = recorded["ln_final.hook_in"][:end]
        self.patterns = [recorded[f"blocks.{k}.attn.hook_pattern"][:, :end, :end] for k in range(n_layers)]
        self.before = [recorded[f"blocks.{k}.hook_in"][:end] for k in range(n_layers)]
        self.middle = [recorded[f"blocks.{k}.ln2.hook_in"][:end] for k in range(n_layers)]
        self.mlp_in = [recorded[f"blocks.{k}.mlp.hook_in"][:end] for k in range(n_layers)]
        self.mlp_out = [recorded[f"blocks.{k}.mlp.hook_out"][:end] for k in range(n_layers)]

    def linearise(
        self, transcoders: Sequence[Transcoder]
    ) -> tuple[tuple[Tensor, list[Tensor]], list[Tensor], Tensor, list[Tensor], list[Tensor]]:
        """Return leaves (embeddings, each block's MLP output), features' inputs, logits, errors and activations."""
        transcoders = [copy_to(transcoder, self.embedded.device) for transcoder in transcoders]
        embedded = self.embedded.clone().requires_grad_()
        written = [out.clone().requires_grad_() for out in self.mlp_out]
        stream, pre, errors, acts = embedded, [], [], []
        for k, block in enumerate(self.blocks):
            normed = _frozen_norm(stream, self.before[k], block.ln_1)
            stream = stream + self._attention(normed, block.attn, self.patterns[k])
            normed = _frozen_norm(stream, self.middle[k], block.ln_2)
            transcoder = transcoders[k]
            pre.append(normed @ transcoder.W_enc.detach() + transcoder.b_enc.detach())
            with torch.no_grad():
                acts.append(transcoder.encode(self.mlp_in[k]))
                errors.append(self.mlp_out[k] - transcoder.decode(acts[-1]))
            stream = stream + written[k]
        state = _frozen_norm(stream[-1:], self.last[-1:], self.final)
        return (embedded, written), pre, self.unembed(state)[0].float(), errors, acts

    def _attention(self, normed: Tensor, attention: Any, pattern: Tensor) -> Tensor:
        d = normed.shape[-1]
        joint: Any = _inner(attention).c_attn
        # In float32 whatever the model computes in: the graph is a linear account of its pass.
        weight, bias = _inner(joint).weight.detach().float(), _inner(joint).bias.detach().float()
        values = (normed @ weight[:, 2 * d :] + bias[2 * d :]).unflatten(-1, (self.n_heads, -1))
        mixed = torch.einsum("hqk,khd->qhd", pattern, values).flatten(1)
        out: Any = _inner(_inner(attention).c_proj)
        return mixed @ out.weight.detach().float() + out.bias.detach().float()


_HOOKS = ("hook_in", "attn.hook_pattern", "ln2.hook_in", "mlp.hook_in", "mlp.hook_out")


def _inner(module: Any) -> Any:
    """Return the module behind a TransformerLens wrapper."""
    return getattr(module, "original_component", None) or module


def _frozen_norm(stream: Tensor, was: Tensor, norm: Any) -> Tensor:
    """Apply layer norm with the scale of `was`, so that it is linear in `stream`."""
    inner = _inner(norm)
    scale = (was.var(dim=-1, keepdim=True, unbiased=False) + inner.eps).sqrt()
    return (
        stream - stream.mean(dim=-1, keepdim=True)
    ) / scale * inner.weight.detach().float() + inner.bias.detach().float()
