"""What a guess gets that has seen no thought: the most frequent value, or one of the words that the question offers.

Where a question is multiple choice, the most frequent value over all problems is no fair chance level: naming one of the
four candidates is right in one case of four, and a read-out has to be better than that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.problems import task as make_task
from interp.problems.base import Offering


def offered(store: ActivationSource, traces: Sequence[int], gold: Sequence[str]) -> list[tuple[int, ...]]:
    """For each row, the size of each set of words that its question offers, 0 where the right text is not in it.

    Empty tuples where the store's task offers none.
    """
    task = make_task(store.traces[0].problem.task)
    if not isinstance(task, Offering):
        return [()] * len(gold)
    sets = {t: task.offers(store.traces[t].problem) for t in set(traces)}
    return [tuple(len(each) if right in each else 0 for each in sets[t]) for t, right in zip(traces, gold, strict=True)]


def majority(gold: pd.Series, k: int = 1) -> float:
    """The share of the `k` most frequent texts."""
    return float(gold.value_counts(normalize=True).iloc[:k].sum())


def blind_guess(gold: pd.Series, offers: Sequence[tuple[int, ...]], k: int = 1) -> float:
    """What the best of these gets with `k` guesses: the most frequent texts, or words at random from one offered set.

    The guesser is not told which step is the last, so a set counts over all rows, those with the right text elsewhere
    included.
    """
    sizes = np.array([tuple(each) for each in offers], dtype=float).reshape(len(gold), -1)
    shares = np.where(sizes > 0, np.minimum(k, sizes) / np.maximum(sizes, 1), 0.0).mean(axis=0)
    return max(majority(gold, k), *shares.tolist(), 0.0)
