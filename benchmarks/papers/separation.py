"""Dot products of thoughts with node embeddings on task `graph` (arXiv 2505.12514, section 5).

The thought of hop k is the final-norm state one position before it: the state that a continuous reasoner feeds back,
and that any other reasoner could have fed back. A node's dot product is compared with those of the unreachable nodes
of the same problem. The fraction of unreachable nodes below it, averaged over nodes, is an AUROC that does not depend
on differences between problems.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.problems.graph import digraph
from interp.traces import Channel, Trace, TraceSet

if TYPE_CHECKING:
    from interp.problems import Problem
    from interp.reasoners import Reasoner

KINDS = ("path", "off-path frontier", "reachable")


def kinds_of(problem: Problem, hop: int) -> dict[str, str]:
    """Return the kind of each node with respect to the thought of one hop.

    Args:
        problem: A problem of task `graph`.
        hop: Number of the hop, from 1.

    Returns:
        Node -> `path` (the path's node at that hop), `off-path frontier` (any other node at that distance from the
        root), `reachable` (all others that the root reaches) or `unreachable`.
    """
    graph, path = digraph(problem), [step.value for step in problem.steps]
    kinds = {}
    for node in graph.nodes:
        if node == path[hop - 1]:
            kinds[node] = "path"
        elif node not in graph.distance:
            kinds[node] = "unreachable"
        else:
            kinds[node] = "off-path frontier" if graph.distance[node] == hop and node not in path else "reachable"
    return kinds


def products(reasoner: Reasoner, traces: TraceSet) -> list[dict[int, Float[np.ndarray, " vocab"]]]:
    """Return, for each trace and thought, the dot product of the thought's state with every token's embedding."""
    by_trace: list[dict[int, np.ndarray]] = [{} for _ in traces]
    columns = [thought_columns(trace) for trace in traces]
    embeddings = reasoner.embed.weight.detach().float()

    def keep(states, batch) -> None:  # type: ignore[no-untyped-def]
        for b, k in enumerate(batch.traces.tolist()):
            for thought, column in columns[k].items():
                by_trace[k][thought] = (embeddings @ states[b, column - 1].float()).cpu().numpy()

    reasoner.replay(traces, hooks={"ln_final.hook_out": keep}, batch_size=128)
    return by_trace


def thought_columns(trace: Trace) -> dict[int, int]:
    """Return the position of each thought of a trace, latent or written, by its number."""
    thinking = (Channel.LATENT, Channel.THOUGHT)
    return {trace.thought[k]: k for k, channel in enumerate(trace.channel) if channel in thinking}


def separation(reasoner: Reasoner, traces: TraceSet) -> pd.DataFrame:
    """Return the fraction of unreachable nodes below each reachable node, at each thought.

    Args:
        reasoner: A reasoner on task `graph`.
        traces: Traces that it wrote.

    Returns:
        One row for each thought and reachable node. Columns: trace, structure, thought, kind (one of `KINDS`), node,
        above (0 to 1; ties count half).
    """
    ids = dict(
        zip(reasoner.task.values, reasoner.tokenizer.convert_tokens_to_ids(list(reasoner.task.values)), strict=True)
    )
    rows = []
    for trace, by_thought in zip(traces, products(reasoner, traces), strict=True):
        problem = trace.problem
        for thought, product in sorted(by_thought.items()):
            if thought > problem.n_steps:
                continue
            kinds = kinds_of(problem, thought)
            below = np.array([product[ids[node]] for node, kind in kinds.items() if kind == "unreachable"])
            for node, kind in kinds.items():
                if kind != "unreachable":
                    above = share_below(product[ids[node]], below)
                    rows.append((trace.id, problem.structure, thought, kind, node, above))
    return pd.DataFrame(rows, columns=["trace", "structure", "thought", "kind", "node", "above"])


def share_below(value: float, others: Float[np.ndarray, " n"]) -> float:
    """Return the fraction of `others` below `value`; ties count half."""
    return float(((others < value) + 0.5 * (others == value)).mean())


def table(frames: dict[str, pd.DataFrame], kinds: Sequence[str] = KINDS) -> pd.DataFrame:
    """Return the AUROC against unreachable nodes by model, kind and thought, with grouped 95 % intervals.

    Args:
        frames: Model name -> result of `separation`.
        kinds: Kinds of node to show.

    Returns:
        Columns model, nodes, thought (`all` or its number), auroc, ci_low, ci_high, n.
    """
    from interp.statistics.intervals import grouped_mean_interval

    rows = []
    for model, frame in frames.items():
        for kind in kinds:
            of_kind = frame[frame["kind"] == kind]
            for thought in [0, *sorted(of_kind["thought"].unique())]:
                part = of_kind if thought == 0 else of_kind[of_kind["thought"] == thought]
                low, high = grouped_mean_interval(part["above"].to_numpy(), part["structure"].to_numpy())
                rows.append(
                    {
                        "model": model,
                        "nodes": kind,
                        "thought": "all" if thought == 0 else str(thought),
                        "auroc": part["above"].mean(),
                        "ci_low": low,
                        "ci_high": high,
                        "n": len(part),
                    }
                )
    return pd.DataFrame(rows)


def gain(
    one: pd.DataFrame, controls: dict[str, pd.DataFrame], kind: str
) -> tuple[str, float, tuple[float, float], int]:
    """Return the gain in AUROC over the best control.

    The same nodes of the same problems are compared in pairs; whole structures are resampled.

    Args:
        one: Result of `separation` for the model.
        controls: Control name -> its result.
        kind: Kind of node.

    Returns:
        Name of the best control, gain, 95 % interval, number of pairs.
    """
    from interp.statistics.intervals import grouped_mean_interval

    def of(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame["kind"] == kind]

    best = max(controls, key=lambda name: of(controls[name])["above"].mean())
    key = ["trace", "thought", "node"]
    pairs = of(one).merge(of(controls[best])[[*key, "above"]], on=key, suffixes=("", "_control"))
    difference = (pairs["above"] - pairs["above_control"]).to_numpy()
    interval = grouped_mean_interval(difference, pairs["structure"].to_numpy())
    return best, float(difference.mean()), interval, len(pairs)
