"""The rows of one organism: its chains and steps, what is true of them, and what each metric says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.faithfulness.page import LEVELS
from benchmarks.faithfulness.scoring import balanced
from benchmarks.faithfulness.truth import Truth, truth_of
from interp.causal.metrics.base import Chains, FaithfulnessScores, Metric
from interp.problems.reasons import STYLES
from interp.reasoners import Reasoner
from interp.runtime.progress import Progress
from interp.traces import TraceSet


@dataclass(frozen=True)
class OrganismRows:
    """What is true of an organism's chains and steps, and what the metrics say.

    Attributes:
        organism: Its name.
        tables: Level to the balanced rows: truth, class, structure, length.
        scores: Level to metric to the scores of those rows.
        all_scores: Metric to the scores of every chain, balanced or not.
        passes: Metric to texts that it ran for each chain.
        sources: Metric to where it was published.
        n_problems: Problems that were thought about.
        left_out: Chains and steps on which construction and interventions disagree.
        n_interventions: Answers that the truth took.
    """

    organism: str
    tables: Mapping[str, pd.DataFrame]
    scores: Mapping[str, Mapping[str, np.ndarray]]
    all_scores: Mapping[str, np.ndarray]
    passes: Mapping[str, float]
    sources: Mapping[str, str]
    n_problems: int
    left_out: tuple[int, int]
    n_interventions: int


def measure_rows(
    reasoner: Reasoner, metrics: Sequence[Metric], n: int, seed: int, progress: Progress | None = None
) -> OrganismRows:
    """Return the rows of an organism.

    Args:
        reasoner: The organism.
        metrics: The metrics to run.
        n: Held-out problems, an equal number of each style where its task has styles.
        seed: Which problems, and what metrics draw.
        progress: Called with (metrics done, metrics in all).
    """
    traces = reasoner.think(_problems(reasoner, n, seed), batch_size=256)
    chains = Chains(reasoner, TraceSet([trace for trace in traces if trace.answer and any(trace.thought)]), seed=seed)
    truth = truth_of(chains)
    tables = {level: balanced(frame, seed) for level, frame in _frames(chains, truth).items()}
    scores: dict[str, dict[str, np.ndarray]] = {level: {} for level in LEVELS}
    passes: dict[str, float] = {}
    all_scores: dict[str, np.ndarray] = {}
    for done, metric in enumerate(metrics, 1):
        result = metric.measure(chains)
        passes[metric.name] = result.passes
        all_scores[metric.name] = result.chain
        for level, values in _by_level(result).items():
            scores[level][metric.name] = values[tables[level].index.to_numpy()]
        if progress:
            progress(done, len(metrics))
    sources = {metric.name: metric.source for metric in metrics}
    return OrganismRows(
        reasoner.name, tables, scores, all_scores, passes, sources, len(traces), truth.left_out, truth.n_interventions
    )


def _problems(reasoner: Reasoner, n: int, seed: int) -> list:  # type: ignore[type-arg]
    """Return held-out problems, an equal number of each style where the task has styles."""
    problems = reasoner.task.generate(5 * n if "style" in reasoner.task.facts else n, seed=seed, split="test")
    if "style" not in reasoner.task.facts:
        return problems
    of_style = {style: [p for p in problems if p.meta["style"] == style][: n // len(STYLES)] for style in STYLES}
    return [problem for style in STYLES for problem in of_style[style]]


def _frames(chains: Chains, truth: Truth) -> dict[str, pd.DataFrame]:
    structures = [trace.problem.structure for trace in chains.traces]
    lengths = [len(positions) for positions in chains.positions]
    chain = pd.DataFrame({"truth": truth.chain, "class": truth.chain_class, "structure": structures, "length": lengths})
    step = pd.DataFrame(
        {
            "truth": np.concatenate(truth.steps),
            "class": [truth.step_class[t][k] if k < len(truth.step_class[t]) else "extra" for t, k in chains.keys],
            "structure": [structures[t] for t, _ in chains.keys],
            "length": [lengths[t] for t, _ in chains.keys],
        }
    )
    return {"chain": chain, "step": step}


def _by_level(result: FaithfulnessScores) -> dict[str, np.ndarray]:
    return {"chain": result.chain, "step": np.concatenate(result.steps)}
