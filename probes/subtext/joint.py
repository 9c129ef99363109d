"""Bits about several targets together, so that what one says of another counts once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.statistics.estimates import Estimate
from probes.subtext.information import MIN_ROWS, InformationGain, information_gain, p_value
from probes.subtext.readers import Features
from probes.subtext.tightness import Costs, tightness


@dataclass(frozen=True)
class JointGain:
    """Bits about all targets together.

    Attributes:
        bits: The bits, with their interval; `n` is the number of traces that have all targets.
        p: One-sided p-value that there are none.
        power: What this sample detects, in words; None where it was not computed.
        lower_bound: Whether more traces would give more than 0.05 bit more; None where it was not tested.
        n_tight: About how many traces would give all but 0.05 bit, for a lower bound.
        left_out: Targets that too few traces have together with the others.
    """

    bits: Estimate
    p: float
    power: str | None = None
    lower_bound: bool | None = None
    n_tight: int | None = None
    left_out: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the form that the commands print."""
        record: dict[str, Any] = {
            "bits": self.bits.value,
            "ci": list(self.bits.interval),
            "p": self.p,
            "n": self.bits.n,
            "bound": None if self.lower_bound is None else "lower bound" if self.lower_bound else "tight",
            "n_tight": self.n_tight,
            "left_out": list(self.left_out),
        }
        return record if self.power is None else record | {"power": self.power}


def joint_gain(
    labels: dict[str, np.ndarray],
    given: Sequence[Features],
    beyond: Features,
    groups: np.ndarray,
    *,
    with_bound: bool = True,
    seed: int = 0,
) -> JointGain:
    """Return the bits about all targets together, by the chain rule: each target given those before it.

    What one target says of another is counted once. Only traces that have all targets count; where these are fewer
    than 40, the targets that fewest traces have are left out.

    Args:
        labels: Target to labels, shape (traces,).
        given: As in `information_gain`.
        beyond: As in `information_gain`.
        groups: Group of each trace, shape (traces,).
        with_bound: Whether to test if the bits are a lower bound at this sample and widen their interval by what is
            still to be learned; it takes as long again.
        seed: Seed of folds and bootstrap.
    """
    kept, rows = dict(labels), _rows_with_all(labels)
    while len(kept) > 1 and len(rows) < MIN_ROWS:
        rarest = min(kept, key=lambda name: sum(label is not None for label in kept[name]))
        del kept[rarest]
        rows = _rows_with_all(kept)
    left_out = tuple(name for name in labels if name not in kept)
    if len(rows) < MIN_ROWS:
        nan = float("nan")
        return JointGain(Estimate(nan, nan, nan, len(rows)), nan, left_out=tuple(labels))

    most: dict[str, Estimate] = {}

    def chain(share: float) -> Costs:
        costs, known = Costs(*np.zeros((4, len(rows)))), [matrix[rows] for matrix in given]
        for name, values in kept.items():
            gains = information_gain({name: values[rows]}, known, beyond[rows], groups[rows], seed=seed, share=share)
            if name not in gains:
                continue
            costs = Costs(*(np.add(*pair) for pair in zip(costs, Costs.of(gains[name]), strict=True)))
            most[name] = gains[name].entropy
            classes, codes = np.unique(values[rows].astype(str), return_inverse=True)
            known = [np.concatenate([matrix, np.eye(len(classes))[codes][:, 1:]], axis=1) for matrix in known]
        return costs

    costs = chain(1.0)
    gain = costs.without - costs.with_
    p = p_value(gain, groups[rows])
    # All targets together hold at most the sum of what each holds.
    value, low, high = (sum(getattr(each, end) for each in most.values()) for end in ("value", "low", "high"))
    entropy = Estimate(value, low, high, len(rows))
    if not with_bound:
        joint = InformationGain(rows, *costs, entropy)
        return JointGain(joint.estimate(groups[rows], seed), p, left_out=left_out)
    bound = tightness(costs, chain, groups[rows], entropy, seed=seed)
    return JointGain(bound.bits, p, lower_bound=bound.lower_bound, n_tight=bound.n, left_out=left_out)


def _rows_with_all(labels: dict[str, np.ndarray]) -> np.ndarray:
    return np.flatnonzero(np.all([[label is not None for label in values] for values in labels.values()], axis=0))
