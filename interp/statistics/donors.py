"""Donors for controls: rows of other problems that replace a row."""

from __future__ import annotations

import numpy as np


def other_problem(steps: np.ndarray, structures: np.ndarray, parts: np.ndarray, seed: int) -> np.ndarray:
    """Return, for each row, the index of a row of another problem structure at the same step and in the same part.

    Args:
        steps: The step of each row, shape (rows,).
        structures: The structure of each row's problem, shape (rows,).
        parts: The part of the split of each row, shape (rows,); all equal where rows are not split.
        seed: Seed of the draw.

    Returns:
        Indices, shape (rows,). A row without a row of another structure gets its own index.
    """
    rng = np.random.default_rng(seed)
    donors = np.arange(len(steps))
    for step, part in sorted(set(zip(steps.tolist(), parts.tolist(), strict=True))):
        members = np.flatnonzero((steps == step) & (parts == part))
        order = rng.permutation(members)
        donors[order] = np.roll(order, 1)
    for row in np.flatnonzero(structures[donors] == structures):
        others = np.flatnonzero((steps == steps[row]) & (parts == parts[row]) & (structures != structures[row]))
        if len(others):
            donors[row] = rng.choice(others)
    return donors
