"""The batched solver beside a lower bound: the work that any solver of this objective does at least once.

That is to form the second moments in one pass over the rows, to factorise them, and to compute scores and gradients of
every target in one more pass.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.harness import interleaved, ratio
from benchmarks.probes.contests import BINARY_TOL, ROWS, SCALED_C, WIDTH, labelled
from probes.solvers.logistic import InMemory, binary, fit_logistic

TARGETS = 20
_SOLVES = 4  # in a round, so that a round is not over before the clock settles


def solver_over_floor(repetitions: int) -> dict[str, Any]:
    """Return the solver's time over the floor's, on the same rows and labels, in interleaved rounds.

    Args:
        repetitions: Rounds.
    """
    x, y = labelled(ROWS, TARGETS, WIDTH, seed=0)
    rows, labels = torch.from_numpy(x), torch.from_numpy(y)

    def ours() -> None:
        for _ in range(_SOLVES):
            fit_logistic(InMemory(rows), binary(y, 1 / SCALED_C), tolerance=BINARY_TOL)

    def bound() -> None:
        for _ in range(_SOLVES):
            floor(rows, labels)

    seconds = interleaved({"ours": ours, "floor": bound}, repetitions)
    taken = ratio(seconds, "ours", "floor")
    took = ", ".join(f"{name} {1000 * value / _SOLVES:.0f} ms" for name, value in taken["seconds"].items())
    return taken | {
        "peer": "one pass, one factorisation, one pass",
        "peer_version": torch.__version__,
        "note": f"{TARGETS} targets, {ROWS:,} rows of width {WIDTH}, to a gradient norm of {BINARY_TOL:g}; {took}; "
        f"{torch.get_num_threads()} threads",
    }


def floor(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Do the work of the lower bound: second moments, a factorisation, and scores and gradient of every target."""
    centred = x - x.mean(dim=0)
    factor = torch.linalg.cholesky(centred.T @ centred / len(x) + 1e-4 * torch.eye(x.shape[1]))
    start = torch.cholesky_solve(centred.T @ (y - 0.5).float(), factor)
    return centred.T @ (torch.sigmoid(centred @ start) - y)
