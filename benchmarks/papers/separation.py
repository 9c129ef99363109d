"""What the thoughts of task `graph` are closest to: products of thoughts and nodes (arXiv 2505.12514, section 5).

The thought that stands for hop k is the final-norm state one position before it, which a continuous reasoner
feeds back and any other could have fed back. Its product with a node's embedding is compared, inside one
problem, with the products of the nodes that the root does not reach: the mean over nodes of the share of those
that lie below is an AUROC that no difference between problems can move.
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
    """What each node is to the thought of hop `hop`.

    `path` is the node that the path reaches by that hop, `off-path frontier` any other node at that distance
    from the root, `reachable` the rest that the root reaches, `unreachable` what it does not.
    """
    graph, path = digraph(problem), [step.value for step in problem.steps]
    found = {}
    for node in graph.nodes:
        if node == path[hop - 1]:
            found[node] = "path"
        elif node not in graph.distance:
            found[node] = "unreachable"
        else:
            found[node] = "off-path frontier" if graph.distance[node] == hop and node not in path else "reachable"
    return found


def products(reasoner: Reasoner, traces: TraceSet) -> list[dict[int, Float[np.ndarray, " vocab"]]]:
    """For each trace and thought, the products of the state that becomes the thought with every token's embedding."""
    found: list[dict[int, np.ndarray]] = [{} for _ in traces]
    before = [thought_columns(trace) for trace in traces]
    embeddings = reasoner.embed.weight.detach().float()

    def keep(states, batch) -> None:  # type: ignore[no-untyped-def]
        for b, k in enumerate(batch.traces.tolist()):
            for thought, column in before[k].items():
                found[k][thought] = (embeddings @ states[b, column - 1].float()).cpu().numpy()

    reasoner.replay(traces, hooks={"ln_final.hook_out": keep}, batch_size=128)
    return found


def thought_columns(trace: Trace) -> dict[int, int]:
    """The position of each thought of a trace, silent or written, by its number."""
    thinking = (Channel.LATENT, Channel.THOUGHT)
    return {trace.thought[k]: k for k, channel in enumerate(trace.channel) if channel in thinking}


def separation(reasoner: Reasoner, traces: TraceSet) -> pd.DataFrame:
    """One row for each node that the root reaches and each thought: the share of unreachable nodes below it.

    Columns: trace, structure, thought, kind (one of `KINDS`), node, above (0 to 1; ties count half).
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
    """The share of `others` that lie below `value`; ties count half."""
    return float(((others < value) + 0.5 * (others == value)).mean())


def table(frames: dict[str, pd.DataFrame], kinds: Sequence[str] = KINDS) -> pd.DataFrame:
    """AUROC against unreachable nodes by model, kind and thought (0 is all thoughts), with grouped 95 % intervals."""
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
    """How far the AUROC of `kind` in `one` lies above the best control's: (its name, gain, 95 % interval, n).

    The same nodes of the same problems are compared pair by pair, whole structures resampled.
    """
    from interp.statistics.intervals import grouped_mean_interval

    def of(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame["kind"] == kind]

    best = max(controls, key=lambda name: of(controls[name])["above"].mean())
    key = ["trace", "thought", "node"]
    both = of(one).merge(of(controls[best])[[*key, "above"]], on=key, suffixes=("", "_control"))
    difference = (both["above"] - both["above_control"]).to_numpy()
    interval = grouped_mean_interval(difference, both["structure"].to_numpy())
    return best, float(difference.mean()), interval, len(both)
