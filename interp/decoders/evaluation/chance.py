"""Chance: what a guess without any thought gets, from the most frequent value or the words that the question offers.

Where a question is multiple choice, the most frequent value over all problems is no fair chance level. Naming one of four
candidates is right in one case of four, and a read-out has to be better than that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def offered_sizes(
    offers: Sequence[Sequence[Sequence[str]]], traces: Sequence[int], gold: Sequence[str]
) -> list[tuple[int, ...]]:
    """Return, for each row, the size of each set of words that its question offers, 0 where the gold text is not in it.

    Args:
        offers: The sets of each trace (`DecodeInputs.offers`); empty where the task offers none.
        traces: The trace of each row.
        gold: The gold text of each row.
    """
    return [
        tuple(len(words) if right in words else 0 for words in offers[trace])
        for trace, right in zip(traces, gold, strict=True)
    ]


def majority(gold: pd.Series, k: int = 1) -> float:
    """Return the share of the `k` most frequent texts."""
    return float(gold.value_counts(normalize=True).iloc[:k].sum())


def blind_guess(gold: pd.Series, offers: Sequence[tuple[int, ...]], k: int = 1) -> float:
    """Return the accuracy of the best blind guesser with `k` guesses.

    It names the most frequent texts, or words drawn from one of the offered sets. It does not know which step is the
    last, so a set counts over all rows, also over those whose gold text is not in it.

    Args:
        gold: The gold text of each row.
        offers: The sizes of the offered sets of each row (`offered_sizes`).
        k: Number of guesses.
    """
    sizes = np.array([tuple(row) for row in offers], dtype=float).reshape(len(gold), -1)
    shares = np.where(sizes > 0, np.minimum(k, sizes) / np.maximum(sizes, 1), 0.0).mean(axis=0)
    return max(majority(gold, k), *shares.tolist(), 0.0)
