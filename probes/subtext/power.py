"""Power: the probability that a sample of this size detects a planted effect.

A channel of a known number of bits about the label is added to features that carry nothing (those of other
rows), and the same estimate is made of it, many times. The share of significant results is the power. Without it,
a result of zero bits has no meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binomtest

from interp.statistics.estimates import Estimate
from probes.subtext.information import Features, information_gain, p_value

PLANTED_BITS, NEEDED_POWER = 0.1, 0.9
ALPHA = 0.01
DRAWS = 20


@dataclass(frozen=True)
class Power:
    """The share of planted channels that were detected.

    Attributes:
        bits: Size of the planted channel, in bits.
        detected: The share detected, with its interval; `n` is the number of draws. None where the label has too few
            bits for such a channel.
        alpha: Significance level of a detection.
    """

    bits: float
    detected: Estimate | None
    alpha: float = ALPHA

    @property
    def share(self) -> float | None:
        """The share of planted channels that were detected."""
        return None if self.detected is None else self.detected.value

    @property
    def enough(self) -> bool:
        """Whether the power is at least 0.9, so that a channel not found may be called absent."""
        return self.share is not None and self.share >= NEEDED_POWER

    def sentence(self) -> str:
        """Return the power in words."""
        if self.detected is None:
            return f"the label has less than {self.bits} bit in all, so no such channel can be planted"
        return (
            f"this sample detects {self.bits:g} bit with probability {self.detected.value:.2f} "
            f"[{self.detected.low:.2f}, {self.detected.high:.2f}] ({self.detected.n} planted channels, "
            f"p < {self.alpha:g})"
        )


def power(
    labels: np.ndarray,
    given: Sequence[Features],
    beyond: Features,
    groups: np.ndarray,
    *,
    bits: float = PLANTED_BITS,
    draws: int = DRAWS,
    alpha: float = ALPHA,
    seed: int = 0,
) -> Power:
    """Add channels of `bits` about `labels` to the features of other rows and count how many are detected.

    Args:
        labels: Label of each row, shape (rows,); None in rows that have none.
        given: As in `information_gain`.
        beyond: As in `information_gain`; shuffled among rows, so that it keeps its capacity and loses its information.
        groups: Group of each row, shape (rows,).
        bits: Mutual information of the planted channel with the label.
        draws: Number of planted channels.
        alpha: Significance level of a detection.
        seed: Seed of channels and folds.
    """
    present = np.flatnonzero([label is not None for label in labels])
    classes, codes = np.unique(labels[present].astype(str), return_inverse=True)
    noise = _noise_for(np.bincount(codes) / max(len(codes), 1), bits)
    if noise is None:
        return Power(bits, None, alpha)
    inputs, features, held = [matrix[present] for matrix in given], beyond[present], groups[present]
    detected = 0
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw, 90])
        copied = np.where(rng.random(len(codes)) < noise, rng.integers(len(classes), size=len(codes)), codes)
        channel = np.eye(len(classes))[copied]
        planted = np.concatenate([channel, features[rng.permutation(len(codes))]], axis=1)
        gains = information_gain({"planted": classes[codes].astype(object)}, inputs, planted, held, seed=seed)
        detected += "planted" in gains and p_value(gains["planted"].bits, held) < alpha
    interval = binomtest(detected, draws).proportion_ci()
    return Power(bits, Estimate(detected / draws, float(interval.low), float(interval.high), draws), alpha)


def channel_bits(share: np.ndarray, noise: float) -> float:
    """Return the mutual information of a label with a noisy copy of it, in bits.

    Args:
        share: Probability of each class, shape (classes,).
        noise: Probability that the copy is a class drawn at random.
    """
    joint = np.diag(share * (1 - noise)) + share[:, None] * noise / len(share)
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    positive = joint > 0
    return float((joint[positive] * np.log2(joint[positive] / product[positive])).sum())


def _noise_for(share: np.ndarray, bits: float) -> float | None:
    """Return the noise at which a copy carries `bits`; None where the label has no more than that."""
    if len(share) < 2 or channel_bits(share, 0.0) <= bits:
        return None
    return float(brentq(lambda noise: channel_bits(share, noise) - bits, 0.0, 1.0))
