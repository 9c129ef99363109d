"""Tightness: whether an estimate of bits would still rise with more traces, and where its truth can lie.

A reader that is fitted to few traces uses less than all the information, so its bits are a lower bound. In the same way
few traces leave the side without the features too costly. The same rows are tested with readers fitted to a quarter, a
half and all of the other traces. A learning curve is nearly a power law of the sample (Hestness et al., arXiv
1712.00409), of exponent 1 in the end (Akaike 1974, "A new look at the statistical model identification"), so three
points give what each side has still to lose, and the sample at which less than 0.05 bit would be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from interp.statistics.estimates import Estimate
from probes.subtext.information import p_value

SHARES = (0.5, 0.25)
TIGHT_BITS = 0.05
# The excess cost of a parametric reader falls as 1 / n in the end (Akaike 1974), and faster before.
_EXPONENTS = (1.0, 4.0)
_SIGNIFICANT = 0.025

Costs = tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]


@dataclass(frozen=True)
class Tightness:
    """Whether bits are a lower bound at this sample.

    Attributes:
        bits: The bits, with an interval widened by what the learning curves of both sides have still to lose; of a
            lower bound it goes up to all that the text leaves open.
        lower_bound: Whether more than 0.05 bit are still missing.
        n: At most about how many traces leave less than 0.05 bit missing; None where fewer than these already do.
    """

    bits: Estimate
    lower_bound: bool
    n: int | None

    @property
    def bound(self) -> str:
        """The kind of estimate in a word or two: "lower bound" or "tight"."""
        return "lower bound" if self.lower_bound else "tight"


def tightness(costs: Costs, refit: Callable[[float], Costs], groups: np.ndarray, *, seed: int = 0) -> Tightness:
    """Return the interval of bits with what is still to be learned.

    Args:
        costs: Cost of each row without the features and with them, in bits, by readers fitted to all traces of other
            folds, each of shape (rows,). The bits are the difference.
        refit: Returns the same costs by readers fitted to a share of these traces.
        groups: Group of each row, shape (rows,).
        seed: Seed of the bootstrap.

    References:
        Hestness et al. 2017, arXiv 1712.00409.
    """
    half = refit(SHARES[0])
    gain = costs[0] - costs[1]
    bits = Estimate.of_mean(gain, groups, seed=seed)
    most = max(bits.high, Estimate.of_mean(costs[0], groups, seed=seed).high)
    # A curve that is nearly flat is taken to have the least exponent, which needs no third point.
    flat = all(abs(float((half[side] - costs[side]).mean())) < TIGHT_BITS / 2 for side in (0, 1))
    points = [costs, half] if flat else [costs, half, refit(SHARES[1])]
    (too_open, _), (unread, exponent) = (
        _still_to_lose([float(point[side].mean()) for point in points]) for side in (0, 1)
    )
    missing = unread - too_open
    rises = p_value(gain - (half[0] - half[1]), groups) < _SIGNIFICANT
    lower_bound = bool(missing > TIGHT_BITS and rises)
    high = most if lower_bound else max(min(bits.high + unread, most), 0.0)
    n = int(np.ceil(len(gain) * (missing / TIGHT_BITS) ** (1 / exponent))) if lower_bound else None
    return Tightness(Estimate(bits.value, bits.low - too_open, high, bits.n), lower_bound, n)


def _still_to_lose(costs: Sequence[float]) -> tuple[float, float]:
    """Return how much a cost would still fall with ever more traces, at most all of it, and the curve's exponent.

    Args:
        costs: The cost at all traces, at half, and at a quarter where that is known.
    """
    fall = costs[1] - costs[0]
    low, high = (2**exponent for exponent in _EXPONENTS)
    bend = (costs[2] - costs[1]) / fall if fall > 0 and len(costs) > 2 else low
    ratio = float(np.clip(bend, low, high))
    return min(max(fall / (ratio - 1), 0.0), max(costs[0], 0.0)), float(np.log2(ratio))
