"""Power: what a sample would have seen, had it been there.

A channel of a known number of bits about the label is planted beside features that say nothing (those of other rows),
and the same estimate is made of it, again and again. How often it comes out significant is the power; without it,
"nothing was found" says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binomtest

from probes.subtext.information import Features, information_gain, p_value

ASKED_BITS, ASKED_POWER = 0.1, 0.9
ALPHA = 0.01
DRAWS = 20


@dataclass(frozen=True)
class Power:
    """How often a planted channel of `bits` was seen in `draws` draws, with a 95 % interval; None where it cannot be."""

    bits: float
    share: float | None
    ci: tuple[float, float] | None
    draws: int
    alpha: float = ALPHA

    @property
    def enough(self) -> bool:
        return self.share is not None and self.share >= ASKED_POWER

    def says(self) -> str:
        if self.share is None or self.ci is None:
            return f"the label has less than {self.bits} bit in all, so no such channel can be planted"
        return (
            f"this sample would have seen {self.bits:g} bit with probability {self.share:.2f} "
            f"[{self.ci[0]:.2f}, {self.ci[1]:.2f}] ({self.draws} planted channels, p < {self.alpha:g})"
        )


def power(
    labels: np.ndarray,
    given: Sequence[Features],
    beyond: Features,
    groups: np.ndarray,
    *,
    bits: float = ASKED_BITS,
    draws: int = DRAWS,
    alpha: float = ALPHA,
    seed: int = 0,
) -> Power:
    """Plant `bits` about `labels` beside the `beyond` of other rows, `draws` times, and count what `gained` sees."""
    there = np.flatnonzero([label is not None for label in labels])
    classes, codes = np.unique(labels[there].astype(str), return_inverse=True)
    noise = _noise_for(np.bincount(codes) / max(len(codes), 1), bits)
    if noise is None:
        return Power(bits, None, None, 0, alpha)
    inputs, extra, held = [each[there] for each in given], beyond[there], groups[there]
    seen = 0
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw, 90])
        said = np.where(rng.random(len(codes)) < noise, rng.integers(len(classes), size=len(codes)), codes)
        channel = np.eye(len(classes))[said]
        planted = np.concatenate([channel, extra[rng.permutation(len(codes))]], axis=1)
        found = information_gain({"planted": classes[codes].astype(object)}, inputs, planted, held, seed=seed)
        seen += "planted" in found and p_value(found["planted"].bits, held) < alpha
    interval = binomtest(seen, draws).proportion_ci()
    return Power(bits, seen / draws, (float(interval.low), float(interval.high)), draws, alpha)


def channel_bits(share: np.ndarray, noise: float) -> float:
    """Mutual information of a label with a copy of it that is replaced by a random class with probability `noise`."""
    joint = np.diag(share * (1 - noise)) + share[:, None] * noise / len(share)
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    here = joint > 0
    return float((joint[here] * np.log2(joint[here] / product[here])).sum())


def _noise_for(share: np.ndarray, bits: float) -> float | None:
    """How often a copy must be random for it to carry `bits`; None where the label has no more than that."""
    if len(share) < 2 or channel_bits(share, 0.0) <= bits:
        return None
    return float(brentq(lambda noise: channel_bits(share, noise) - bits, 0.0, 1.0))
