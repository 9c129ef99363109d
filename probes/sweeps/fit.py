"""Many labellings of the same rows, fitted together by one kind of probe."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float

from interp.errors import unknown
from interp.statistics.splits import Masks
from probes.estimators.linear import softmax, temperature
from probes.solvers.ridge import fit_ridge, one_hot

# Penalties to choose from on validation, for rows that are standardised (scikit-learn's 1/C).
LOGISTIC_STRENGTHS = (1.0, 10.0, 100.0)


@dataclass(frozen=True)
class Read:
    """What a fitted probe says about every row of a place: scores, rows x classes, and their sharpness as logits."""

    classes: np.ndarray
    scores: Float[np.ndarray, "rows classes"]
    sharpness: Callable[[], float] = lambda: 1.0

    @property
    def text(self) -> np.ndarray:
        """The likeliest class of each row."""
        return self.classes[self.scores.argmax(axis=1)]

    def probabilities(self) -> Float[np.ndarray, "rows classes"]:
        """Calibrated on rows that the fit did not see, where the probe has no likelihood of its own."""
        return softmax(self.sharpness() * self.scores)


Fitter = Callable[[np.ndarray, Mapping[str, np.ndarray], Masks], dict[str, Read]]


def fit_all(
    estimator: str,
    inputs: Float[np.ndarray, "rows d"],
    labellings: Mapping[str, np.ndarray],
    split: Masks,
) -> dict[str, Read]:
    """Fit each labelling (one label for every row; only those of `split.train` are fitted to, those of `split.val`
    choose strengths) and read every row with it.

    Raises `UsageError` on an unknown estimator and on rows that are not finite.
    """
    if estimator not in ESTIMATORS:
        raise unknown("estimator", estimator, ESTIMATORS)
    return ESTIMATORS[estimator](inputs, labellings, split)


def _ridge(inputs: np.ndarray, labellings: Mapping[str, np.ndarray], split: Masks) -> dict[str, Read]:
    """One factorisation for all labellings; strengths by leave-one-out error on the training rows."""
    classes = {name: np.unique(labels[split.train]) for name, labels in labellings.items()}
    columns = [one_hot(labels[split.train], classes[name]) for name, labels in labellings.items()]
    fit = fit_ridge(inputs[split.train], columns)
    scores, edge, found = fit.predict(inputs), 0, {}
    for name, labels in labellings.items():
        span = slice(edge, edge + len(classes[name]))
        codes = np.searchsorted(classes[name], labels[split.train])
        found[name] = Read(classes[name], scores[:, span], partial(temperature, fit.held_out[:, span], codes))
        edge = span.stop
    return found


def _logistic(inputs: np.ndarray, labellings: Mapping[str, np.ndarray], split: Masks) -> dict[str, Read]:
    """The batched solver; each labelling takes the strength with the least log-loss on validation."""
    import torch

    from probes.solvers.logistic import InMemory, fit_logistic, multinomial

    every = torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float32))
    every = every.to("cuda" if torch.cuda.is_available() else "cpu")
    rows = every[torch.from_numpy(split.train).to(every.device)]
    found: dict[str, Read] = {}
    for names, classes in _by_classes(labellings, split):
        codes = np.stack([np.searchsorted(classes[name], labellings[name][split.train]) for name in names], axis=1)
        n_classes = codes.max() + 1
        tried = np.tile(codes, (1, len(LOGISTIC_STRENGTHS)))
        strengths = np.repeat(LOGISTIC_STRENGTHS, len(names)).tolist()
        fit = fit_logistic(InMemory(rows), multinomial(tried, int(n_classes), strengths), tolerance=1e-4)
        logits = fit.scores(every).cpu().numpy()
        for number, name in enumerate(names):
            reads = [
                Read(classes[name], _both(logits[:, number + k * len(names)])) for k in range(len(LOGISTIC_STRENGTHS))
            ]
            found[name] = min(reads, key=lambda read: _log_loss(read, labellings[name], split.val))
    return {name: found[name] for name in labellings}


def _by_classes(labellings: Mapping[str, np.ndarray], split: Masks) -> list[tuple[list[str], dict[str, np.ndarray]]]:
    """Labellings with the same number of classes together."""
    classes = {name: np.unique(labels[split.train]) for name, labels in labellings.items()}
    groups: dict[int, list[str]] = {}
    for name, found in classes.items():
        groups.setdefault(len(found), []).append(name)
    return [(names, classes) for names in groups.values()]


def _both(logits: Float[np.ndarray, "rows width"]) -> Float[np.ndarray, "rows classes"]:
    """The scores of both classes of a binary problem; more classes have theirs already."""
    logits = logits.astype(np.float64)
    return np.concatenate([np.zeros_like(logits), logits], axis=1) if logits.shape[1] == 1 else logits


def _log_loss(read: Read, labels: np.ndarray, part: np.ndarray) -> float:
    at = np.searchsorted(read.classes, labels[part]).clip(max=len(read.classes) - 1)
    known = read.classes[at] == labels[part]
    given = np.where(known, read.probabilities()[part][np.arange(len(at)), at], 0.0)
    return float(-np.log(given.clip(1e-12)).mean())


def _one_by_one(place: str) -> Fitter:
    """Probes that are fitted one labelling at a time, named `module:Class`."""

    def fit(inputs: np.ndarray, labellings: Mapping[str, np.ndarray], split: Masks) -> dict[str, Read]:
        module, _, name = place.partition(":")
        kind = getattr(importlib.import_module(module), name)
        found = {}
        for labelling, labels in labellings.items():
            probe = kind().fit(inputs[split.train], labels[split.train])
            found[labelling] = Read(probe.classes_, np.log(probe.predict_proba(inputs).clip(1e-12)))
        return found

    return fit


ESTIMATORS: dict[str, Fitter] = {
    "ridge": _ridge,
    "logistic": _logistic,
    "mass_mean": _one_by_one("probes.estimators.class_means:MassMeanProbe"),
    "lda": _one_by_one("probes.estimators.class_means:LDAProbe"),
    "mlp": _one_by_one("probes.estimators.mlp:MLPProbe"),
}
