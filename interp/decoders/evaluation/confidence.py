"""How sure a decoder may be of each read-out: its scores, calibrated on validation read-outs.

Raw scores of different decoders are no probabilities of being right: votes of neighbours are too low, lenses too high.
And a step can be read plainly and still be wrong, because the step that it rests on was: so the confidence of a
read-out also hangs on how plainly the other steps of its trace are read, and on how sure the model itself was of its
answer. A logistic regression brings these together; it starts from the raw score (a normal prior around it), so with few
or no wrong read-outs in validation little changes. All weights are kept from turning round, so more doubt anywhere
never makes a read-out surer. Labels of one class alone are softened as in Platt (1999).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from scipy.special import expit, logit

from interp.activations import ActivationSource
from interp.traces import Channel

# Scores nearer to 0 or 1 than this are told apart by nothing but rounding.
_LEAST = 1e-5
_PRIOR = 1.0

Signs = Float[np.ndarray, "rows signs"]


def calibrated(store: ActivationSource, read: pd.DataFrame) -> Float[np.ndarray, " rows"]:
    """The probability that each row of one method's read-outs is right, learned from its validation rows.

    `read` has the columns trace, step, split, right, scores (ranked, best first).
    """
    signs = _signs(store, read)
    val = (read["split"] == "val").to_numpy()
    return expit(signs @ _weights(signs[val], read["right"].to_numpy(bool)[val]))


def _signs(store: ActivationSource, read: pd.DataFrame) -> Signs:
    """The log-odds of the score, a constant, and what else speaks for a read-out, so that more of each is surer."""
    first = np.array([each[0] for each in read["scores"]], dtype=float)
    second = np.array([each[1] if len(each) > 1 else 1.0 - each[0] for each in read["scores"]], dtype=float)
    own = logit(np.clip(first, _LEAST, 1 - _LEAST))
    steps = read[["trace", "step"]].assign(own=own).sort_values(["trace", "step"])
    by_trace = steps.groupby("trace")["own"]
    before, anywhere = by_trace.cummin().reindex(read.index), by_trace.transform("min").reindex(read.index)
    margin = np.log(np.clip(first, _LEAST, None)) - np.log(np.clip(second, _LEAST, None))
    known = {t: _sureness(store, t) for t in read["trace"].unique()}
    answer = _standardised(read["trace"].map(known).to_numpy(float))
    return np.stack([own, np.ones(len(read)), margin - own, before - own, anywhere - own, answer], axis=1)


def _sureness(store: ActivationSource, trace: int) -> float:
    """Minus the logarithm of the largest entropy at the tokens of the answer, 0 where none is known."""
    at = store.traces[trace]
    found = [e for e, c in zip(at.entropy, at.channel, strict=True) if c == Channel.ANSWER and np.isfinite(e)]
    return -float(np.log(max(found) + 1e-4)) if found else 0.0


def _standardised(x: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    return (x - x.mean()) / max(x.std(), 1e-9)


def _weights(signs: Signs, right: Bool[np.ndarray, " rows"]) -> Float[np.ndarray, " signs"]:
    n_right, n_wrong = right.sum(), (~right).sum()
    wanted = np.where(right, (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))
    start = np.zeros(signs.shape[1])
    start[0] = 1.0

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        z, away = signs @ weights, weights - start
        lost = np.logaddexp(0, z) - wanted * z
        return lost.sum() + _PRIOR / 2 * (away**2).sum(), signs.T @ (expit(z) - wanted) + _PRIOR * away

    bounds = [(None, None) if k == 1 else (0.0, None) for k in range(len(start))]
    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
