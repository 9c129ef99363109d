"""Calibration and abstention of read-outs, from their confidence and whether they are right.

A decoder may abstain. It answers where its confidence reaches a threshold, and the threshold is chosen on validation
read-outs for a wanted coverage (selective prediction: El-Yaniv and Wiener 2010; Geifman and El-Yaniv,
arXiv 1705.08500).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from interp.errors import UsageError, checked_count, unknown

Confidence = Float[np.ndarray, " rows"]
Right = Bool[np.ndarray, " rows"]
Bins = Literal["mass", "width", "quantile"]

# Nobody checks a read-out that is this confident.
CERTAIN = 0.99


def confidence_bins(
    confidence: Confidence, bins: int, by: Bins
) -> tuple[Int[np.ndarray, " rows"], Float[np.ndarray, " edges"]]:
    """Sort rows into bins by their confidence. A bin includes its upper edge; rows of equal confidence share one.

    Args:
        confidence: Confidence of each row, between 0 and 1.
        bins: Number of bins; ties can leave fewer.
        by: "mass" (about equally many rows in each, edges are confidences that occur), "quantile" (the same with
            interpolated quantiles as edges) or "width" (equally wide).

    Returns:
        The bin of each row, and the edges of the bins.

    Raises:
        UsageError: `by` is unknown.
    """
    inner = np.arange(1, bins + 1) / bins
    if by == "width":
        edges = np.linspace(0.0, 1.0, bins + 1)
    elif by == "mass":
        edges = np.unique(np.concatenate([[0.0], np.quantile(confidence, inner, method="higher")]))
    elif by == "quantile":
        cuts = np.unique(np.quantile(confidence, np.linspace(0, 1, bins + 1)[1:-1]))
        edges = np.concatenate([[-np.inf], cuts, [np.inf]])
    else:
        raise unknown("way to cut bins", by, ("mass", "width", "quantile"))
    return np.searchsorted(edges, confidence, side="left") - 1, edges


def calibration_error(confidence: Confidence, right: Right, *, bins: int = 15, by: Bins = "quantile") -> float:
    """Return the expected calibration error: the mean distance of confidence from accuracy over bins.

    Args:
        confidence: Confidence of each read-out, between 0 and 1.
        right: Whether each read-out is right.
        bins: Number of bins.
        by: How bins are cut; see `confidence_bins`.

    Raises:
        UsageError: There are no rows, or the lengths differ.

    References:
        Guo et al., arXiv 1706.04599, equation 3.
    """
    confidence, right = _checked(confidence, right)
    bin_of, _ = confidence_bins(confidence, checked_count("bins", bins), by)
    gaps = np.abs(np.bincount(bin_of, confidence) - np.bincount(bin_of, right.astype(float)))
    return float(gaps.sum() / len(right))


def reliability_curve(confidence: Confidence, right: Right, *, bins: int = 15, by: Bins = "mass") -> pd.DataFrame:
    """Return mean confidence and accuracy for each bin that has rows.

    Args:
        confidence: Confidence of each read-out, between 0 and 1.
        right: Whether each read-out is right.
        bins: Number of bins.
        by: How bins are cut; see `confidence_bins`.

    Returns:
        One row for each bin: low, high (its edges), confidence, accuracy and n.

    Raises:
        UsageError: There are no rows, or the lengths differ.
    """
    confidence, right = _checked(confidence, right)
    bin_of, edges = confidence_bins(confidence, checked_count("bins", bins), by)
    rows = pd.DataFrame({"confidence": confidence, "accuracy": right, "n": 1}).groupby(bin_of)
    curve = rows.agg({"confidence": "mean", "accuracy": "mean", "n": "sum"})
    curve.insert(0, "low", edges[curve.index])
    curve.insert(1, "high", edges[curve.index + 1])
    return curve.reset_index(drop=True)


def risk_coverage(confidence: Confidence, right: Right) -> pd.DataFrame:
    """Return the share of wrong answers (risk) at each coverage that a threshold can reach.

    Args:
        confidence: Confidence of each read-out.
        right: Whether each read-out is right.

    Returns:
        One row for each distinct confidence, from the highest: threshold, coverage, risk.

    Raises:
        UsageError: There are no rows, or the lengths differ.
    """
    confidence, right = _checked(confidence, right)
    order = np.argsort(-confidence, kind="stable")
    n_wrong = np.cumsum(~right[order])
    last_of_tie = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True))
    answered = last_of_tie + 1
    return pd.DataFrame(
        {
            "threshold": confidence[order][last_of_tie],
            "coverage": answered / len(right),
            "risk": n_wrong[last_of_tie] / answered,
        }
    )


def area_under_risk(confidence: Confidence, right: Right) -> float:
    """Return the mean risk over all coverages (AURC).

    Each row counts at the coverage at which it is first answered.

    Args:
        confidence: Confidence of each read-out, between 0 and 1, shape (read-outs,).
        right: Whether each read-out is right, shape (read-outs,).

    Returns:
        The area under the curve of `risk_coverage`, between 0 and 1.

    Raises:
        UsageError: There are no rows, or the lengths differ.
    """
    curve = risk_coverage(confidence, right)
    return float(np.average(curve["risk"], weights=np.diff(curve["coverage"], prepend=0.0)))


def threshold_for(confidence: Confidence, coverage: float) -> float:
    """Return the highest threshold at which at least a share `coverage` of the read-outs is answered.

    Args:
        confidence: Confidence of validation read-outs.
        coverage: Wanted share, above 0 and at most 1.

    Raises:
        UsageError: `coverage` is out of range, or there are no read-outs.
    """
    if not 0 < coverage <= 1:
        raise UsageError(f"expected coverage above 0 and at most 1, got {coverage}.")
    confidence = np.asarray(confidence, float)
    if not len(confidence):
        raise UsageError("expected validation read-outs to choose a threshold on, got none; use more problems.")
    ordered = np.sort(confidence)[::-1]
    return float(ordered[int(np.ceil(coverage * len(ordered) - 1e-9)) - 1])


def abstention(confidence: Confidence, right: Right, threshold: float) -> dict[str, float]:
    """Return what happens when read-outs below a threshold are withheld.

    Args:
        confidence: Confidence of each read-out, between 0 and 1, shape (read-outs,).
        right: Whether each read-out is right, shape (read-outs,).
        threshold: Read-outs with a confidence of at least this are answered.

    Returns:
        `coverage`, the share that is answered, and `confabulation`, the share of the answered that is wrong.

    Raises:
        UsageError: There are no rows, or the lengths differ.
    """
    confidence, right = _checked(confidence, right)
    answered = confidence >= threshold
    wrong = float((~right[answered]).mean()) if answered.any() else 0.0
    return {"coverage": float(answered.mean()), "confabulation": wrong}


def certain_and_wrong(confidence: Confidence, right: Right) -> float:
    """Return the share of all read-outs that are wrong at a confidence of at least 0.99.

    Args:
        confidence: Confidence of each read-out, between 0 and 1, shape (read-outs,).
        right: Whether each read-out is right, shape (read-outs,).

    Returns:
        A share between 0 and 1.

    Raises:
        UsageError: There are no rows, or the lengths differ.
    """
    confidence, right = _checked(confidence, right)
    return float(((confidence >= CERTAIN) & ~right).mean())


def _checked(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    confidence, right = np.asarray(confidence, float), np.asarray(right, bool)
    if not len(confidence) or len(confidence) != len(right):
        raise UsageError(
            f"expected one confidence and one truth value for each read-out, got {len(confidence)} and {len(right)}."
        )
    return confidence, right
