"""Does a decoder know when it is making things up? Calibration, abstention, and confabulation, from (confidence, right).

A decoder may abstain: it answers where its confidence reaches a threshold, and the threshold is chosen on validation
read-outs for a wanted coverage (selective prediction: El-Yaniv and Wiener 2010; Geifman and El-Yaniv, arXiv 1705.08500).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from interp.errors import UsageError, checked_count

# A read-out at such confidence is one that nobody would check.
CERTAIN = 0.99


def calibration_error(
    confidence: Float[np.ndarray, " rows"], right: Bool[np.ndarray, " rows"], *, bins: int = 15
) -> float:
    """Expected calibration error (Guo et al., arXiv 1706.04599, equation 3) in bins of about equal mass.

    Rows of one confidence stay together, so that a decoder that always says the same is one bin.
    """
    confidence, right = _checked(confidence, right)
    checked_count("bins", bins)
    edges = np.unique(np.quantile(confidence, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(edges, confidence, side="left")
    n = np.bincount(place)
    gaps = np.abs(np.bincount(place, confidence) - np.bincount(place, right.astype(float)))
    return float(gaps.sum() / n.sum())


def risk_coverage(confidence: Float[np.ndarray, " rows"], right: Bool[np.ndarray, " rows"]) -> pd.DataFrame:
    """The share wrong (`risk`) of the most confident read-outs, at each coverage that a threshold can give.

    Columns: threshold, coverage, risk; rows of one confidence are answered together or not at all.
    """
    confidence, right = _checked(confidence, right)
    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum(~right[order])
    last = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True))
    answered = last + 1
    return pd.DataFrame(
        {"threshold": confidence[order][last], "coverage": answered / len(right), "risk": wrong[last] / answered}
    )


def area_under_risk(confidence: Float[np.ndarray, " rows"], right: Bool[np.ndarray, " rows"]) -> float:
    """The mean risk over all coverages (AURC), each row counted at the coverage at which it is first answered."""
    curve = risk_coverage(confidence, right)
    return float(np.average(curve["risk"], weights=np.diff(curve["coverage"], prepend=0.0)))


def threshold_for(confidence: Float[np.ndarray, " rows"], coverage: float) -> float:
    """The highest threshold at which at least `coverage` of these (validation) read-outs are answered."""
    if not 0 < coverage <= 1:
        raise UsageError(f"coverage is a share above 0 and at most 1, but {coverage} came.")
    confidence = np.asarray(confidence, float)
    if not len(confidence):
        raise UsageError("no validation read-outs came to choose a threshold on. Use more problems.")
    ordered = np.sort(confidence)[::-1]
    return float(ordered[int(np.ceil(coverage * len(ordered) - 1e-9)) - 1])


def abstaining(
    confidence: Float[np.ndarray, " rows"], right: Bool[np.ndarray, " rows"], threshold: float
) -> dict[str, float]:
    """What is answered at a threshold: `coverage`, `confabulation` (the share wrong of what is answered)."""
    confidence, right = _checked(confidence, right)
    answered = confidence >= threshold
    wrong = float((~right[answered]).mean()) if answered.any() else 0.0
    return {"coverage": float(answered.mean()), "confabulation": wrong}


def certain_and_wrong(confidence: Float[np.ndarray, " rows"], right: Bool[np.ndarray, " rows"]) -> float:
    """The share of all read-outs that are wrong at a confidence of at least 0.99."""
    confidence, right = _checked(confidence, right)
    return float(((confidence >= CERTAIN) & ~right).mean())


def _checked(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    confidence, right = np.asarray(confidence, float), np.asarray(right, bool)
    if not len(confidence) or len(confidence) != len(right):
        raise UsageError(
            f"each read-out has a confidence and is right or not, but {len(confidence)} and {len(right)} came."
        )
    return confidence, right
