"""The rows of organisms: their chains and steps, what is true of them, and what each metric says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from benchmarks.faithfulness.latent_truth import latent_truth_of
from benchmarks.faithfulness.page import LEVELS
from benchmarks.faithfulness.scoring import balanced
from benchmarks.faithfulness.truth import Truth, truth_of
from interp.causal.metrics.base import Chains, FaithfulnessScores, Metric
from interp.causal.metrics.committing import has_chain
from interp.causal.metrics.latents.chains import LatentChains
from interp.problems.base import Problem, Split
from interp.problems.reasons import STYLES
from interp.reasoners import Reasoner
from interp.runtime.progress import Progress
from interp.traces import TraceSet


@dataclass(frozen=True)
class OrganismRows:
    """What is true of an organism's chains and steps, and what the metrics say.

    Attributes:
        organism: Its name, or that of a family.
        tables: Level to the rows: truth (1, 0 or NaN), class, structure, length.
        scores: Level to metric to the scores of those rows.
        passes: Metric to texts that it ran for each chain.
        sources: Metric to where it was published.
        n_problems: Problems that were thought about.
        left_out: Chains and steps on which construction and interventions disagree.
        n_interventions: Answers that the truth took.
    """

    organism: str
    tables: dict[str, pd.DataFrame]
    scores: dict[str, dict[str, np.ndarray]]
    passes: dict[str, float]
    sources: dict[str, str]
    n_problems: int
    left_out: tuple[int, int]
    n_interventions: int


def measure_rows(
    reasoner: Reasoner,
    metrics: Sequence[Metric],
    n: int,
    seed: int,
    *,
    split: Split = "test",
    progress: Progress | None = None,
) -> OrganismRows:
    """Return the rows of an organism.

    Args:
        reasoner: The organism.
        metrics: The metrics to run.
        n: Problems of the split, an equal number of each style where its task has styles.
        seed: Which problems, and what metrics draw.
        split: "val" where something is chosen on these rows, else "test".
        progress: Called with (metrics done, metrics in all).
    """
    traces = reasoner.think(_problems(reasoner, n, seed, split), batch_size=256)
    kept = TraceSet([trace for trace in traces if has_chain(trace)])
    chains: Chains
    if reasoner.thinks_in_text:
        chains = Chains(reasoner, kept, seed=seed)
        truth = truth_of(chains)
    else:
        chains = LatentChains(reasoner, kept, seed=seed)
        truth = latent_truth_of(chains)
    scores: dict[str, dict[str, np.ndarray]] = {level: {} for level in LEVELS}
    passes: dict[str, float] = {}
    for done, metric in enumerate(metrics, 1):
        result = metric.measure(chains)
        passes[metric.name] = result.passes
        for level, values in _by_level(result).items():
            scores[level][metric.name] = values
        if progress:
            progress(done, len(metrics))
    sources = {metric.name: metric.source for metric in metrics}
    return OrganismRows(
        reasoner.name,
        _frames(chains, truth),
        scores,
        passes,
        sources,
        len(traces),
        truth.left_out,
        truth.n_interventions,
    )


def joined(family: str, parts: Sequence[OrganismRows]) -> OrganismRows:
    """Return the rows of several organisms, measured with the same metrics, as those of one family."""
    first = parts[0]
    return OrganismRows(
        family,
        {level: pd.concat([part.tables[level] for part in parts], ignore_index=True) for level in LEVELS},
        {
            level: {name: np.concatenate([part.scores[level][name] for part in parts]) for name in first.scores[level]}
            for level in LEVELS
        },
        {name: float(np.mean([part.passes[name] for part in parts])) for name in first.passes},
        first.sources,
        sum(part.n_problems for part in parts),
        (sum(part.left_out[0] for part in parts), sum(part.left_out[1] for part in parts)),
        sum(part.n_interventions for part in parts),
    )


def half_faithful(of: OrganismRows, seed: int) -> OrganismRows:
    """Return the rows of which half are faithful, at each level; those without a truth are left out."""
    tables = {level: balanced(of.tables[level], seed) for level in LEVELS}
    scores = {
        level: {name: values[tables[level].index.to_numpy()] for name, values in of.scores[level].items()}
        for level in LEVELS
    }
    return replace(of, tables=tables, scores=scores)


def _problems(reasoner: Reasoner, n: int, seed: int, split: Split) -> list[Problem]:
    """Return problems of a split, an equal number of each style where the task has styles."""
    if "style" not in reasoner.task.facts:
        return reasoner.task.generate(n, seed=seed, split=split)
    problems = reasoner.task.generate(5 * n, seed=seed, split=split)
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
