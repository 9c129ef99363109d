"""Thought anchors: how much does each step move the distribution of the answer (Bogdan et al., arXiv 2506.19143)?

From just before a step the reasoner is let go on many times, sampled; and again from just after it. The distance of the
two distributions of answers is what the step, as it was written, decides. Two halves of the same samples, set beside
each other, say how much distance chance alone makes.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.causal.faithfulness import written
from interp.causal.forcing import resume
from interp.errors import checked_count
from interp.reasoners.base import Reasoner
from interp.statistics.intervals import grouped_mean_interval
from interp.traces import TraceSet


def anchors(
    reasoner: Reasoner, traces: TraceSet, *, samples: int = 20, temperature: float = 1.0, seed: int = 0
) -> pd.DataFrame:
    """One row for each trace and step: how far the step moves the answers, and which share then agrees with the final one.

    `moved` is the total variation distance (0 to 1) between the answers of `samples` continuations from before and after
    the step; `chance` the same between two halves of those from before it; `agreement` the share, after the step, of the
    answer given in the trace.
    """
    checked_count("samples", samples, at_least=4)
    texts = [written(trace) for trace in traces]
    keys = [(t, k) for t, text in enumerate(texts) for k in range(len(text.steps) + 1)]
    repeated = [key for key in keys for _ in range(samples)]
    found = resume(
        reasoner,
        [traces[t].problem for t, _ in repeated],
        [texts[t].first(k) for t, k in repeated],
        temperature=temperature,
        seed=seed,
    )
    answers = np.array([trace.answer for trace in found]).reshape(len(keys), samples)
    of = {key: answers[row] for row, key in enumerate(keys)}
    rows = []
    for t, text in enumerate(texts):
        for k in range(1, len(text.steps) + 1):
            before, after = of[t, k - 1], of[t, k]
            rows.append(
                {
                    "trace": t,
                    "step": k,
                    "steps": len(text.steps),
                    "moved": distance(before, after),
                    "chance": distance(before[: samples // 2], before[samples // 2 :]),
                    "agreement": float((after == traces[t].answer).mean()),
                    "structure": traces[t].problem.structure,
                }
            )
    return pd.DataFrame(rows)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Total variation distance between two samples of answers."""
    names = np.unique(np.concatenate([one, other]))
    return float(0.5 * sum(abs((one == name).mean() - (other == name).mean()) for name in names))


def anchor_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means by number of steps and step, with a 95 % interval over structures."""
    rows = []
    for (steps, step), part in table.groupby(["steps", "step"]):
        low, high = grouped_mean_interval(part["moved"].to_numpy(), part["structure"].to_numpy())
        means = part[["moved", "chance", "agreement"]].mean()
        rows.append({"steps": steps, "step": step, **means, "ci_low": low, "ci_high": high, "n": len(part)})
    return pd.DataFrame(rows)
