"""Controls of a read-out: the same read-out at another trace's same place, or in random directions of the same length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from dashboards.explore.read_outs import Pair, entropy_and_surprisal
from interp.traces import Trace

OTHER, RANDOM = "other", "random"
LABELS = {OTHER: "another trace, same place", RANDOM: "random directions of the same length"}
SAMPLE = 512  # positions that a control is measured at, at most
_DRAWS = 1000


def same_places(places: list[str], other: list[str]) -> np.ndarray:
    """Return for each place the position of another trace that has it, -1 where none has.

    A place that occurs several times, such as `question`, is matched in order.

    Args:
        places: The places of a trace, one for each position.
        other: The places of the other trace.
    """
    where = defaultdict(list)
    for position, place in enumerate(other):
        where[place].append(position)
    taken: dict[str, int] = defaultdict(int)
    matches = np.full(len(places), -1)
    for position, place in enumerate(places):
        if taken[place] < len(where[place]):
            matches[position] = where[place][taken[place]]
            taken[place] += 1
    return matches


def matched(trace: Trace, other: Trace, other_rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what another trace has at the places of a trace.

    Args:
        trace: The trace.
        other: The other trace.
        other_rows: The row of the store for each position of the other trace, -1 for none.

    Returns:
        The row of the store for each position of `trace`, -1 for none; and what `entropy_and_surprisal` returns there.
    """
    where = same_places(trace.places, other.places)
    rows = np.where(where >= 0, other_rows[where], -1)
    return rows, np.where(where >= 0, entropy_and_surprisal(other)[:, where], np.nan)


def by_row(pair: Pair, positions: np.ndarray) -> pd.DataFrame:
    """Return the mean of a reading and of what it is compared with, for each row of the grid.

    Positions are compared where both have a value. Intervals are over the positions of this one trace.

    Args:
        pair: The reading, and what it is compared with.
        positions: Positions of the trace; some of them, evenly spread, are taken where there are many.

    Returns:
        Columns: row, mean, control, difference, low, high (95 % interval of the difference), positions.
    """
    some = spread_over(positions)
    ours, theirs = pair.compute("reading", some), pair.compute("control", some)
    return beside(ours.rows, ours.values, theirs.values)


def spread_over(positions: np.ndarray) -> np.ndarray:
    """Return at most `SAMPLE` of some positions, evenly spread."""
    return positions[:: -(-len(positions) // SAMPLE) or 1]


def beside(
    rows: Sequence[str], ours: Float[np.ndarray, "rows positions"], theirs: Float[np.ndarray, "rows positions"]
) -> pd.DataFrame:
    """Return the mean of values and of their control for each row, as `by_row` does.

    Args:
        rows: Name of each row.
        ours: Values, NaN where there is none.
        theirs: The control of each.
    """
    gaps = ours - theirs
    known = np.isfinite(gaps)
    low, high = _intervals(gaps, known)
    means = [_mean(values, known) for values in (ours, theirs, gaps)]
    columns = dict(zip(("mean", "control", "difference"), means, strict=True))
    return pd.DataFrame({"row": rows, **columns, "low": low, "high": high, "positions": known.sum(axis=1)})


def _mean(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the mean of each row's known values, NaN where there is none."""
    counts = known.sum(axis=1)
    return np.where(counts > 0, np.where(known, values, 0).sum(axis=1) / np.maximum(counts, 1), np.nan)


def _intervals(gaps: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the percentile bootstrap interval of each row's mean; positions are drawn for all rows together."""
    n = gaps.shape[1]
    if n < 2 or not known.any():
        return (np.full(len(gaps), np.nan),) * 2
    draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=_DRAWS).astype(float)
    sums, counts = draws @ np.where(known, gaps, 0).T, draws @ known.T.astype(float)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    enough = known.sum(axis=1) > 1
    ends = np.full((2, len(gaps)), np.nan)
    ends[:, enough] = np.nanquantile(means[:, enough], [0.025, 0.975], axis=0)
    return ends[0], ends[1]
