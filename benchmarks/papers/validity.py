"""Validity of a trace against validity of the plan after it."""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

CELLS = ("both", "trace only", "plan only", "neither")


def two_by_two(trace: Bool[np.ndarray, " texts"], plan: Bool[np.ndarray, " texts"]) -> dict[str, int]:
    """Count the texts with a valid trace and plan, with one of them, and with neither."""
    trace, plan = np.asarray(trace, bool), np.asarray(plan, bool)
    counts = (trace & plan, trace & ~plan, ~trace & plan, ~trace & ~plan)
    return {name: int(cell.sum()) for name, cell in zip(CELLS, counts, strict=True)}


def phi(table: Mapping[str, int]) -> float | None:
    """Return the φ coefficient of a 2x2 table (the correlation of both validities), or None where one never varies."""
    a, b, c, d = (table[name] for name in CELLS)
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    return (a * d - b * c) / math.sqrt(margins) if margins else None


def trace_given_plan(table: Mapping[str, int]) -> float | None:
    """Return the fraction of valid traces among texts with a valid plan, or None where no plan is valid."""
    plans = table["both"] + table["plan only"]
    return table["both"] / plans if plans else None


def by_length(
    trace: Bool[np.ndarray, " texts"],
    plan: Bool[np.ndarray, " texts"],
    lengths: Int[np.ndarray, " texts"],
    edges: Sequence[int],
) -> list[dict[str, Any]]:
    """Return the 2x2 table of all texts and of each bin of lengths; empty bins are left out.

    Args:
        trace: Which traces are valid.
        plan: Which plans are valid.
        lengths: Length of each text.
        edges: Greatest length of each bin but the last.

    Returns:
        One row for each bin.
    """
    lengths = np.asarray(lengths)
    bounds = [0, *edges, math.inf]
    parts = [("all", np.ones(len(lengths), bool))]
    for low, high in itertools.pairwise(bounds):
        name = f"{int(low) + 1} or more" if high == math.inf else f"{int(low) + 1} to {int(high)}"
        parts.append((name, (lengths > low) & (lengths <= high)))
    rows = []
    for name, part in parts:
        if part.any():
            table = two_by_two(np.asarray(trace)[part], np.asarray(plan)[part])
            shown = {"trace valid given plan valid": trace_given_plan(table), "φ": phi(table)}
            rows.append({"steps": name, "n": int(part.sum()), **table, **shown})
    return rows


def error_shares(faults: Sequence[str | None], kinds: Sequence[str]) -> dict[str, float | None]:
    """Return, of the texts with a fault, the fraction whose first fault is of each kind; None where no text has one."""
    counts = collections.Counter(kind for kind in faults if kind is not None)
    n = sum(counts.values())
    return {kind: counts[kind] / n if n else None for kind in kinds}
