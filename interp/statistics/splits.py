"""Train, validation and test rows that share no problem structure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from interp.errors import UsageError

MAX_SPLITS = 1000  # each split fits every read-out again, and intervals gain nothing from more
SHARES = {"train": 0.6, "val": 0.15, "test": 0.25}


@dataclass(frozen=True)
class Masks:
    """One boolean mask over rows for each part, shape (rows,)."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def grouped_split(groups: np.ndarray, seed: int) -> Masks:
    """Assign each group as a whole to train (60 %), val (15 %) or test (25 %).

    A hash of (seed, group) decides, so the part of a group does not depend on which other groups there are.

    Args:
        groups: Group of each row, such as the structure of its problem, shape (rows,).
        seed: Another seed gives another split.

    Returns:
        One boolean mask over rows for each part.

    Raises:
        UsageError: A part is empty, because there are too few groups.
    """
    return masks_of(split_parts(groups, seed), groups)


def masks_of(parts: np.ndarray, groups: np.ndarray) -> Masks:
    """Return the rows of each part as masks.

    Args:
        parts: "train", "val" or "test" for each row, shape (rows,).
        groups: Group of each row, shape (rows,).

    Raises:
        UsageError: A part is empty.
    """
    for name in SHARES:
        if not (parts == name).any():
            raise UsageError(
                f"{len(np.unique(groups))} problem structures are too few to split: the {name} part is empty. "
                "Use more problems."
            )
    return Masks(*(parts == name for name in SHARES))


def split_parts(groups: np.ndarray, seed: int, shares: Mapping[str, float] = SHARES) -> np.ndarray:
    """Return "train", "val" or "test" for each row, as `grouped_split` does, also where a part is empty.

    Args:
        groups: Group of each row, such as the structure of its problem, shape (rows,).
        seed: Another seed gives another split.
        shares: The share of the groups in each part.

    Returns:
        The part of each row, shape (rows,).
    """
    unique, inverse = np.unique(groups, return_inverse=True)
    draws = np.array([_uniform(seed, group) for group in unique], dtype=float)[inverse]
    names = list(shares)
    ends = np.cumsum(list(shares.values()))[:-1]
    return np.select([draws < end for end in ends], names[:-1], names[-1])


def _uniform(seed: int, group: object) -> float:
    return int.from_bytes(hashlib.sha256(f"{seed}|{group}".encode()).digest()[:8], "big") / 2**64
