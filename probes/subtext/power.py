"""Power: the probability that a sample of this size detects a planted effect.

A channel of a known number of bits about the label is added to features that carry nothing (those of other
rows), and the same estimate is made of it, many times. The share of significant results is the power. Without it,
a result of zero bits has no meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.stats import binomtest, norm

from interp.statistics.estimates import Estimate
from probes.subtext.information import MIN_ROWS, LabelBaseline, p_value
from probes.subtext.readers import Features

PLANTED_BITS, NEEDED_POWER = 0.1, 0.9
ALPHA = 0.01
DRAWS = 20
_USUAL_EFFECT = 0.75  # of a reader who knows the channel, once there are enough rows


@dataclass(frozen=True)
class Power:
    """The share of planted channels that were detected.

    Attributes:
        bits: Size of the planted channel, in bits.
        detected: The share detected, with its interval; `n` is the number of draws. None where the label has too few
            bits for such a channel.
        alpha: Significance level of a detection.
        needed: About how many rows detect such a channel with probability 0.9; None where none can be planted.
    """

    bits: float
    detected: Estimate | None
    alpha: float = ALPHA
    needed: int | None = None

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
            f"p < {self.alpha:g})" + ("" if self.enough else f"; {self.advice()}")
        )

    def advice(self) -> str:
        """Return which sample would be enough, in words."""
        return f"about {self.needed} traces would reach {NEEDED_POWER:g}"


def power(
    labels: np.ndarray,
    given: Sequence[Features],
    beyond: Features,
    groups: np.ndarray,
    *,
    bits: float = PLANTED_BITS,
    draws: int = DRAWS,
    tests: int = 1,
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
        tests: Number of tests among which q-values are computed.
        seed: Seed of channels and folds.
    """
    present = np.flatnonzero([label is not None for label in labels])
    classes, codes = np.unique(labels[present].astype(str), return_inverse=True)
    noise = _noise_for(np.bincount(codes) / max(len(codes), 1), bits)
    if noise is None or len(present) < MIN_ROWS:
        return Power(bits, None)
    features, held = beyond[present], groups[present]
    baseline = LabelBaseline.fitted({"planted": codes}, [matrix[present] for matrix in given], held, seed=seed)
    gains = []
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw, 90])
        copied = np.where(rng.random(len(codes)) < noise, rng.integers(len(classes), size=len(codes)), codes)
        channel = np.eye(len(classes))[copied]
        planted = np.concatenate([channel, features[rng.permutation(len(codes))]], axis=1)
        costs = baseline.costs_with(planted)["planted"]
        gains.append(costs.without - costs.with_)
    return power_of_gains(gains, held, np.bincount(codes) / len(codes), tests, bits=bits)


def power_of_gains(
    gains: Sequence[Float[np.ndarray, " rows"]],
    groups: np.ndarray,
    share: Float[np.ndarray, " classes"],
    tests: int = 1,
    *,
    bits: float = PLANTED_BITS,
) -> Power:
    """Return the power from the gains of planted channels, and the sample that would have a power of 0.9.

    A detection is a p-value that is significant as the smallest of so many tests. The sample is that at which Student's
    t over structures, of the mean and spread seen here, exceeds its critical value with probability 0.9. A reader of
    few rows is much worse than one of many, so the mean over the spread counts as at least three quarters of that of a
    reader who knows the channel.

    Args:
        gains: Bits gained in each row, for each planted channel, shape (rows,).
        groups: Group of each row, shape (rows,).
        share: Probability of each class of the label, shape (classes,).
        tests: Number of tests among which q-values are computed.
        bits: Size of the planted channels.
    """
    alpha, of_group = ALPHA / max(tests, 1), np.unique(groups, return_inverse=True)[1]
    detected = sum(p_value(gain, groups) < alpha for gain in gains)
    sums = np.array([np.bincount(of_group, gain) for gain in gains])
    rows_each = len(groups) / sums.shape[1]
    effect = sums.mean() / max(float(sums.std(axis=1, ddof=1).mean()), 1e-12) / np.sqrt(rows_each)
    effect = max(effect, _USUAL_EFFECT * _perfect_effect(share, bits))
    needed = int(np.ceil(((norm.isf(alpha) + norm.ppf(NEEDED_POWER)) / effect) ** 2))
    interval = binomtest(detected, len(gains)).proportion_ci()
    detections = Estimate(detected / len(gains), float(interval.low), float(interval.high), len(gains))
    return Power(bits, detections, alpha, needed)


def noisy_copy(
    codes: np.ndarray, share: np.ndarray, bits: float, rng: np.random.Generator
) -> Float[np.ndarray, "rows classes"] | None:
    """Return the log-posterior of each class given a noisy copy of the label that carries `bits`.

    Args:
        codes: Class of each row, shape (rows,).
        share: Probability of each class, shape (classes,).
        bits: Mutual information of the copy with the label.
        rng: Source of the noise.

    Returns:
        Log-posteriors, shape (rows, classes); None where the label has no more than `bits`.
    """
    noise = _noise_for(share, bits)
    if noise is None:
        return None
    size = len(share)
    copied = np.where(rng.random(len(codes)) < noise, rng.integers(size, size=len(codes)), codes)
    joint = (np.diag(np.full(size, 1 - noise)) + noise / size)[:, copied].T * share
    return np.log(joint.clip(1e-12) / joint.sum(axis=1, keepdims=True))


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


def _perfect_effect(share: np.ndarray, bits: float) -> float:
    """Return the mean over the spread of the bits that a reader gains who knows the channel, for one row."""
    noise = _noise_for(share, bits)
    assert noise is not None
    joint = np.diag(share * (1 - noise)) + share[:, None] * noise / len(share)
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    ratio = np.log2(np.divide(joint, product, out=np.ones_like(joint), where=joint > 0))
    return bits / float(np.sqrt((joint * ratio**2).sum() - bits**2))


def _noise_for(share: np.ndarray, bits: float) -> float | None:
    """Return the noise at which a copy carries `bits`; None where the label has no more than that."""
    if len(share) < 2 or channel_bits(share, 0.0) <= bits:
        return None
    return float(brentq(lambda noise: channel_bits(share, noise) - bits, 0.0, 1.0))
