"""Tightness: whether an estimate of bits would still rise with more traces, and where its truth can lie.

A reader that is fitted to few traces uses less than all the information, so its bits are a lower bound. In the same way
few traces leave the side without the features too costly: it pays for learning the shares of the classes, which the other
side may not need at all. The bits are less what it overpays beyond the other side, and never more than the label's
entropy. The same rows are tested with readers fitted to a quarter, a half and all of the other traces. A learning curve is
nearly a power law of the sample (Hestness et al., arXiv 1712.00409), of exponent 1 in the end (Akaike 1974, "A new look
at the statistical model identification"), so three points give what each side has still to lose, and the sample at which
less than 0.05 bit would be missing. Where features decide the label the cost falls faster, by a factor with every so many
traces.

Readers of few traces may also have used so little that the curve does not rise yet. They cost too much on rows that they
were not fitted to and too little on those that they were, by about as much (Efron 1983), so the truth lies between: the
interval goes up to what is gained on the latter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from interp.statistics.estimates import Estimate
from probes.subtext.information import InformationGain, p_value

SHARES = (0.5, 0.25)
TIGHT_BITS = 0.05
# The excess cost of a parametric reader falls as 1 / n in the end (Akaike 1974), and faster before.
_EXPONENTS = (1.0, 4.0)
# With a penalty, and more columns than the sample supports, it falls as slowly as this.
_SLOWEST = 0.5
_SIGNIFICANT = 0.025


class Costs(NamedTuple):
    """Costs of each row in bits, by readers fitted to the same share of the traces.

    Attributes:
        without: Without the features, shape (rows,).
        with_: With the features, shape (rows,).
        fitted: With the features, by readers that were fitted to the row, shape (rows,).
        left_open: Without the features where nothing has to be learned from a sample, shape (rows,); see
            `InformationGain`.
    """

    without: Float[np.ndarray, " rows"]
    with_: Float[np.ndarray, " rows"]
    fitted: Float[np.ndarray, " rows"]
    left_open: Float[np.ndarray, " rows"]

    @classmethod
    def of(cls, gain: InformationGain) -> Costs:
        """Return the costs of one label."""
        return cls(gain.without, gain.with_, gain.fitted, gain.left_open)


@dataclass(frozen=True)
class Tightness:
    """Whether bits are a lower bound at this sample.

    Attributes:
        bits: The bits, with an interval widened by what the learning curves of both sides have still to lose; of a
            lower bound it goes up to all that the text leaves open. Neither exceeds the label's entropy.
        lower_bound: Whether more than 0.05 bit are still missing.
        n: About how many traces leave less than 0.05 bit missing; None where fewer than these already do.
    """

    bits: Estimate
    lower_bound: bool
    n: int | None

    @property
    def bound(self) -> str:
        """The kind of estimate in a word or two: "lower bound" or "tight"."""
        return "lower bound" if self.lower_bound else "tight"


def tightness(
    costs: Costs, refit: Callable[[float], Costs], groups: np.ndarray, entropy: Estimate, *, seed: int = 0
) -> Tightness:
    """Return the interval of bits with what is still to be learned.

    Args:
        costs: Costs by readers fitted to all traces of other folds. The bits are the difference of the first two.
        refit: Returns the same costs by readers fitted to a share of these traces.
        groups: Group of each row, shape (rows,).
        entropy: Entropy of the label, or the sum over labels: the most that there can be.
        seed: Seed of the bootstrap.

    References:
        Hestness et al. 2017, arXiv 1712.00409. Efron 1983, "Estimating the error rate of a prediction rule".
    """
    half = refit(SHARES[0])
    gain, overfit = costs.without - costs.with_, (costs.with_ - costs.fitted) / 2
    bits, left_open, in_sample = (
        Estimate.of_mean(values, groups, seed=seed) for values in (gain, costs.left_open, costs.without - costs.fitted)
    )
    # A curve that is nearly flat is taken to have the least exponent, which needs no third point.
    curves = [(costs.left_open, half.left_open), (costs.with_, half.with_)]
    flat = all(abs(float((at_half - at_all).mean())) < TIGHT_BITS / 2 for at_all, at_half in curves)
    points = [costs, half] if flat else [costs, half, refit(SHARES[1])]
    open_curve = [float(point.left_open.mean()) for point in points]
    slower = list(zip(open_curve[1:], SHARES, strict=False))
    to_learn, _ = _still_to_lose(open_curve)
    on_curve, growth = _still_to_lose([float(point.with_.mean()) for point in points])
    unread = max(on_curve, float(overfit.mean()))
    learned = float((costs.without - costs.left_open).mean())  # the price of the classes' shares, which is known
    missing = unread - learned - to_learn
    to_learn_at_most = max((cost - open_curve[0]) / (share**-_SLOWEST - 1) for cost, share in slower)
    to_learn_at_most = float(np.clip(to_learn_at_most, 0.0, max(open_curve[0], 0.0)))  # no cost falls below 0
    at_least = bits.low - max(learned - unread, 0.0) - to_learn_at_most
    overpaid = max(-missing, 0.0)
    value = min(bits.value - overpaid, entropy.value)
    most = max(min(entropy.high, max(bits.high - overpaid, left_open.high)), 0.0)
    rises = min(
        p_value(gain - (half.without - half.with_), groups),
        p_value(overfit - learned - to_learn - TIGHT_BITS, groups),
    )
    lower_bound = bool(missing > TIGHT_BITS and rises < _SIGNIFICANT)
    high = most if lower_bound else max(min(max(bits.high + on_curve, in_sample.high), most), 0.0)
    n = int(np.ceil(len(gain) * growth(missing / TIGHT_BITS))) if lower_bound else None
    return Tightness(Estimate(value, min(at_least, value), max(high, value), bits.n), lower_bound, n)


def _still_to_lose(costs: Sequence[float]) -> tuple[float, Callable[[float], float]]:
    """Return how much a cost would still fall with ever more traces, and how many times the sample divides that by x.

    A power law that would end below 0 is none: where features decide the label, the cost falls by a factor with every
    so many traces, as the probability falls that some class has too few of them, and ends at 0.

    Args:
        costs: The cost at all traces, at half, and at a quarter where that is known.
    """
    fall, left = costs[1] - costs[0], max(costs[0], 0.0)
    low, high = (2**exponent for exponent in _EXPONENTS)
    bend = (costs[2] - costs[1]) / fall if fall > 0 and len(costs) > 2 else low
    ratio = float(np.clip(bend, low, high))
    if fall > left * (ratio - 1):
        by_half = max(costs[1] / max(left, 1e-9), 1 + 1e-9)
        return left, lambda x: 1 + np.log(x) / (2 * np.log(by_half))
    return max(fall / (ratio - 1), 0.0), lambda x: x ** (1 / np.log2(ratio))
