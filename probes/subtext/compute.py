"""Adaptive compute: does a reasoner think more about problems that need more operations?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from interp.statistics.estimates import Estimate
from interp.statistics.intervals import drawn_groups
from interp.traces import Channel, Trace


def adaptive_compute(sets: Mapping[str, Sequence[Trace]]) -> pd.DataFrame:
    """Return thoughts used against operations needed, for each named set of traces.

    Args:
        sets: Name to traces, such as lengths that were trained on and longer ones.

    Returns:
        One row for each set and number of operations: mean thoughts with its interval, the share of traces that use
        exactly as many steps as are needed, and the share of right answers.
    """
    records = []
    for name, traces in sets.items():
        needed = np.array([trace.problem.n_steps for trace in traces])
        used = thoughts_used(traces)
        steps = np.array(
            [max(trace.step, default=0) if n_used else 0 for trace, n_used in zip(traces, used, strict=True)]
        )
        # A step past the last one needed counts as the last, so thoughts are compared with a gold trace too.
        gold = np.array([sum(len(step.text.split()) for step in trace.problem.steps) for trace in traces])
        for n in np.unique(needed):
            rows = np.flatnonzero(needed == n).tolist()
            groups = np.array([traces[k].problem.structure for k in rows])
            thoughts = Estimate.of_mean(used[rows], groups)
            records.append(
                {
                    "set": name,
                    "needed": int(n),
                    "thoughts": thoughts.value,
                    "ci_low": thoughts.low,
                    "ci_high": thoughts.high,
                    "as_many_as_needed": float(((steps == needed) & (used == gold))[rows].mean()),
                    "accuracy": float(np.mean([traces[k].correct for k in rows])),
                    "n": len(rows),
                }
            )
    return pd.DataFrame(records)


def thoughts_used(traces: Sequence[Trace]) -> np.ndarray:
    """Return how many thoughts, visible or latent, each trace has."""
    return np.array([sum(c in (Channel.THOUGHT, Channel.LATENT) for c in trace.channel) for trace in traces])


def compute_summary(sets: Mapping[str, Sequence[Trace]], *, seed: int = 0, draws: int = 1000) -> pd.DataFrame:
    """Return how thoughts used go with operations needed, one row a set.

    Args:
        sets: Name to traces.
        seed: Seed of bootstrap and control.
        draws: Number of resamples of whole structures.

    Returns:
        `correlation` is Spearman's between thoughts used and operations needed. `beyond_length` is the same with the
        length of the question taken out of both; NaN where questions of one length always need as many operations.
        Both have intervals. `shuffled` is the correlation with the operations of another problem.
    """
    records = []
    for name, traces in sets.items():
        used = thoughts_used(traces).astype(float)
        needed = np.array([trace.problem.n_steps for trace in traces], float)
        length = np.array([len(trace.problem.question.split()) for trace in traces])
        of_group, drawn = drawn_groups(np.array([trace.problem.structure for trace in traces]), draws, seed)
        times = drawn[:, of_group]
        whole = [rankdata(used), rankdata(needed)]
        within = [_without_group_means(ranks, length) for ranks in whole]
        record: dict[str, Any] = {"set": name}
        for column, (a, b) in (("correlation", whole), ("beyond_length", within)):
            spread = np.array([_correlation(a, b, weights) for weights in times])
            low, high = np.nanquantile(spread, [0.025, 0.975]) if np.isfinite(spread).any() else (np.nan, np.nan)
            record |= {column: _correlation(a, b, np.ones(len(a))), f"{column}_ci": [float(low), float(high)]}
        shuffled = np.random.default_rng(seed).permutation(whole[1])
        right = np.mean([trace.correct for trace in traces])
        record |= {"shuffled": _correlation(whole[0], shuffled, np.ones(len(used))), "accuracy": right, "n": len(used)}
        records.append(record)
    return pd.DataFrame(records)


def _without_group_means(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Subtract from each value the mean of its group."""
    codes = np.unique(groups, return_inverse=True)[1]
    return values - (np.bincount(codes, values) / np.bincount(codes))[codes]


def _correlation(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> float:
    a, b = a - np.average(a, weights=weights), b - np.average(b, weights=weights)
    scale = np.sqrt((weights @ a**2) * (weights @ b**2))
    return float(weights @ (a * b) / scale) if scale > 1e-9 else float("nan")
