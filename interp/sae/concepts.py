"""Known concepts: yes-or-no labels of rows, taken from the problems, that a feature may stand for."""

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
_FEWEST = 10  # rows that have a concept, so that it can be learned and checked


@dataclass(frozen=True)
class Concepts:
    """Names such as `step_value=7`, and which of the rows have them."""

    names: tuple[str, ...]
    holds: Bool[np.ndarray, "rows concepts"]

    def of(self, target: str) -> Concepts:
        """The concepts of one target."""
        keep = [k for k, name in enumerate(self.names) if name.partition("=")[0] == target]
        return Concepts(tuple(self.names[k] for k in keep), self.holds[:, keep])


def concepts_of(
    store: ActivationSource,
    rows: pd.DataFrame,
    targets: Sequence[str] = TARGETS,
    *,
    by_step: bool = False,
    fewest: int = _FEWEST,
) -> Concepts:
    """A concept for each value of each target, and for each gold step (`step=2`).

    With `by_step` also each value at each step (`step_value=7 at step 2`), as a feature may stand for both at once.
    Concepts that fewer than `fewest` rows have, or all, are left out. Raises `UsageError` when none is left.
    """
    names: list[str] = []
    columns: list[np.ndarray] = []
    steps = rows["step"].to_numpy()
    found: dict[str, np.ndarray] = {"step": np.array([str(s) if s else None for s in steps], dtype=object)}
    found |= {target: labels(store, rows, target) for target in targets}
    for target, label in found.items():
        for value in sorted({each for each in label if each is not None}, key=_natural):
            has = label == value
            names.append(f"{target}={value}")
            columns.append(has)
            if by_step and target != "step":
                for step in sorted(set(steps[has & (steps > 0)])):
                    names.append(f"{target}={value} at step {step}")
                    columns.append(has & (steps == step))
    kept = [k for k, has in enumerate(columns) if fewest <= has.sum() < len(rows)]
    if not kept:
        raise UsageError(
            f"no concept of {', '.join(found)} holds for at least {fewest} of these {len(rows)} rows; the problems have no "
            "gold steps, or there are too few rows. Use more problems, or other targets."
        )
    return Concepts(tuple(names[k] for k in kept), np.stack([columns[k] for k in kept], axis=1).astype(bool))


def _natural(value: str) -> tuple[int, int, str]:
    return (0, int(value), "") if value.lstrip("-").isdigit() else (1, 0, value)
