"""Fitting of many labellings of the same rows with one kind of estimator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float

from interp.statistics.splits import Masks
from probes.estimators.base import Probe, softmax, temperature
from probes.estimators.registry import estimator_class
from probes.solvers.ridge import fit_ridge, one_hot


@dataclass(frozen=True)
class FittedScores:
    """Scores of every row of a place by one fitted probe.

    Attributes:
        classes: Class labels, shape (classes,).
        scores: Scores, shape (rows, classes).
        sharpness: Returns the factor that makes the scores logits, fitted on rows left out; computed on demand.
        converged: Whether the solver converged; None where it has no steps, or warns itself.
    """

    classes: np.ndarray
    scores: Float[np.ndarray, "rows classes"]
    sharpness: Callable[[], float] = lambda: 1.0
    converged: bool | None = None

    @property
    def labels(self) -> np.ndarray:
        """The most probable class of each row, shape (rows,)."""
        return self.classes[self.scores.argmax(axis=1)]

    def probabilities(self) -> Float[np.ndarray, "rows classes"]:
        """Return calibrated probabilities, shape (rows, classes)."""
        return softmax(self.sharpness() * self.scores)


def fit_all(
    estimator: str,
    inputs: Float[np.ndarray, "rows d"],
    labellings: Mapping[str, np.ndarray],
    split: Masks,
) -> dict[str, FittedScores]:
    """Fit each labelling on the training rows and score every row with it.

    Args:
        estimator: A name from `probes.estimators.registry.estimator_names()`.
        inputs: Rows, shape (rows, d).
        labellings: Labels by name, one for every row, shape (rows,).
        split: `train` rows are fitted; `val` rows choose the strength of the logistic estimator.

    Returns:
        Scores by the name of the labelling.

    Raises:
        UsageError: The estimator is unknown, or a row is not finite.
    """
    if estimator == "ridge":
        return _fit_ridge(inputs, labellings, split)
    if estimator == "logistic":
        return _fit_logistic(inputs, labellings, split)
    return _fit_one_by_one(estimator_class(estimator), inputs, labellings, split)


def _fit_ridge(inputs: np.ndarray, labellings: Mapping[str, np.ndarray], split: Masks) -> dict[str, FittedScores]:
    """Fit all labellings from one factorisation; leave-one-out error on the training rows chooses strengths."""
    classes = {name: np.unique(labels[split.train]) for name, labels in labellings.items()}
    columns = [one_hot(labels[split.train], classes[name]) for name, labels in labellings.items()]
    fit = fit_ridge(inputs[split.train], columns)
    scores, start, fitted = fit.predict(inputs), 0, {}
    for name, labels in labellings.items():
        span = slice(start, start + len(classes[name]))
        codes = np.searchsorted(classes[name], labels[split.train])
        fitted[name] = FittedScores(classes[name], scores[:, span], partial(temperature, fit.held_out[:, span], codes))
        start = span.stop
    return fitted


def _fit_logistic(inputs: np.ndarray, labellings: Mapping[str, np.ndarray], split: Masks) -> dict[str, FittedScores]:
    """Fit all labellings with the batched solver; validation log-loss chooses strengths."""
    from probes.sweeps.strengths import best_fits

    classes = {name: np.unique(labels[split.train]) for name, labels in labellings.items()}
    fits = best_fits(inputs, labellings, classes, split)
    return {
        name: FittedScores(classes[name], _one_column_a_class(fits[name].logits), converged=fits[name].converged)
        for name in labellings
    }


def _fit_one_by_one(
    cls: type[Probe], inputs: np.ndarray, labellings: Mapping[str, np.ndarray], split: Masks
) -> dict[str, FittedScores]:
    """Fit a fresh probe with default parameters to each labelling."""
    fitted = {}
    for name, labels in labellings.items():
        probe = cls().fit(inputs[split.train], labels[split.train])
        fitted[name] = FittedScores(probe.classes_, np.log(probe.predict_proba(inputs).clip(1e-12)))
    return fitted


def _one_column_a_class(logits: Float[np.ndarray, "rows width"]) -> Float[np.ndarray, "rows classes"]:
    """Return logits with one column for each class; a binary labelling has only that of the second."""
    logits = logits.astype(np.float64)
    return np.concatenate([np.zeros_like(logits), logits], axis=1) if logits.shape[1] == 1 else logits
