"""Tracing thoughts: an organism whose circuit is known, and whether looking for it finds it.

The graph organisms start from an induction head set by hand (`interp/organisms/training/initial.py`): head 0 of block 0
copies the previous token into a slot of each position, head 0 of block 1 looks there for the current node and
copies what stands after it. Attribution graphs are other work; here attention patterns and knock-outs, which know
nothing of that, have to point at these two heads.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.papers.base import Organisms, PaperFigure, Section
from interp.reasoners import Reasoner
from interp.reasoners.replayer import ReplayBatch
from interp.runtime.progress import Progress
from interp.statistics.intervals import grouped_mean_interval
from interp.traces import Channel, Trace, TraceSet

COPIER, MATCHER = (0, 0), (1, 0)  # (block, head) of the induction head's two halves
_SEED = 61


def measure(progress: Progress, full: bool, organisms: Organisms) -> Section:
    """Which heads attend as the circuit should, and what happens to the answers without each of them."""
    reasoner = organisms.load("graph-text")
    problems = reasoner.task.generate(1000 if full else 300, seed=_SEED, split="test")
    traces = reasoner.think(problems, batch_size=256)
    looks = attention_scores(reasoner, traces)
    means = mean_outputs(reasoner, traces)
    heads = sorted(looks)
    groups = np.array([problem.structure for problem in problems])
    rows = [_arm("nothing", right(traces), groups)]
    for number, head in enumerate(heads):
        without = knocked_out(reasoner, problems, {head}, means)
        rows.append(_arm(_name(head), right(without), groups, looks[head]))
        progress(number + 1, len(heads) + 2)
    circuit = {COPIER, MATCHER}
    rows.append(_arm("both halves of the circuit", right(knocked_out(reasoner, problems, circuit, means)), groups))
    others = {head for head in heads if head not in circuit}
    rows.append(_arm("every other head", right(knocked_out(reasoner, problems, others, means)), groups))
    progress(len(heads) + 2, len(heads) + 2)
    table = pd.DataFrame(rows)
    return Section(
        "tracing",
        "Tracing thoughts: an organism with a known circuit (graph-text)",
        {"attention and knock-outs (each head's output replaced by its mean)": table},
        paper=[
            PaperFigure(
                "prompts with a satisfying attribution graph",
                "about a quarter",
                "attribution graphs, authors' estimate",
            )
        ],
        notes=[_found("previous token", looks, 0, COPIER), _found("induction", looks, 1, MATCHER)],
    )


def _found(what: str, looks: dict[tuple[int, int], tuple[float, float]], column: int, planted: tuple[int, int]) -> str:
    best = max(looks, key=lambda head: looks[head][column])
    said = (
        "the planted one"
        if best == planted
        else f"not the planted one ({_name(planted)} has {looks[planted][column]:.2f})"
    )
    return f"highest {what} attention: {_name(best)} at {looks[best][column]:.2f}, {said}"


def _name(head: tuple[int, int]) -> str:
    return f"block {head[0]}, head {head[1]}"


def _arm(
    name: str, correct: np.ndarray, groups: np.ndarray, looks: tuple[float, float] | None = None
) -> dict[str, Any]:
    low, high = grouped_mean_interval(correct, groups)
    previous, matched = looks or (float("nan"), float("nan"))
    return {
        "knocked out": name,
        "to previous token": previous,
        "to the next node": matched,
        "answers right": float(correct.mean()),
        "95 %": [low, high],
    }


def right(traces: Sequence[Trace]) -> np.ndarray:
    return np.array([trace.correct for trace in traces], dtype=float)


def edge_ends(trace: Trace) -> list[tuple[int, int]]:
    """Positions (query, target): a written node, and the end of the edge that leads from it to the next one written.

    The question lists edges as `s t ;`; a walk that leaves the listed edges gives no pair there.
    """
    listed = {
        (trace.tokens[k], trace.tokens[k + 1]): k + 1
        for k in range(len(trace) - 2)
        if trace.channel[k + 2] == Channel.PROMPT and trace.tokens[k + 2] == ";"
    }
    written = [k for k, channel in enumerate(trace.channel) if channel == Channel.THOUGHT]
    pairs = []
    for here, after in itertools.pairwise(written):
        end = listed.get((trace.tokens[here], trace.tokens[after]))
        if end is not None:
            pairs.append((here, end))
    return pairs


def attention_scores(reasoner: Reasoner, traces: TraceSet) -> dict[tuple[int, int], tuple[float, float]]:
    """For each (block, head) the mean attention to the previous token, over the question, and to the edge's end."""
    pairs = [edge_ends(trace) for trace in traces]
    found: dict[tuple[int, int], tuple[list[float], list[float]]] = {}

    def watch(block: int) -> Any:
        def hook(pattern: torch.Tensor, batch: ReplayBatch) -> None:
            for b, k in enumerate(batch.traces.tolist()):
                prompt = traces[k].channel.count(Channel.PROMPT)
                back = pattern[b].diagonal(offset=-1, dim1=1, dim2=2)[:, : prompt - 1].mean(dim=1)
                for head in range(pattern.shape[1]):
                    previous, matched = found.setdefault((block, head), ([], []))
                    previous.append(float(back[head]))
                    matched += [float(pattern[b, head, query, target]) for query, target in pairs[k]]

        return hook

    n_blocks = reasoner.model.cfg.n_layers
    reasoner.replay(traces, hooks={f"blocks.{k}.attn.hook_pattern": watch(k) for k in range(n_blocks)})
    return {head: (float(np.mean(a)), float(np.mean(b)) if b else float("nan")) for head, (a, b) in found.items()}


def mean_outputs(reasoner: Reasoner, traces: TraceSet) -> dict[int, torch.Tensor]:
    """Each block's mean attention output by head before the output projection, heads x d_head."""
    sums: dict[int, torch.Tensor] = {}
    counts: dict[int, int] = {}

    def watch(block: int) -> Any:
        def hook(z: torch.Tensor, batch: ReplayBatch) -> None:
            real = by_head(z, reasoner.model.cfg.n_heads)[batch.real]
            sums[block] = sums.get(block, torch.zeros_like(real[0])) + real.sum(dim=0)
            counts[block] = counts.get(block, 0) + len(real)

        return hook

    n_blocks = reasoner.model.cfg.n_layers
    reasoner.replay(traces, hooks={f"blocks.{k}.attn.hook_z": watch(k) for k in range(n_blocks)})
    return {block: total / counts[block] for block, total in sums.items()}


def by_head(z: torch.Tensor, n_heads: int) -> torch.Tensor:
    """batch x pos x heads x d_head, also where a model gives the heads side by side."""
    return z if z.ndim == 4 else z.unflatten(-1, (n_heads, -1))


def knocked_out(
    reasoner: Reasoner, problems: Sequence[Any], heads: set[tuple[int, int]], means: dict[int, torch.Tensor]
) -> TraceSet:
    """The problems thought about with the output of `heads` replaced by its mean, at every position."""

    def replace(block: int) -> Any:
        chosen = [head for at, head in heads if at == block]

        def hook(z: torch.Tensor, hook: Any = None) -> torch.Tensor:
            changed = by_head(z, reasoner.model.cfg.n_heads).clone()
            changed[:, :, chosen] = means[block][chosen]
            return changed.reshape(z.shape)

        return hook

    hooks = [(f"blocks.{block}.attn.hook_z", replace(block)) for block in {block for block, _ in heads}]
    with reasoner.model.hooks(fwd_hooks=hooks):
        return reasoner.think(problems, batch_size=256)
