"""Test an attribution graph's paths: remove a feature in the model itself and compare with what its path predicts.

A path is a strong edge from one feature to another that matters for the logit. The earlier feature's contribution is
subtracted from its MLP's output; attention, norms and all later MLPs are computed as usual. The path is confirmed when
the later feature's input changes in the direction that the edge predicts, by at least a quarter of the prediction. The
controls put random active features of the same layer, or of the same layer and position, in place of the earlier one.
Beside it stands the same test of the edges that are strongest by weight alone, in the model and with attention patterns
and norm scales frozen (constrained patching, Ameisen et al. 2025, "Circuit Tracing"), where only the MLPs can contradict
the graph. Whether the logit moves as the graph's total effect predicts is reported separately: where a model is sure of
its token, one feature hardly moves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.causal.graphs.attribution import FEATURE, NEURONS, AttributionGraph, attribute, prune
from interp.causal.graphs.frozen import FrozenPass, Written
from interp.causal.graphs.ranking import Pair, carried, robust_paths, top_paths, total_effects
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


def confirm(
    reasoner: Reasoner,
    graph: AttributionGraph,
    pairs: Sequence[Pair],
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
        out.append((source, target, predicted, measured, logit, moved, moved * logit > 0))
    columns = ["source", "target", "predicted", "measured", "predicted_logit", "measured_logit", "logit_agrees"]
    table = pd.DataFrame(out, columns=columns)
    return table.assign(confirmed=as_predicted(table["measured"], table["predicted"], share))


def as_predicted(
    measured: Sequence[float] | pd.Series, predicted: Sequence[float] | pd.Series, share: float = SHARE
) -> np.ndarray:
    """Return whether each measured change has the sign of the prediction and at least `share` of its size."""
    expected = np.asarray(predicted, float)
    return np.asarray(measured, float) * np.sign(expected) >= share * np.abs(expected)


@torch.no_grad()
def frozen_changes(reasoner: Reasoner, graph: AttributionGraph, pairs: Sequence[Pair]) -> np.ndarray:
    """Return how each target's input changes without its source where attention patterns and norm scales are frozen.

    All MLPs above the source are computed by the model itself, so features between the two may change.

    Args:
        reasoner: The reasoner of the graph.
        graph: The graph.
        pairs: (source, target) rows of `graph.nodes`.

    Returns:
        Changes, shape (pairs,).
    """
    frozen = FrozenPass(reasoner, graph.trace, graph.position)
    changes = []
    for source, target in pairs:
        (low, at), (high, read_at) = (graph.nodes.iloc[k][["layer", "position"]].astype(int) for k in (source, target))
        written: list[Written] = [*frozen.mlp_out[: low + 1], *[None] * (graph.n_layers - low - 1)]
        removed = frozen.mlp_out[low].clone()
        removed[at] -= graph.writes[source].to(removed)
        before = frozen.mlp_in[high][read_at]
        written[low] = removed
        after = frozen.run(frozen.embedded, written)[0][high][read_at]
        changes.append(float((after - before) @ graph.reads[target].to(before)))
    return np.array(changes)


def random_pairs(
    graph: AttributionGraph, pairs: Sequence[Pair], seed: int, *, same_position: bool = False
) -> dict[int, Pair]:
    """Return random active features in place of the sources of pairs.

    Args:
        graph: The graph.
        pairs: (source, target) rows of `graph.nodes`.
        seed: Seed of the choice.
        same_position: Whether a feature must be at its source's position, and not only in its layer.

    Returns:
        The number of each pair to (random feature, target). The feature is not the source of any pair; a pair for which
        there is no other feature is left out.
    """
    rng = np.random.default_rng(seed)
    used = {source for source, _ in pairs}
    out = {}
    for number, (source, target) in enumerate(pairs):
        same = graph.nodes["layer"] == graph.nodes["layer"].iloc[source]
        if same_position:
            same &= graph.nodes["position"] == graph.nodes["position"].iloc[source]
        others = [k for k in np.flatnonzero(same & (graph.nodes["type"] == FEATURE)) if k not in used]
        if others:
            out[number] = (int(rng.choice(others)), target)
    return out


def path_outcomes(
    reasoner: Reasoner, graph: AttributionGraph, pairs: Sequence[Pair], seed: int
) -> dict[str, list[bool]]:
    """Return the outcomes of all tests of a graph's paths, by name of the test.

    Args:
        reasoner: The reasoner of the graph.
        graph: The graph.
        pairs: The paths, (source, target) rows of `graph.nodes`.
        seed: Seed of the controls.

    Returns:
        `path` and `logit` for each path; `edge` and `frozen` for as many edges that are strongest by weight alone;
        `random` and `random here` for those paths that have another feature in their source's layer, or layer and
        position. A random feature must show the effect that its own path predicts.
    """
    strongest = top_paths(graph, len(pairs))
    controls = {
        "random": random_pairs(graph, pairs, seed),
        "random here": random_pairs(graph, pairs, seed, same_position=True),
    }
    removed = [*pairs, *strongest, *(pair for control in controls.values() for pair in control.values())]
    table = confirm(reasoner, graph, removed)
    n = len(pairs)
    paths, edges = table[:n], table[n : n + len(strongest)]
    outcomes = {
        "path": paths["confirmed"],
        "edge": edges["confirmed"],
        "frozen": as_predicted(frozen_changes(reasoner, graph, strongest), edges["predicted"]),
    }
    start = n + len(strongest)
    for name, control in controls.items():
        measured = table["measured"][start : start + len(control)]
        outcomes[name] = as_predicted(measured, paths["predicted"].iloc[list(control)])
        start += len(control)
    outcomes["logit"] = paths["logit_agrees"]
    return {name: [bool(ok) for ok in of] for name, of in outcomes.items()}


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
    """Build a graph for one thought or answer token of each trace, and test its paths beside random controls.

    Args:
        reasoner: The reasoner of the traces.
        traces: One prompt each.
        transcoders: One for each block; None takes the MLPs' own neurons as features.
        n_paths: Paths of each graph that are tested, the first of `robust_paths`.
        neurons: Number of neurons that are nodes of a graph, where neurons are the features.
        seed: Seed of positions and controls.
        progress: Called with (traces done, traces in all).

    Returns:
        A table with one row for each prompt: trace, position, structure, agrees, completeness, nodes, carried (the
        influence that its paths carry over that of as many strongest edges), confirmed, n_paths, satisfying (the
        replacement agrees and at least 80 % of the paths are confirmed). And a table with one row for each test of
        `path_outcomes`: test, trace, structure, confirmed.
    """
    rng = np.random.default_rng(seed)
    prompts, tests = [], []
    # Neurons are the model itself: nothing is replaced, so nothing can disagree.
    agrees = None if transcoders is None else agreement(reasoner, traces, transcoders)
    agrees = None if agrees is None else agrees.set_index(["trace", "position"])["agrees"]
    for k, trace in enumerate(traces):
        position = int(rng.choice(predicting_positions(trace)))
        whole = attribute(reasoner, trace, position, transcoders, neurons=neurons)
        pairs = robust_paths(reasoner, whole, n_paths)
        outcomes = path_outcomes(reasoner, whole, pairs, seed + k)
        structure = trace.problem.structure
        tests += [(test, k, structure, ok) for test, of in outcomes.items() for ok in of]
        right = float(np.mean(outcomes["path"])) if pairs else 0.0
        agreed = agrees is None or bool(agrees[k, position])
        prompts.append(
            {
                "trace": k,
                "position": position,
                "structure": structure,
                "agrees": agreed,
                "completeness": whole.completeness,
                "nodes": len(prune(whole).nodes),
                "carried": _carried_share(whole, pairs),
                "confirmed": right,
                "n_paths": len(pairs),
                "satisfying": agreed and len(pairs) > 0 and right >= SATISFYING,
            }
        )
        if progress:
            progress(k + 1, len(traces))
    return pd.DataFrame(prompts), pd.DataFrame(tests, columns=["test", "trace", "structure", "confirmed"])


def _carried_share(graph: AttributionGraph, pairs: Sequence[Pair]) -> float:
    """Return the influence that paths carry over that of as many strongest edges; NaN where there are none."""
    influence = carried(graph)
    ours, most = (
        sum(float(influence[target, source]) for source, target in of) for of in (pairs, top_paths(graph, len(pairs)))
    )
    return ours / most if most else float("nan")


def shares(paths: pd.DataFrame) -> pd.DataFrame:
    """Return the share of confirmed tests of `trace_prompts`: test, confirmed, ci (95 %, by problem structure), n."""
    rows = []
    for test, part in paths.groupby("test", sort=False):
        share = Estimate.of_mean(part["confirmed"].to_numpy(float), part["structure"].to_numpy())
        rows.append((test, share.value, list(share.interval), share.n))
    return pd.DataFrame(rows, columns=["test", "confirmed", "ci", "n"])
