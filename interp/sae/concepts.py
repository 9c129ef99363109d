"""Concepts: yes-or-no labels of rows, taken from the problems, that a feature may detect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool

from interp.activations import ActivationSource
from interp.activations.targets import labels
from interp.errors import UsageError

TARGETS = ("step_value", "next_step", "answer")
_MIN_ROWS = 10  # rows that have a concept, so that it can be learned and checked


@dataclass(frozen=True)
class Concepts:
    """Concepts of some rows.

    Attributes:
        names: Names such as `step_value=7`.
        holds: Which rows have which concept, shape (rows, concepts).
    """

    names: tuple[str, ...]
    holds: Bool[np.ndarray, "rows concepts"]

    def of(self, target: str) -> Concepts:
        """Return the concepts of one target."""
        keep = [k for k, name in enumerate(self.names) if name.partition("=")[0] == target]
        return Concepts(tuple(self.names[k] for k in keep), self.holds[:, keep])


def concepts_of(
    store: ActivationSource,
    rows: pd.DataFrame,
    targets: Sequence[str] = TARGETS,
    *,
    by_step: bool = False,
    min_rows: int = _MIN_ROWS,
) -> Concepts:
    """Return one concept for each value of each target, and for each gold step (`step=2`).

    Args:
        store: Where the rows come from.
        rows: A part of the store's index.
        targets: Names of targets, see `interp.activations.targets`.
        by_step: Add each value at each step (`step_value=7 at step 2`), because a feature may detect both at once.
        min_rows: Leave out concepts that fewer rows have, and those that all rows have.

    Returns:
        The concepts.

    Raises:
        UsageError: When no concept is left.
    """
    names: list[str] = []
    columns: list[np.ndarray] = []
    steps = rows["step"].to_numpy()
    by_target: dict[str, np.ndarray] = {"step": np.array([str(s) if s else None for s in steps], dtype=object)}
    by_target |= {target: labels(store, rows, target) for target in targets}
    for target, values in by_target.items():
        for value in sorted({value for value in values if value is not None}, key=_natural_order):
            has = values == value
            names.append(f"{target}={value}")
            columns.append(has)
            if by_step and target != "step":
                for step in sorted(set(steps[has & (steps > 0)])):
                    names.append(f"{target}={value} at step {step}")
                    columns.append(has & (steps == step))
    kept = [k for k, has in enumerate(columns) if min_rows <= has.sum() < len(rows)]
    if not kept:
        raise UsageError(
            f"no concept of {', '.join(by_target)} holds for at least {min_rows} of these {len(rows)} rows; the "
            "problems have no gold steps, or there are too few rows. Use more problems, or other targets."
        )
    return Concepts(tuple(names[k] for k in kept), np.stack([columns[k] for k in kept], axis=1).astype(bool))


def _natural_order(value: str) -> tuple[int, int, str]:
    """Sort integers by value, before other texts."""
    return (0, int(value), "") if value.lstrip("-").isdigit() else (1, 0, value)
