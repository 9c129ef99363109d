"""Splits of the user's own: the field `split` of a questions file, where it says something else than the hash does."""

from __future__ import annotations

from collections.abc import Iterable

from interp.problems.base import Problem, split_of


def has_own_splits(problems: Iterable[Problem]) -> bool:
    """Return whether the user, and not the hash of the structure, decided the split of some problem."""
    return any(problem.split != split_of(problem.structure) for problem in problems)
