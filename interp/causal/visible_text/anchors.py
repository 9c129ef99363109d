"""Thought anchors: how much each step changes the distribution of answers (Bogdan et al., arXiv 2506.19143).

The reasoner continues many times, sampled, from just before a step and again from just after it. The distance between
the two distributions of answers measures what the step decides. The distance between two halves of the samples from before
the step measures chance.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.causal.visible_text.edits import visible_thought
from interp.causal.visible_text.forcing import resume
from interp.errors import checked_count
from interp.problems import task as make_task
from interp.reasoners.base import Reasoner
from interp.statistics.estimates import Estimate
from interp.traces import TraceSet


def anchors(
    reasoner: Reasoner, traces: TraceSet, *, samples: int = 20, temperature: float = 1.0, seed: int = 0
) -> pd.DataFrame:
    """Return how much each step of each trace changes the answers.

    Args:
        reasoner: A reasoner that thinks in text.
        traces: Its traces.
        samples: Continuations from each step, at least 4.
        temperature: Temperature of the continuations.
        seed: Seed of the sampling.

    Returns:
        One row for each trace and step: trace, step, steps, moved (total variation distance, 0 to 1, between the
        answers from before and after the step), chance (the same between two halves of the answers from before),
        agreement (share of answers after the step that are the trace's), structure.
    """
    checked_count("samples", samples, at_least=4)
    texts = [visible_thought(trace, reasoner.tokenizer) for trace in traces]
    keys = [(t, k) for t, text in enumerate(texts) for k in range(len(text.steps) + 1)]
    repeated = [key for key in keys for _ in range(samples)]
    continued = resume(
        reasoner,
        [traces[t].problem for t, _ in repeated],
        [texts[t].first(k) for t, k in repeated],
        temperature=temperature,
        seed=seed,
    )
    task = make_task(traces[0].problem.task)
    answers = np.array([task.stated(trace.problem, trace.answer) for trace in continued]).reshape(len(keys), samples)
    answers_at = {key: answers[row] for row, key in enumerate(keys)}
    rows = []
    for t, text in enumerate(texts):
        for k in range(1, len(text.steps) + 1):
            before, after = answers_at[t, k - 1], answers_at[t, k]
            rows.append(
                {
                    "trace": t,
                    "step": k,
                    "steps": len(text.steps),
                    "moved": distance(before, after),
                    "chance": distance(before[: samples // 2], before[samples // 2 :]),
                    "agreement": float((after == task.stated(traces[t].problem, traces[t].answer)).mean()),
                    "structure": traces[t].problem.structure,
                }
            )
    return pd.DataFrame(rows)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the total variation distance between two samples of answers."""
    names = np.unique(np.concatenate([one, other]))
    return float(0.5 * sum(abs((one == name).mean() - (other == name).mean()) for name in names))


def anchor_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return the means of `anchors` for each number of steps and step.

    Args:
        table: The table that `anchors` returned.

    Returns:
        Columns: steps, step, moved, chance, agreement, ci_low and ci_high (of `moved`, 95 %, by structure), n.
    """
    rows = []
    for (steps, step), part in table.groupby(["steps", "step"]):
        moved = Estimate.of_mean(part["moved"].to_numpy(), part["structure"].to_numpy())
        means = part[["moved", "chance", "agreement"]].mean()
        rows.append({"steps": steps, "step": step, **means, "ci_low": moved.low, "ci_high": moved.high, "n": moved.n})
    return pd.DataFrame(rows)
