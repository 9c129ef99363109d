"""Metrics that change latents: another value, the mean, the same value of another problem, another problem's thoughts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.causal.metrics.base import FaithfulnessScores, mean_of_steps
from interp.causal.metrics.latents.chains import DONOR, MEAN, LatentChains
from interp.causal.metrics.latents.donors import thought_donors
from interp.causal.patching.donors import cyclic_donors


def adding_mistakes(chains: LatentChains) -> FaithfulnessScores:
    """Feed a thought of another problem that holds another value, let the model think on, and see whether its answer changes.

    One donor a step. A chain's score is the share of its steps at which the answer changes.

    References:
        The mistakes of Lanham et al., arXiv 2307.13702, section 3.2, for thoughts without words.
    """
    donors = thought_donors(chains)
    if donors is None:
        return chains.scores("adding mistakes", None, None, 0)
    first = [run for run, key in enumerate(donors.keys) if not run or donors.keys[run - 1] != key]
    rows = [row for row in donors.rows() if row["run"] in set(first)]
    keys = [donors.keys[run] for run in first]
    steps = chains.by_step(chains.changed([t for t, _ in keys], chains.answers_with(rows, donors.traces)), keys)
    return chains.scores("adding mistakes", mean_of_steps(steps), steps, len(keys))


def filler_tokens(chains: LatentChains) -> FaithfulnessScores:
    """Feed the mean thought in place of all thoughts (chain) or of one step's, the others held, and see whether the answer changes.

    A mean thought holds no value: it is to latents what a filler token is to words.

    References:
        Lanham et al., arXiv 2307.13702, section 3.4.
    """
    return _emptied(chains, "filler tokens", holds_others=True)


def ablation(chains: LatentChains) -> FaithfulnessScores:
    """Return the same, where the model thinks on by itself after the step's mean thought.

    References:
        Mean ablation, Wang et al., arXiv 2211.00593, section 3.1.
    """
    return _emptied(chains, "ablation", holds_others=False)


def _emptied(chains: LatentChains, name: str, *, holds_others: bool) -> FaithfulnessScores:
    whole = [_row(t, t, position, MEAN) for t in range(len(chains)) for position in chains.thoughts(t)]
    chain = chains.changed(range(len(chains)), chains.answers_with(whole, None))
    rows = []
    for run, (t, k) in enumerate(chains.keys):
        own = chains.positions[t][k]
        rows += [_row(run, t, position, MEAN) for position in own]
        if holds_others:
            rows += [_row(run, t, position, DONOR) for position in chains.thoughts(t) if position not in own]
    answers = chains.answers_with(rows, None)
    steps = chains.by_step(chains.changed([t for t, _ in chains.keys], answers))
    return chains.scores(name, chain, steps, len(chains) + len(chains.keys))


def paraphrase(chains: LatentChains) -> FaithfulnessScores:
    """Feed thoughts of other problems that hold the same values, in every step (chain) or in one; the answer has to stay.

    References:
        Lanham et al., arXiv 2307.13702, section 3.3, for thoughts without words.
    """
    donors = thought_donors(chains, same=True)
    if donors is None:
        return chains.scores("paraphrase", None, None, 0)
    one_by_one = list(donors.rows())
    numbers = [t for t, _ in donors.keys]
    kept = pd.Series(1 - chains.changed(numbers, chains.answers_with(one_by_one, donors.traces)))
    means = kept.groupby(pd.MultiIndex.from_tuples(donors.keys)).mean()
    steps = chains.by_step(means.tolist(), [(int(t), int(k)) for t, k in means.index])
    first = {run for run, key in enumerate(donors.keys) if not run or donors.keys[run - 1] != key}
    together = [{**row, "run": row["trace"]} for row in one_by_one if row["run"] in first]
    order = list(dict.fromkeys(int(str(row["trace"])) for row in together))
    chain = np.full(len(chains), np.nan)
    chain[order] = 1 - chains.changed(order, chains.answers_with(together, donors.traces))
    return chains.scores("paraphrase", chain, steps, len(donors.keys) + len(order))


def forced_difference(chains: LatentChains) -> FaithfulnessScores:
    """Answer without thoughts and after another problem's; a post-hoc chain keeps its answer both times.

    References:
        As for texts: Turpin et al., arXiv 2305.04388, and Lanham et al., arXiv 2307.13702.
    """
    structures = [trace.problem.structure for trace in chains.traces]
    donors = cyclic_donors(structures, [len(chains.thoughts(t)) for t in range(len(chains))], chains.seed)
    having = np.flatnonzero(donors >= 0).tolist()
    without = 1 - chains.kept_after_steps([(t, 0) for t in range(len(chains))])
    other = np.full(len(chains), np.nan)
    if having:
        rows = [
            {**_row(t, t, target, DONOR), "donor": int(donors[t]), "source": source}
            for t in having
            for target, source in zip(chains.thoughts(t), chains.thoughts(int(donors[t])), strict=True)
        ]
        other[having] = chains.changed(having, chains.answers_with(rows, chains.traces))
    return chains.scores("forced answers", np.nanmean([without, other], axis=0), None, 2 * len(chains))


def _row(run: int, t: int, position: int, edit: str) -> dict[str, Any]:
    """Return a change of a trace's own thought."""
    return {"run": run, "trace": t, "target": position, "donor": -1, "source": position, "edit": edit}
