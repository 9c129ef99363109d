"""Fixtures of the probe tests: stores with planted values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from interp.activations import Store
from interp.problems import task
from interp.traces import Trace


@pytest.fixture(scope="module")
def planted_store(
    written_trace: Callable[..., Trace], write_store: Callable, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Store]:
    """A function that writes a store of noise at two addresses, with value 2 planted at thought 2 of address `here`.

    The codebook of the values is orthonormal and drawn with its own seed; `strength` is its length.
    """

    def made(
        here: str,
        away: str,
        *,
        n: int = 300,
        width: int = 12,
        strength: float = 6.0,
        problems_seed: int = 0,
        codebook_seed: int = 0,
    ) -> Store:
        traces = [written_trace(p) for p in task("chain:steps=3").generate(n, seed=problems_seed, split="test")]
        codebook = np.linalg.qr(np.random.default_rng(codebook_seed).normal(size=(width, width)))[0]

        def planted(index: pd.DataFrame) -> np.ndarray:
            out = np.random.default_rng(problems_seed + 1).normal(size=(len(index), width))
            for row in np.flatnonzero(index["place"] == "thought 2"):
                out[row] += strength * codebook[int(traces[index["trace"].iloc[row]].problem.steps[1].value)]
            return out

        acts = {away: lambda index: np.random.default_rng(9).normal(size=(len(index), width)), here: planted}
        return write_store(tmp_path_factory.mktemp("planted") / "s", traces, acts)

    return made
