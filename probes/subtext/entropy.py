"""The entropy of a label, without the bias of a small sample: what bits about it can be at most.

The share of a class in few rows is nearer to certainty than its probability, so the plug-in entropy is too low, and what
a reader of other rows pays is too high. Replacing the logarithms of counts by digamma functions removes the bias of the
classes that were seen (Grassberger 1988; Zhang 2012), and the classes seen once tell about those that were not (Chao,
Wang and Jost 2013).

References:
    Grassberger 1988, "Finite sample corrections to entropy and dimension estimates".
    Chao, Wang and Jost 2013, "Entropy and the species accumulation curve", equation 7.
    Chao 1984, "Nonparametric estimation of the number of classes in a population"; Chao 1987, "Estimating the population
    size for capture-recapture data with unequal catchability".
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.special import digamma

from interp.statistics.estimates import Estimate

_ALL_SEEN = 0.02  # share of rows whose class was seen once, below which all classes count as seen


def class_costs_in_truth(codes: np.ndarray, groups: np.ndarray) -> Float[np.ndarray, " rows"]:
    """Return what each row's class costs a reader who knows the classes' probabilities, in bits; its mean is the entropy.

    Rows of one group with the same class count once for the size of the sample.

    Args:
        codes: Class of each row, shape (rows,).
        groups: Group of each row, shape (rows,).

    Returns:
        Costs in bits, shape (rows,).
    """
    counts, seen = np.bincount(codes), _groups_by_class(codes, groups)
    independent = seen.sum() / len(codes)
    nats = digamma(len(codes) * independent) - digamma(counts[codes] * independent)
    nats[seen[codes] == 1] += _unseen(seen)
    return np.asarray(nats / np.log(2))


def label_entropy(codes: np.ndarray, groups: np.ndarray, *, seed: int = 0) -> Estimate:
    """Return the entropy of a label in bits; neither it nor its interval exceeds log2 of the number of classes.

    Where classes seen once show that others were not seen, the interval goes up to log2 of the most classes that there
    can be, because resampling shows nothing of what was never seen.

    Args:
        codes: Class of each row, shape (rows,).
        groups: Group of each row, shape (rows,).
        seed: Seed of the bootstrap.
    """
    bits = Estimate.of_mean(class_costs_in_truth(codes, groups), groups, seed=seed)
    classes, at_most = (float(np.log2(size)) for size in _support(_groups_by_class(codes, groups)))
    high = at_most if at_most > classes else min(bits.high, classes)
    return Estimate(min(bits.value, classes), min(bits.low, classes), high, bits.n)


def at_most(entropy: Estimate, bits: Estimate, overpaid: float) -> Estimate:
    """Return bits without what the side without the features overpays, and no more than there can be.

    Args:
        entropy: Entropy of the label.
        bits: Difference of costs, in bits.
        overpaid: What the side without the features pays for learning from a sample, beyond the other side.
    """
    value = min(bits.value - overpaid, entropy.value)
    return Estimate(value, min(bits.low - overpaid, value), max(min(bits.high - overpaid, entropy.high), value), bits.n)


def _support(seen: np.ndarray) -> tuple[float, float]:
    """Return how many classes there are, with those not seen (Chao 1984), and at most (Chao 1987, 95 % interval)."""
    once, twice = int((seen == 1).sum()), max(int((seen == 2).sum()), 1)
    found, unseen = int((seen > 0).sum()), once * (once - 1) / (2 * (twice + 1))
    # Few rows whose class was seen once, among many, are no sign of other classes.
    if once * (once - 1) == 0 or once / seen.sum() < _ALL_SEEN:
        return found, found
    ratio = once / twice
    variance = twice * (ratio**4 / 4 + ratio**3 + ratio**2 / 2)
    factor = float(np.exp(1.96 * np.sqrt(np.log1p(variance / unseen**2))))
    return found + unseen, found + unseen * factor


def _groups_by_class(codes: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return in how many groups each class was seen."""
    of_group = np.unique(groups, return_inverse=True)[1]
    return np.bincount(np.unique(np.stack([codes, of_group]), axis=1)[0], minlength=int(codes.max()) + 1)


def _unseen(seen: np.ndarray) -> float:
    """Return what unseen classes add to the entropy, in nats, for each row whose class was seen once."""
    n, once, twice = int(seen.sum()), int((seen == 1).sum()), int((seen == 2).sum())
    if once == 0 or n < 2:
        return 0.0
    rate = 2 * twice / ((n - 1) * once + 2 * twice) if twice else 2 / ((n - 1) * (once - 1) + 2)
    if rate >= 1:
        return 0.0
    r = np.arange(1, n)
    return float((1 - rate) ** (1 - n) * (-np.log(rate) - ((1 - rate) ** r / r).sum()))
