"""Measure the peak memory of a fit over a million rows of width 1024, read from disk in blocks.

Run `python -m benchmarks.probes.streaming` as a separate process, so that the peak is that of this fit. It prints one
JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROWS, WIDTH, BLOCK, TARGETS = 1_000_000, 1024, 8192, 4


def main() -> None:
    """Write the rows, fit from disk, and print peak memory, time and accuracy."""
    import torch

    from probes.solvers.logistic import Streamed, binary, fit_logistic

    rng = np.random.default_rng(0)
    directions = rng.normal(size=(WIDTH, TARGETS)).astype(np.float32) / np.sqrt(WIDTH)
    labels = np.empty((ROWS, TARGETS), np.int8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.f16"
        with path.open("wb") as file:
            for start in range(0, ROWS, BLOCK):
                block = rng.standard_normal((min(BLOCK, ROWS - start), WIDTH), np.float32)
                probability = 1 / (1 + np.exp(-2 * block @ directions))
                labels[start : start + len(block)] = rng.random(probability.shape) < probability
                block.astype(np.float16).tofile(file)

        def read() -> Iterator[np.ndarray]:
            with path.open("rb") as file:
                while len(block := np.fromfile(file, np.float16, BLOCK * WIDTH)):
                    yield block.reshape(-1, WIDTH)

        started = time.perf_counter()
        fit = fit_logistic(Streamed(ROWS, WIDTH, read), binary(labels), tolerance=1e-4)
        seconds = time.perf_counter() - started
    fitted = fit.coef[:, :, 0] / fit.coef[:, :, 0].norm(dim=0)
    truth = torch.from_numpy(directions / np.linalg.norm(directions, axis=0))
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    print(
        json.dumps(
            {
                "peak_mb": peak,
                "seconds": seconds,
                "converged": bool(fit.converged.all()),
                "cosine": float((fitted * truth).sum(dim=0).min()),
            }
        )
    )


if __name__ == "__main__":
    main()
