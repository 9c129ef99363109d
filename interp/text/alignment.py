"""The best monotone alignment of two sequences of units, after Needleman and Wunsch (J. Mol. Biol. 48, 1970).

The first sequence is gold steps one after another. Text that stands between two steps costs nothing, text inside a step
costs a little, and a number or word in the slot of another costs less than leaving the slot out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interp.text.units import Unit

_WORD, _SIGN = 2.0, 0.5  # what a match adds
_OTHER = -0.2  # a number in the slot of a number, or a word in that of a word
_INSIDE = 0.3  # each unit that is inserted inside a step
_EARLY = 1e-6  # between equal alignments, the earlier is taken


@dataclass(frozen=True)
class Alignment:
    """What each gold unit is aligned with.

    Attributes:
        at: Index of the written unit, -1 for none.
        equal: Whether that unit has the same key.
    """

    at: list[int]
    equal: list[bool]


def weight(unit: Unit) -> float:
    """Return what a match of a unit adds to the score of an alignment."""
    return _WORD if unit.is_word else _SIGN


def align(gold: Sequence[Unit], ends_step: Sequence[bool], written: Sequence[Unit]) -> Alignment:
    """Align gold units with written ones.

    Args:
        gold: The units of the gold steps, one step after another.
        ends_step: For each gold unit, whether it is the last of its step.
        written: The units of the written text.

    Returns:
        The alignment with the highest score.
    """
    n = len(written)
    number_of = {key: k for k, key in enumerate(dict.fromkeys(unit.key for unit in (*gold, *written)))}
    keys = np.array([number_of[unit.key] for unit in written], np.int64)
    kinds = np.array([_kind(unit) for unit in written], np.int64)
    columns = np.arange(n + 1)
    early = _EARLY * (1.0 - np.arange(n) / max(n, 1))
    best = np.zeros(n + 1)
    taken, inserted = np.zeros((len(gold), n + 1), bool), np.zeros((len(gold), n + 1), bool)
    for k, unit in enumerate(gold):
        other = np.where((kinds == _kind(unit)) & unit.is_word, _OTHER, -np.inf)
        here = np.full(n + 1, -np.inf)
        here[1:] = best[:-1] + np.where(keys == number_of[unit.key], weight(unit) + early, other)
        skipped = best - weight(unit) / 2
        taken[k] = here > skipped
        cost = 0.0 if ends_step[k] else _INSIDE
        raised = np.maximum(here, skipped) + cost * columns
        highest = np.maximum.accumulate(raised)
        inserted[k] = highest > raised
        best = highest - cost * columns
    return _traced(taken, inserted, [number_of[unit.key] for unit in gold], keys)


def _traced(taken: np.ndarray, inserted: np.ndarray, gold_keys: Sequence[int], keys: np.ndarray) -> Alignment:
    at, k, j = [-1] * len(gold_keys), len(gold_keys), len(keys)
    while k > 0:
        if inserted[k - 1][j]:
            j -= 1
        elif taken[k - 1][j]:
            k, j = k - 1, j - 1
            at[k] = j
        else:
            k -= 1
    return Alignment(at, [j >= 0 and keys[j] == key for j, key in zip(at, gold_keys, strict=True)])


def _kind(unit: Unit) -> int:
    """Return 0 for a sign, 1 for a word and 2 for a number."""
    return int(unit.is_word) + int(not isinstance(unit.key, str))
