"""Pause tokens (arXiv 2310.02226): do pauses before the answer help, and only after training with them?

Two organisms start from the same text reasoner and have the same curriculum. In training, one replaces its steps by 0
to 8 pauses at random, the other by none. Each answers the same held-out problems after 0 to 8 pauses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.papers.base import Organisms, PaperFigure, Section
from interp.runtime.progress import Progress
from interp.statistics.intervals import grouped_mean_interval

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

SEED = 43
N, N_FULL = 1000, 4000
COUNTS = range(9)
ARMS = {"chain3-random-pauses": "0 to 8 pauses", "chain3-without-pauses": "no pauses"}
# The control between the two: trained with one pause for each step, tested with any number.
STAGED = {"chain3-staged-pauses": "one pause for each step"}


def measure(progress: Progress, full: bool, organisms: Organisms) -> Section:
    """Measure the accuracy after 0 to 8 pauses of models trained with and without pauses."""
    section = Section("pause", "Pause tokens: waiting, trained and untrained", paper=PAPER)
    arms = ARMS | STAGED
    problems = organisms.load(next(iter(ARMS))).task.generate(N_FULL if full else N, seed=SEED, split="test")
    groups = np.array([problem.structure for problem in problems])
    lengths = np.array([problem.n_steps for problem in problems])
    right: dict[str, dict[int, np.ndarray]] = {}
    for a, name in enumerate(arms):
        reasoner = organisms.load_or_note(name, section)
        if reasoner is None:
            continue
        right[name] = {}
        for k in COUNTS:
            traces = with_pauses(reasoner, k).think(problems, batch_size=256)
            right[name][k] = np.array([trace.correct for trace in traces])
            progress(a * len(COUNTS) + k + 1, len(arms) * len(COUNTS))
    arms = {name: training for name, training in arms.items() if name in right}
    section.tables["Right answers by number of pauses before the answer"] = accuracy_table(right, groups, arms)
    for n in np.unique(lengths):
        kept = {name: {k: answers[lengths == n] for k, answers in by_count.items()} for name, by_count in right.items()}
        section.tables[f"The same, problems of {n} steps"] = accuracy_table(kept, groups[lengths == n], arms)
    section.notes += [_note(name, right[name], groups, arms) for name in arms]
    return section


def with_pauses(reasoner: Reasoner, count: int) -> Reasoner:
    """Return the same model with `count` pauses before each answer."""
    config = reasoner.config.model_copy(update={"thoughts": count})
    return type(reasoner)(
        reasoner.model, reasoner.tokenizer, config, name=f"{reasoner.name}, {count} pauses", weights=reasoner.weights
    )


def accuracy_table(right: dict[str, dict[int, np.ndarray]], groups: np.ndarray, arms: dict[str, str]) -> pd.DataFrame:
    """Return one row for each number of pauses, and one pair of columns (mean, 95 %) for each arm."""
    rows = []
    for k in COUNTS:
        row: dict[str, Any] = {"pauses": k}
        for name, training in arms.items():
            row[f"trained with {training}"] = right[name][k].mean()
            row[f"{training}, 95 %"] = list(grouped_mean_interval(right[name][k], groups))
        rows.append(row | {"n": len(groups)})
    return pd.DataFrame(rows)


def gain(right: dict[int, np.ndarray], groups: np.ndarray) -> tuple[int, float, tuple[float, float]]:
    """Return the best number of pauses (1 or more), its gain over no pause, and the gain's 95 % interval.

    The number is selected on one half of the structures; its gain is measured on the same problems of the other half.
    """
    half = np.array([int(group[:8], 16) % 2 == 0 for group in groups])
    best = max((k for k in right if k), key=lambda k: (right[k][half].mean(), -k))
    gaps = right[best][~half].astype(float) - right[0][~half]
    return best, float(gaps.mean()), grouped_mean_interval(gaps, groups[~half])


def _note(name: str, right: dict[int, np.ndarray], groups: np.ndarray, arms: dict[str, str]) -> str:
    """Return one arm's accuracy without and with pauses, as a sentence."""
    best, change, (low, high) = gain(right, groups)
    verdict = "a gain" if low > 0 else "a loss" if high < 0 else "no difference"
    return (
        f"Trained with {arms[name]}: {right[0].mean():.3f} without a pause, {right[max(right)].mean():.3f} after "
        f"{max(right)}; the best number, {best}, chosen on half of the problems, changes the other half by {change:+.3f} "
        f"[{low:+.3f}, {high:+.3f}]: {verdict}."
    )


_ABSTRACT = "arXiv 2310.02226, abstract"
PAPER = [
    PaperFigure("SQuAD, exact match, pauses in pretraining and finetuning", "+18 %", _ABSTRACT),
    PaperFigure("CommonSenseQA", "+8 %", _ABSTRACT),
    PaperFigure("GSM8k, accuracy", "+1 %", _ABSTRACT),
    PaperFigure("tasks with gains, 1B model", "8 of 9, where both trainings had pauses", _ABSTRACT),
]
