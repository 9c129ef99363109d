"""Two traces side by side: what was said at the same places, what was read, and how far their states are apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dashboards.explore.controls import same_places
from dashboards.explore.opening import Material
from dashboards.runs import Run
from interp.activations import Store
from interp.statistics.intervals import percentile_interval
from interp.text.token_text import TokenText

_DRAWS = 1000


@dataclass(frozen=True)
class Gap:
    """The mean difference of entropy over places that two traces share.

    Attributes:
        value: Second minus first, in nats; NaN where no place has an entropy in both.
        low: Lower end of the 95 % interval over places.
        high: Upper end.
        n: Number of places.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """Return "+0.120 [0.020, 0.310] over 8 places"."""
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}] over {self.n} places"


def aligned(baseline: Material, other: Material) -> pd.DataFrame:
    """Return one row for each position of a trace, with what the other trace has at the same place.

    Returns:
        Columns: position, place, step, token, other token, same, entropy, other entropy, difference.
    """
    ours, theirs = baseline.trace, other.trace
    where = same_places(ours.places, theirs.places)
    there = where >= 0
    own, other_words = TokenText.of(ours), TokenText.of(theirs)
    entropy = np.array(ours.entropy, dtype=float)
    other_entropy = np.where(there, np.array(theirs.entropy, dtype=float)[where], np.nan)
    tokens = [own.cell(token) for token in ours.tokens]
    others = [other_words.cell(theirs.tokens[k]) if k >= 0 else "–" for k in where.tolist()]
    return pd.DataFrame(
        {
            "position": range(len(ours)),
            "place": ours.places,
            "step": ours.step,
            "baseline": tokens,
            "other": others,
            "same": ["✓" if a == b else "✗" for a, b in zip(tokens, others, strict=True)],
            "entropy": entropy,
            "other entropy": other_entropy,
            "difference": other_entropy - entropy,
        }
    )


def entropy_gap(table: pd.DataFrame) -> Gap:
    """Return the mean difference of entropy, with a bootstrap interval over places."""
    gaps = table["difference"].dropna().to_numpy()
    if not len(gaps):
        return Gap(np.nan, np.nan, np.nan, 0)
    draws = np.random.default_rng(0).integers(0, len(gaps), size=(_DRAWS, len(gaps)))
    low, high = percentile_interval(gaps[draws].mean(axis=1))
    return Gap(float(gaps.mean()), low, high, len(gaps))


def read_values(baseline: Run, other: Run, method: str, traces: tuple[int, int]) -> pd.DataFrame:
    """Return what a decoder read at each step of a trace of each run, beside its control.

    Returns:
        Columns: step, then for each run the true value, what was read, and what was read in another problem's thought.
    """
    parts = []
    for name, run, trace in (("baseline", baseline, traces[0]), ("other", other, traces[1])):
        read = run.readouts
        read = read[(read["method"] == method) & (read["trace"] == trace)].set_index("step")
        parts.append(
            pd.DataFrame(
                {
                    f"{name}: true": read["gold"],
                    f"{name}: reads": read["text"],
                    f"{name}: confidence": read["confidence"],
                    f"{name}: another problem's": read["other_problem"],
                }
            )
        )
    return pd.concat(parts, axis=1).sort_index().rename_axis("step").reset_index()


def why_not_comparable(first: Store | None, second: Store | None) -> str:
    """Return why the states of two stores cannot be set against each other; empty where they can."""
    if first is None or second is None:
        return "one of them has no activations"
    if first.addresses != second.addresses:
        only = {a.label for a in first.addresses} ^ {a.label for a in second.addresses}
        return f"their addresses differ ({', '.join(sorted(only)[:8])} in one of them only)"
    if first.meta["reasoner"]["weights"] != second.meta["reasoner"]["weights"]:
        return (
            f"{first.meta['reasoner']['name']} and {second.meta['reasoner']['name']} have other weights, so that a direction "
            "means something else in each"
        )
    return ""


def cosines(baseline: Material, other: Material) -> tuple[list[str], np.ndarray]:
    """Return the cosine of the states of two traces at the same places.

    Args:
        baseline: The trace whose positions are the columns.
        other: The other trace, of a store with the same addresses and weights.

    Returns:
        Names of the addresses, deepest first, and cosines, shape (addresses, positions), NaN where one has no state.
    """
    assert baseline.store is not None and other.store is not None
    where = same_places(baseline.trace.places, other.trace.places)
    theirs = np.where(where >= 0, other.rows[where], -1)
    known = (baseline.rows >= 0) & (theirs >= 0)
    addresses = sorted(baseline.store.addresses, key=lambda address: -address.depth)
    values = np.full((len(addresses), len(known)), np.nan)
    for row, address in enumerate(addresses):
        a, b = baseline.store.acts(address, baseline.rows[known]), other.store.acts(address, theirs[known])
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        values[row, known] = np.einsum("nd,nd->n", a, b) / np.maximum(lengths, 1e-12)
    return [address.name for address in addresses], values
