"""The batched logistic solver beside scikit-learn: data, both solvers, and the difference of their log-losses.

The data are 20,000 rows of width 256 with a power-law spectrum, as activations have. Both solve the same objective (L2
on standardised rows) to held-out log-losses within 1e-4 of each other. scikit-learn stops at its default tolerance.
With `StandardScaler`, C is 1. With a shared whitening it is 100 for both: scikit-learn then penalises the whitened
coefficients, which is nearly the same objective only for a weak penalty. At C = 1 the difference would be 5e-4.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax

from probes.estimators.linear import LogisticProbe
from probes.solvers.logistic import InMemory, binary, fit_logistic

ROWS, HELD_OUT, WIDTH = 20_000, 4_000, 256
SCALED_C, WHITENED_C = 1.0, 100.0
# Gradient norm at which our solver stops. Newton steps end far below it, with ten classes even farther.
BINARY_TOL, MULTICLASS_TOL = 1e-4, 1e-3


def anisotropic(rows: int, width: int, seed: int) -> np.ndarray:
    """Return float32 rows with a power-law spectrum, a random rotation and a nonzero mean."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0]
    spectrum = np.arange(1, width + 1) ** -0.5
    return ((rng.normal(size=(rows, width)) * spectrum) @ turn.T + rng.normal(size=width)).astype(np.float32)


def labelled(rows: int, targets: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and binary labels (rows x targets), drawn with the odds of random linear functions."""
    x, rng = anisotropic(rows, width, seed), np.random.default_rng(seed + 1)
    y = (rng.random((rows, targets)) < 1 / (1 + np.exp(-2 * _scores(x, targets, seed + 2)))).astype(int)
    return x, y


def _scores(x: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return standardised random linear functions of the whitened rows, so that weak directions matter too."""
    rng = np.random.default_rng(seed)
    centred = x - x.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(x))
    scores = centred @ (vectors / np.sqrt(values)) @ rng.normal(size=(x.shape[1], count))
    return scores / scores.std(axis=0)


def _binary20() -> tuple[dict[str, Any], float]:
    return _binary_contest(*labelled(ROWS + HELD_OUT, 20, WIDTH, 0), scaled_lbfgs, SCALED_C)


def _binary200() -> tuple[dict[str, Any], float]:
    return _binary_contest(*labelled(ROWS + HELD_OUT, 200, WIDTH, 3), _whitened_lbfgs, WHITENED_C)


def _multiclass10() -> tuple[dict[str, Any], float]:
    x, rng = anisotropic(ROWS + HELD_OUT, WIDTH, 6), np.random.default_rng(7)
    y = (2 * _scores(x, 10, 8) + rng.gumbel(size=(len(x), 10))).argmax(axis=1)
    last: dict[str, np.ndarray] = {}

    def ours() -> None:
        probe = LogisticProbe(WHITENED_C, tol=MULTICLASS_TOL).fit(x[:ROWS], y[:ROWS])
        last["ours"] = probe.decision_function(x[ROWS:])

    def peer() -> None:
        last["peer"] = _whitened_lbfgs(x[:ROWS], y[:ROWS, None], x[ROWS:], WHITENED_C)[0]

    ours()
    peer()
    gold = y[ROWS:]
    losses = {k: -log_softmax(z, axis=1)[np.arange(len(gold)), gold].mean() for k, z in last.items()}
    return {"peer": peer, "ours": ours}, abs(losses["ours"] - losses["peer"])


def _binary_contest(x: np.ndarray, y: np.ndarray, solve: Any, c: float) -> tuple[dict[str, Any], float]:
    last: dict[str, np.ndarray] = {}

    def ours() -> None:
        fit = fit_logistic(InMemory(torch.from_numpy(x[:ROWS])), binary(y[:ROWS], 1 / c), tolerance=BINARY_TOL)
        last["ours"] = fit.scores(torch.from_numpy(x[ROWS:]))[:, :, 0].double().numpy()

    def peer() -> None:
        last["peer"] = np.stack(solve(x[:ROWS], y[:ROWS], x[ROWS:], c), axis=1)

    ours()
    peer()
    gold = y[ROWS:]
    losses = {k: (np.logaddexp(0, z) - gold * z).mean(axis=0) for k, z in last.items()}
    return {"peer": peer, "ours": ours}, float(np.abs(losses["ours"] - losses["peer"]).max())


def scaled_lbfgs(x: np.ndarray, y: np.ndarray, held: np.ndarray, c: float) -> list[np.ndarray]:
    """Fit StandardScaler and LogisticRegression with scikit-learn's defaults and enough iterations; return scores of `held`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    models = [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=5000)).fit(x, target) for target in y.T]
    return [model.decision_function(held) for model in models]


def _whitened_lbfgs(x: np.ndarray, y: np.ndarray, held: np.ndarray, c: float) -> list[np.ndarray]:
    """Whiten once for all targets, then fit each with scikit-learn's defaults; return scores of `held`."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = x.mean(axis=0), x.std(axis=0)
    centred = (x - mean) / scale
    values, vectors = np.linalg.eigh(centred.T @ centred / len(x))
    turn = (vectors / np.sqrt(values)).astype(np.float32)
    white, held_white = centred @ turn, ((held - mean) / scale) @ turn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            LogisticRegression(C=c, max_iter=5000).fit(white, target).decision_function(held_white) for target in y.T
        ]


# Measure id -> function that returns both contestants and their largest difference in held-out log-loss.
CONTESTS: dict[str, Callable[[], tuple[dict[str, Any], float]]] = {
    "probes.binary20_over_sklearn": _binary20,
    "probes.binary200_over_whitened": _binary200,
    "probes.multiclass10_over_whitened": _multiclass10,
}
