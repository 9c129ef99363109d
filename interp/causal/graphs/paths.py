"""Test an attribution graph's paths: remove a feature in the model itself and compare with what its path predicts.

A path is a strong edge from one feature to another that matters for the logit. The earlier feature's contribution is
subtracted from its MLP's output; attention and all later MLPs are computed as usual. The path is confirmed when the
later feature's input changes in the direction that the edge predicts, by at least a quarter of the prediction. The
control puts random active features of the same layer in place of the earlier one. Whether the logit moves as the
graph's total effect predicts is reported separately: where a model is sure of its token, one feature hardly moves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.causal.graphs.attribution import FEATURE, NEURONS, AttributionGraph, Graph, attribute, prune
from interp.causal.graphs.replacement import agreement, predicting_positions
from interp.models.address import Address
from interp.reasoners.interventions import Intervention, add
from interp.runtime.progress import Progress
from interp.statistics.estimates import Estimate
from interp.traces import TraceSet

if TYPE_CHECKING:
    from sae_lens import Transcoder

    from interp.reasoners import Reasoner

SHARE = 0.25
SATISFYING = 0.8


def top_paths(graph: Graph, n: int = 5) -> list[tuple[int, int]]:
    """Return the `n` edges between features that carry most influence to the logits, as (source, target) rows of `nodes`."""
    feature = torch.tensor((graph.nodes["type"] == FEATURE).tolist())
    weights = graph.edges.abs() / graph.edges.abs().sum(dim=1, keepdim=True).clamp(min=1e-12)
    influence = torch.tensor(graph.nodes["influence"].to_numpy()).float()
    carried = weights * influence[:, None] * feature[:, None] * feature[None, :]
    best = carried.flatten().argsort(descending=True)[:n].tolist()
    return [(k % len(carried), k // len(carried)) for k in best if carried.flatten()[k] > 0]


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


def confirm(
    reasoner: Reasoner,
    graph: AttributionGraph,
    pairs: Sequence[tuple[int, int]],
    *,
    share: float = SHARE,
) -> pd.DataFrame:
    """Remove each source feature in the model and measure what changes.

    Args:
        reasoner: The reasoner of the graph.
        graph: The graph.
        pairs: (source, target) rows of `graph.nodes`.
        share: Share of the predicted change that must be measured.

    Returns:
        One row for each pair: source, target, predicted (change of the target's input), measured, predicted_logit,
        measured_logit, logit_agrees, confirmed.
    """
    effects = total_effects(graph)
    traces = [graph.trace] * (len(pairs) + 1)  # the last one is not edited
    edits = []
    for k, (source, _) in enumerate(pairs):
        node = graph.nodes.iloc[source]
        where = np.array([[k, int(node["position"])]])
        edits.append(
            Intervention(
                Address(f"blocks.{int(node['layer'])}.mlp.hook_out"), where, add(-graph.writes[source].numpy())
            )
        )
    recorded: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(activations: Tensor, batch: Any) -> None:
            recorded[name] = activations.detach().float().clone()

        return hook

    names = ["ln_final.hook_out", *(f"blocks.{k}.mlp.hook_in" for k in range(graph.n_layers))]
    hooks = {name: keep(name) for name in names}
    reasoner.replay(traces, hooks=hooks, batch_size=len(traces), interventions=edits)
    logits = reasoner.unembed(recorded["ln_final.hook_out"][:, graph.position]).detach().float()
    token = int(graph.nodes["feature"].to_numpy()[graph.logits.numpy()][0])
    margins = logits[:, token] - logits.mean(dim=-1)
    out = []
    for k, (source, target) in enumerate(pairs):
        node = graph.nodes.iloc[target]
        reads = graph.reads[target].to(reasoner.device)
        inputs = recorded[f"blocks.{int(node['layer'])}.mlp.hook_in"][:, int(node["position"])] @ reads
        predicted, measured = -float(graph.edges[target, source]), float(inputs[k] - inputs[-1])
        logit, moved = -float(effects[source]), float(margins[k] - margins[-1])
        right = measured * np.sign(predicted) >= share * abs(predicted)
        out.append((source, target, predicted, measured, logit, moved, moved * logit > 0, bool(right)))
    columns = [
        "source",
        "target",
        "predicted",
        "measured",
        "predicted_logit",
        "measured_logit",
        "logit_agrees",
        "confirmed",
    ]
    return pd.DataFrame(out, columns=columns)


def random_pairs(graph: AttributionGraph, pairs: Sequence[tuple[int, int]], seed: int) -> list[tuple[int, int]]:
    """Return for each pair a random active feature of its source's layer that is not in any pair, and the target."""
    rng = np.random.default_rng(seed)
    used = {source for source, _ in pairs}
    out = []
    for source, target in pairs:
        same = graph.nodes["layer"] == graph.nodes["layer"].iloc[source]
        others = [k for k in np.flatnonzero(same & (graph.nodes["type"] == FEATURE)) if k not in used]
        if others:
            out.append((int(rng.choice(others)), target))
    return out


def trace_prompts(
    reasoner: Reasoner,
    traces: TraceSet,
    transcoders: Sequence[Transcoder] | None,
    *,
    n_paths: int = 5,
    neurons: int = NEURONS,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Build a graph for one thought or answer token of each trace, and test its top paths and random controls.

    Args:
        reasoner: The reasoner of the traces.
        traces: One prompt each.
        transcoders: One for each block; None takes the MLPs' own neurons as features.
        n_paths: Paths of each graph that are tested.
        neurons: Number of neurons that are nodes of a graph, where neurons are the features.
        seed: Seed of positions and controls.
        progress: Called with (traces done, traces in all).

    Returns:
        A table with one row for each prompt: trace, position, structure, agrees, completeness, nodes, confirmed,
        n_paths, satisfying (the replacement agrees and at least 80 % of the paths are confirmed). And a table with one
        row for each test: test (`path`, `logit`: the logit moved as the path predicts, or `random`), trace, structure,
        confirmed. A random pair must show the effect that its path's edge predicts.
    """
    rng = np.random.default_rng(seed)
    prompts, paths = [], []
    # Neurons are the model itself: nothing is replaced, so nothing can disagree.
    agrees = None if transcoders is None else agreement(reasoner, traces, transcoders)
    agrees = None if agrees is None else agrees.set_index(["trace", "position"])["agrees"]
    for k, trace in enumerate(traces):
        position = int(rng.choice(predicting_positions(trace)))
        whole = attribute(reasoner, trace, position, transcoders, neurons=neurons)
        pairs = top_paths(whole, n_paths)
        tested = confirm(reasoner, whole, pairs)
        control = confirm(reasoner, whole, random_pairs(whole, pairs, seed + k))
        held = [
            m * np.sign(p) >= SHARE * abs(p) for m, p in zip(control["measured"], tested["predicted"], strict=False)
        ]
        structure, right = trace.problem.structure, float(tested["confirmed"].mean()) if len(tested) else 0.0
        paths += [("path", k, structure, bool(ok)) for ok in tested["confirmed"]]
        paths += [("logit", k, structure, bool(ok)) for ok in tested["logit_agrees"]]
        paths += [("random", k, structure, bool(ok)) for ok in held]
        agreed = agrees is None or bool(agrees[k, position])
        row = (k, position, structure, agreed, whole.completeness, len(prune(whole).nodes), right, len(tested))
        prompts.append((*row, agreed and len(tested) > 0 and right >= SATISFYING))
        if progress:
            progress(k + 1, len(traces))
    columns = [
        "trace",
        "position",
        "structure",
        "agrees",
        "completeness",
        "nodes",
        "confirmed",
        "n_paths",
        "satisfying",
    ]
    return pd.DataFrame(prompts, columns=columns), pd.DataFrame(
        paths, columns=["test", "trace", "structure", "confirmed"]
    )


def shares(paths: pd.DataFrame) -> pd.DataFrame:
    """Return the share of confirmed tests of `trace_prompts`: test, confirmed, ci (95 %, by problem structure), n."""
    rows = []
    for test, part in paths.groupby("test", sort=False):
        share = Estimate.of_mean(part["confirmed"].to_numpy(float), part["structure"].to_numpy())
        rows.append((test, share.value, list(share.interval), share.n))
    return pd.DataFrame(rows, columns=["test", "confirmed", "ci", "n"])
