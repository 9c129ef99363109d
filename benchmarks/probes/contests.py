"""The batched logistic solver against scikit-learn: the data, both sides, and how far apart they end.

The data are 20,000 rows of width 256 whose spectrum falls as a power law, as that of activations does. Both sides
solve the same objective, L2 on standardised rows, to held-out log-losses within 1e-4 of each other; peers stop at
scikit-learn's own tolerance, ours where that allows it. Against `StandardScaler` C is 1. Against a shared whitening
it is 100 for both: scikit-learn then penalises the whitened coefficients, which is the same objective only where the
penalty hardly matters. At C = 1 the peer's own objective puts it 5e-4 away, however long it runs.
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
# The gradient norm at which ours stops; Newton steps overshoot it by far, and with ten classes farther.
BINARY_TOL, MULTICLASS_TOL = 1e-4, 1e-3


def anisotropic(rows: int, width: int, seed: int) -> np.ndarray:
    """Rows, float32: a power-law spectrum, turned at random, away from the origin."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0]
    spectrum = np.arange(1, width + 1) ** -0.5
    return ((rng.normal(size=(rows, width)) * spectrum) @ turn.T + rng.normal(size=width)).astype(np.float32)


def labelled(rows: int, targets: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and binary labels (rows, targets), each drawn with the odds that a random linear function gives."""
    x, rng = anisotropic(rows, width, seed), np.random.default_rng(seed + 1)
    y = (rng.random((rows, targets)) < 1 / (1 + np.exp(-2 * _scores(x, targets, seed + 2)))).astype(int)
    return x, y


def _scores(x: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Standardised random linear functions of the whitened rows, so that weak directions matter too."""
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
    """StandardScaler and LogisticRegression with scikit-learn's own defaults, but enough iterations to finish."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    models = [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=5000)).fit(x, each) for each in y.T]
    return [model.decision_function(held) for model in models]


def _whitened_lbfgs(x: np.ndarray, y: np.ndarray, held: np.ndarray, c: float) -> list[np.ndarray]:
    """One whitening for all targets, then lbfgs on each with scikit-learn's own defaults."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = x.mean(axis=0), x.std(axis=0)
    centred = (x - mean) / scale
    values, vectors = np.linalg.eigh(centred.T @ centred / len(x))
    turn = (vectors / np.sqrt(values)).astype(np.float32)
    white, held_white = centred @ turn, ((held - mean) / scale) @ turn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [LogisticRegression(C=c, max_iter=5000).fit(white, each).decision_function(held_white) for each in y.T]


# Each gives what runs against what, and the largest difference in held-out log-loss.
CONTESTS: dict[str, Callable[[], tuple[dict[str, Any], float]]] = {
    "probes.binary20_over_sklearn": _binary20,
    "probes.binary200_over_whitened": _binary200,
    "probes.multiclass10_over_whitened": _multiclass10,
}
