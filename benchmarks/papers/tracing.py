"""Tracing thoughts: do attention patterns and knock-outs find a planted circuit?

The graph organisms start from an induction head set by hand (`interp/organisms/training/initial.py`). Head 0 of block 0
copies the previous token into a slot of each position. Head 0 of block 1 attends to the position whose slot holds the
current node and copies its token. Attention patterns and knock-outs are measured without this knowledge and must point
at these two heads. Attribution graphs are not measured.
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

COPIER, MATCHER = (0, 0), (1, 0)  # (block, head) of both halves of the induction head
_SEED = 61


def measure(progress: Progress, full: bool, organisms: Organisms) -> Section:
    """Measure how each head attends, and the accuracy without it."""
    reasoner = organisms.load("graph-text")
    problems = reasoner.task.generate(1000 if full else 300, seed=_SEED, split="test")
    traces = reasoner.think(problems, batch_size=256)
    attention = attention_scores(reasoner, traces)
    means = mean_outputs(reasoner, traces)
    heads = sorted(attention)
    groups = np.array([problem.structure for problem in problems])
    rows = [_arm("nothing", right(traces), groups)]
    for done, head in enumerate(heads):
        without = knock_out(reasoner, problems, {head}, means)
        rows.append(_arm(_name(head), right(without), groups, attention[head]))
        progress(done + 1, len(heads) + 2)
    circuit = {COPIER, MATCHER}
    rows.append(_arm("both halves of the circuit", right(knock_out(reasoner, problems, circuit, means)), groups))
    others = {head for head in heads if head not in circuit}
    rows.append(_arm("every other head", right(knock_out(reasoner, problems, others, means)), groups))
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
        notes=[_strongest("previous token", attention, 0, COPIER), _strongest("induction", attention, 1, MATCHER)],
    )


def _strongest(
    what: str, attention: dict[tuple[int, int], tuple[float, float]], column: int, planted: tuple[int, int]
) -> str:
    """Return which head attends most, and whether it is the planted one, as a sentence."""
    best = max(attention, key=lambda head: attention[head][column])
    verdict = (
        "the planted one"
        if best == planted
        else f"not the planted one ({_name(planted)} has {attention[planted][column]:.2f})"
    )
    return f"highest {what} attention: {_name(best)} at {attention[best][column]:.2f}, {verdict}"


def _name(head: tuple[int, int]) -> str:
    """Return the name of a head."""
    return f"block {head[0]}, head {head[1]}"


def _arm(
    name: str, correct: np.ndarray, groups: np.ndarray, attention: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Return one row of the table."""
    low, high = grouped_mean_interval(correct, groups)
    previous, matched = attention or (float("nan"), float("nan"))
    return {
        "knocked out": name,
        "to previous token": previous,
        "to the next node": matched,
        "answers right": float(correct.mean()),
        "95 %": [low, high],
    }


def right(traces: Sequence[Trace]) -> np.ndarray:
    """Return which answers are right, as 0 or 1."""
    return np.array([trace.correct for trace in traces], dtype=float)


def edge_ends(trace: Trace) -> list[tuple[int, int]]:
    """Return positions (query, target): a written node, and the end of the edge from it to the next written node.

    The question lists edges as `s t ;`. A written step that is not a listed edge gives no pair.
    """
    listed = {
        (trace.tokens[k], trace.tokens[k + 1]): k + 1
        for k in range(len(trace) - 2)
        if trace.channel[k + 2] == Channel.PROMPT and trace.tokens[k + 2] == ";"
    }
    written = [k for k, channel in enumerate(trace.channel) if channel == Channel.THOUGHT]
    pairs = []
    for node, after in itertools.pairwise(written):
        end = listed.get((trace.tokens[node], trace.tokens[after]))
        if end is not None:
            pairs.append((node, end))
    return pairs


def attention_scores(reasoner: Reasoner, traces: TraceSet) -> dict[tuple[int, int], tuple[float, float]]:
    """Return, for each (block, head), the mean attention to the previous token of the question and to the edge's end."""
    pairs = [edge_ends(trace) for trace in traces]
    by_head_scores: dict[tuple[int, int], tuple[list[float], list[float]]] = {}

    def watch(block: int) -> Any:
        def hook(pattern: torch.Tensor, batch: ReplayBatch) -> None:
            for b, k in enumerate(batch.traces.tolist()):
                prompt = traces[k].channel.count(Channel.PROMPT)
                back = pattern[b].diagonal(offset=-1, dim1=1, dim2=2)[:, : prompt - 1].mean(dim=1)
                for head in range(pattern.shape[1]):
                    previous, matched = by_head_scores.setdefault((block, head), ([], []))
                    previous.append(float(back[head]))
                    matched += [float(pattern[b, head, query, target]) for query, target in pairs[k]]

        return hook

    n_blocks = reasoner.model.cfg.n_layers
    reasoner.replay(traces, hooks={f"blocks.{k}.attn.hook_pattern": watch(k) for k in range(n_blocks)})
    return {
        head: (float(np.mean(a)), float(np.mean(b)) if b else float("nan")) for head, (a, b) in by_head_scores.items()
    }


def mean_outputs(reasoner: Reasoner, traces: TraceSet) -> dict[int, torch.Tensor]:
    """Return each block's mean attention output before the output projection, heads x d_head."""
    sums: dict[int, torch.Tensor] = {}
    counts: dict[int, int] = {}

    def watch(block: int) -> Any:
        def hook(z: torch.Tensor, batch: ReplayBatch) -> None:
            valid = by_head(z, reasoner.model.cfg.n_heads)[batch.real]
            sums[block] = sums.get(block, torch.zeros_like(valid[0])) + valid.sum(dim=0)
            counts[block] = counts.get(block, 0) + len(valid)

        return hook

    n_blocks = reasoner.model.cfg.n_layers
    reasoner.replay(traces, hooks={f"blocks.{k}.attn.hook_z": watch(k) for k in range(n_blocks)})
    return {block: total / counts[block] for block, total in sums.items()}


def by_head(z: torch.Tensor, n_heads: int) -> torch.Tensor:
    """Return `z` as batch x pos x heads x d_head; some models concatenate the heads."""
    return z if z.ndim == 4 else z.unflatten(-1, (n_heads, -1))


def knock_out(
    reasoner: Reasoner, problems: Sequence[Any], heads: set[tuple[int, int]], means: dict[int, torch.Tensor]
) -> TraceSet:
    """Solve the problems with the output of `heads` replaced by its mean at every position."""

    def replace(block: int) -> Any:
        replaced = [head for at, head in heads if at == block]

        def hook(z: torch.Tensor, hook: Any = None) -> torch.Tensor:
            changed = by_head(z, reasoner.model.cfg.n_heads).clone()
            changed[:, :, replaced] = means[block][replaced]
            return changed.reshape(z.shape)

        return hook

    hooks = [(f"blocks.{block}.attn.hook_z", replace(block)) for block in {block for block, _ in heads}]
    with reasoner.model.hooks(fwd_hooks=hooks):
        return reasoner.think(problems, batch_size=256)
