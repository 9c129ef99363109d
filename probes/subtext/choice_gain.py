"""Bits about a choice that predictors of it add to the text before it, in a few fitted numbers.

The visible text predicts the choice by logistic regression. Its log-probabilities, and those of every other predictor,
are then the utilities of a conditional logit (McFadden 1974): p(option) ~ exp(sum of weight x log-probability). Its
weights, one a predictor, are shared by all options and meanings. So the side with the state has one more fitted number
than the side without, however wide the state is, and almost the power of knowing the channel.

A weight that is fitted on m rows costs about 0.7 / m bits on other rows, which is a third of a channel of 0.03 bits where
one fold of 200 rows is fitted. So weights are fitted on all four folds that are not tested, where a regression that saw
neither the tested fold nor the row's own predicts each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int

from probes.subtext.readers import FOLDS, Features, fold_costs, folds

_PENALTY = 1.0  # on the squared distance of the weights from (1, 0, 0, …): the text alone
_NEWTON_STEPS = 30

LogP = Float[np.ndarray, "rows options"]


@dataclass(frozen=True)
class ChoiceGain:
    """What the predictors add about one choice, row by row.

    Attributes:
        without: Cost of the written option by the text alone, in bits, shape (rows,).
        with_: Cost of every option by text and predictors, in bits, shape (rows, options); inf for unknown ones.
        code: The written option, shape (rows,).
    """

    without: Float[np.ndarray, " rows"]
    with_: Float[np.ndarray, "rows options"]
    code: Int[np.ndarray, " rows"]

    @property
    def bits(self) -> Float[np.ndarray, " rows"]:
        """Bits gained in each row."""
        return self.without - self.with_[np.arange(len(self.code)), self.code]


@dataclass(frozen=True)
class TextPrediction:
    """Log-probabilities of every option by the text alone, for each tested fold, cross-fitted; see `_cross_predictions`."""

    fold: Int[np.ndarray, " rows"]
    by_fold: list[LogP]


def text_prediction(
    text: Features,
    code: Int[np.ndarray, " rows"],
    known: Bool[np.ndarray, "rows options"],
    groups: np.ndarray,
    seed: int,
) -> TextPrediction:
    """Predict the choice from the text: each fold fitted on three others, its strength chosen on the fourth.

    Args:
        text: Columns of the text, shape (rows, d).
        code: The written option, shape (rows,).
        known: Which options each row has, shape (rows, options).
        groups: Group of each row, shape (rows,).
        seed: Seed of the folds.

    Raises:
        UsageError: There are fewer than ten groups.
    """
    fold = folds(groups, seed)
    return TextPrediction(fold, _cross_predictions([text[:, :0], text], code, known, fold))


def state_prediction(
    states: Features, code: Int[np.ndarray, " rows"], known: Bool[np.ndarray, "rows options"], fold: np.ndarray
) -> list[LogP]:
    """Predict the choice from activations, cross-fitted as the text is; one prediction for each tested fold."""
    return _cross_predictions([states], code, known, fold)


def choice_gain(
    text: TextPrediction,
    predictors: Sequence[Sequence[LogP]],
    code: Int[np.ndarray, " rows"],
    known: Bool[np.ndarray, "rows options"],
) -> ChoiceGain:
    """Return the held-out bits that the predictors add to the text.

    Args:
        text: The text's prediction.
        predictors: Log-probabilities of each predictor, for each tested fold, shape (rows, options).
        code: The written option, shape (rows,).
        known: Which options each row has, shape (rows, options).

    References:
        McFadden 1974, "Conditional logit analysis of qualitative choice behavior".
    """
    without, with_ = np.zeros(len(code)), np.full(known.shape, np.inf)
    for k in range(FOLDS):
        test = text.fold == k
        mixed = 1.0 / ((~test).sum() + 1)
        alone = _costs_of_logit([text.by_fold[k]], code, known, ~test, test, mixed)
        without[test] = alone[np.arange(test.sum()), code[test]]
        with_[test] = _costs_of_logit(
            [text.by_fold[k], *(predictor[k] for predictor in predictors)], code, known, ~test, test, mixed
        )
    return ChoiceGain(without, with_, code)


def _cross_predictions(sides: Sequence[Features], code: np.ndarray, known: np.ndarray, fold: np.ndarray) -> list[LogP]:
    """Return log-probabilities of every option in every row, for each tested fold.

    For tested fold k, the rows of another fold m are predicted by a regression on the three folds that are neither, with
    the side and the strength that predict fold m best. The rows of fold k are predicted by that of m = k + 1.
    """
    predictions = [np.zeros(known.shape) for _ in range(FOLDS)]
    for pair in combinations(range(FOLDS), 2):
        train = ~np.isin(fold, pair)
        fits = [fit for side in sides for fit in _fits(side, code, known, train)]
        for k, m in (pair, pair[::-1]):
            chosen_on = np.flatnonzero(fold == m)
            costs = [-fit[chosen_on, code[chosen_on]].mean() for fit in fits]
            best = fits[int(np.argmin(costs))]
            predictions[k][chosen_on] = best[chosen_on]
            if m == (k + 1) % FOLDS:
                predictions[k][fold == k] = best[fold == k]
    return predictions


def _fits(side: Features, code: np.ndarray, known: np.ndarray, train: np.ndarray) -> list[LogP]:
    """Return the log-probabilities of a regression on the rows `train`, one for each strength."""
    return [_normalised(-costs * np.log(2), known) for costs in fold_costs(side, code, known.shape[1], train)]


def _costs_of_logit(
    predictors: Sequence[LogP], code: np.ndarray, known: np.ndarray, fitted: np.ndarray, test: np.ndarray, mixed: float
) -> Float[np.ndarray, "rows options"]:
    """Fit the weights of a conditional logit on the rows `fitted` and return the costs in the rows `test`, in bits."""
    utilities = np.stack([np.where(known, np.nan_to_num(p, neginf=0.0), 0.0) for p in predictors], axis=2)
    weights = _fit_weights(utilities[fitted], code[fitted], known[fitted])
    p = np.exp(_normalised(utilities[test] @ weights, known[test]))
    p = (1 - mixed) * p + mixed * known[test] / known[test].sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        return -np.log2(p)


def _fit_weights(
    utilities: Float[np.ndarray, "rows options predictors"], code: np.ndarray, known: np.ndarray
) -> Float[np.ndarray, " predictors"]:
    """Fit the weights by Newton's method with halved steps; the objective is convex."""
    start = np.eye(utilities.shape[2])[0]
    rows = np.arange(len(code))

    def objective(weights: np.ndarray) -> float:
        return float(
            -_normalised(utilities @ weights, known)[rows, code].sum() + _PENALTY * ((weights - start) ** 2).sum() / 2
        )

    weights = start.copy()
    value = objective(weights)
    for _ in range(_NEWTON_STEPS):
        p = np.exp(_normalised(utilities @ weights, known))
        mean = np.einsum("ro,rop->rp", p, utilities)
        gradient = (mean - utilities[rows, code]).sum(axis=0) + _PENALTY * (weights - start)
        centred = utilities - mean[:, None]
        hessian = np.einsum("ro,rop,roq->pq", p, centred, centred) + _PENALTY * np.eye(len(weights))
        step = np.linalg.solve(hessian, gradient)
        length = 1.0
        while length > 1e-6 and objective(weights - length * step) > value:
            length /= 2
        weights = weights - length * step
        before, value = value, objective(weights)
        if before - value < 1e-9 * max(abs(before), 1.0):
            break
    return weights


def _normalised(utilities: LogP, known: Bool[np.ndarray, "rows options"]) -> LogP:
    """Return the log-softmax over the known options; -inf for the others."""
    masked = np.where(known, utilities, -np.inf)
    return masked - np.logaddexp.reduce(masked, axis=1, keepdims=True)
