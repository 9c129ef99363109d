"""Confidence: the probability that a read-out is right, calibrated on validation read-outs.

Raw scores of different decoders are no probabilities of being right: votes of neighbours are too low, lenses too high. A
step can also be read with a high score and still be wrong, because an earlier step was. So the confidence of a read-out
depends on its own score, on the scores of the other steps of its trace, and on how sure the model was of its answer.

A logistic regression combines these. A normal prior holds it near the raw score, so few or no wrong validation read-outs
change little. All weights but the constant are non-negative, so lower scores anywhere never raise a confidence. Labels of
one class alone are softened as in Platt (1999).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from scipy.special import expit, logit

from interp.activations import ActivationSource
from interp.traces import Channel

# Scores nearer to 0 or 1 than this differ by rounding alone.
_LEAST = 1e-5
_PRIOR = 1.0

Features = Float[np.ndarray, "rows features"]


def calibrated_confidence(store: ActivationSource, table: pd.DataFrame) -> Float[np.ndarray, " rows"]:
    """Return the probability that each read-out of one method is right, learned from its validation rows.

    Args:
        store: The store that was read.
        table: Read-outs with columns trace, step, split, right and scores (ranked, best first).

    Returns:
        Probabilities, shape (rows,).
    """
    features = _features(store, table)
    val = (table["split"] == "val").to_numpy()
    return expit(features @ _fit_weights(features[val], table["right"].to_numpy(bool)[val]))


def _features(store: ActivationSource, table: pd.DataFrame) -> Features:
    """Return the log-odds of the score, a constant, and four more, each larger for a surer read-out."""
    first = np.array([scores[0] for scores in table["scores"]], dtype=float)
    second = np.array([scores[1] if len(scores) > 1 else 1.0 - scores[0] for scores in table["scores"]], dtype=float)
    log_odds = logit(np.clip(first, _LEAST, 1 - _LEAST))
    steps = table[["trace", "step"]].assign(log_odds=log_odds).sort_values(["trace", "step"])
    by_trace = steps.groupby("trace")["log_odds"]
    lowest_so_far, lowest = by_trace.cummin().reindex(table.index), by_trace.transform("min").reindex(table.index)
    margin = np.log(np.clip(first, _LEAST, None)) - np.log(np.clip(second, _LEAST, None))
    certainties = {trace: _answer_certainty(store, trace) for trace in table["trace"].unique()}
    answer = _standardised(table["trace"].map(certainties).to_numpy(float))
    columns = [log_odds, np.ones(len(table)), margin - log_odds, lowest_so_far - log_odds, lowest - log_odds, answer]
    return np.stack(columns, axis=1)


def _answer_certainty(store: ActivationSource, number: int) -> float:
    """Return minus the logarithm of the largest entropy at the tokens of the answer, 0 where none is known."""
    trace = store.traces[number]
    entropies = [
        entropy
        for entropy, channel in zip(trace.entropy, trace.channel, strict=True)
        if channel == Channel.ANSWER and np.isfinite(entropy)
    ]
    return -float(np.log(max(entropies) + 1e-4)) if entropies else 0.0


def _standardised(x: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    return (x - x.mean()) / max(x.std(), 1e-9)


def _fit_weights(features: Features, right: Bool[np.ndarray, " rows"]) -> Float[np.ndarray, " features"]:
    n_right, n_wrong = right.sum(), (~right).sum()
    targets = np.where(right, (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))
    start = np.zeros(features.shape[1])
    start[0] = 1.0

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        z, change = features @ weights, weights - start
        losses = np.logaddexp(0, z) - targets * z
        gradient = features.T @ (expit(z) - targets) + _PRIOR * change
        return losses.sum() + _PRIOR / 2 * (change**2).sum(), gradient

    bounds = [(None, None) if k == 1 else (0.0, None) for k in range(len(start))]
    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
