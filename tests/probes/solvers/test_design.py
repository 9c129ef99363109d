"""The standardised design matrix against NumPy, in memory, streamed, rotated or not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from interp.errors import UsageError
from probes.solvers.design import Design, InMemory, Rows, Streamed

N, D = 60, 5


def data(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, D)) * [1.0, 3.0, 0.1, 10.0, 2.0] + [0.0, 5.0, -2.0, 100.0, 1.0]


def in_memory(x: np.ndarray) -> InMemory:
    return InMemory(torch.from_numpy(x))


def streamed(x: np.ndarray, size: int = 17) -> Streamed:
    def read() -> Iterator[np.ndarray]:
        for start in range(0, len(x), size):
            yield x[start : start + size]

    return Streamed(len(x), x.shape[1], read)


def standardised(x: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    mean = np.average(x, axis=0, weights=weights)
    return (x - mean) / np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weights))


@pytest.mark.parametrize("weighted", [False, True])
def test_mean_scale_and_gram_matrix_are_numpys(weighted: bool) -> None:
    x = data()
    weights = np.random.default_rng(1).choice([0.0, 0.5, 2.0], N) if weighted else None
    design = Design(in_memory(x), None if weights is None else torch.from_numpy(weights))
    mean = np.average(x, axis=0, weights=weights)
    np.testing.assert_allclose(design.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(design.scale, np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weights)), rtol=1e-10)
    z = standardised(x, weights)
    # Scaled so that the weights have mean 1.
    gram = z.T @ (z * (1.0 if weights is None else weights[:, None] * N / weights.sum()))
    rebuilt = design.vectors @ torch.diag(design.values) @ design.vectors.T
    np.testing.assert_allclose(rebuilt, gram, atol=1e-8)


@pytest.mark.parametrize("columns", [1, 40])
@pytest.mark.parametrize("kind", ["memory", "streamed"])
def test_products_are_those_of_the_standardised_rows(kind: str, columns: int) -> None:
    """With one column the coefficients are rotated, with 40 columns the rows in memory are."""
    x = data()
    rows: Rows = in_memory(x) if kind == "memory" else streamed(x)
    design = Design(rows, None, columns)
    z = np.column_stack([standardised(x) @ design.vectors.double().numpy(), np.ones(N)])  # ones for the intercept
    tolerance = 1e-9 if kind == "memory" else 2e-3
    for width in (1, 3, 40):
        coef = np.random.default_rng(width).normal(size=(width, D + 1))
        residual = np.random.default_rng(width).normal(size=(width, N))
        for times in (design.times, design.rough_times):
            product = times(torch.from_numpy(coef).to(design.dtype))
            loose = 0.1 if times == design.rough_times else tolerance
            np.testing.assert_allclose(product.double(), coef @ z.T, atol=loose)
        for transposed in (design.transposed_times, design.rough_transposed_times):
            product = transposed(torch.from_numpy(residual).to(design.dtype))
            loose = 0.5 if transposed == design.rough_transposed_times else 10 * tolerance
            np.testing.assert_allclose(product.double(), residual @ z, atol=loose)


def test_other_rows_are_standardised_as_the_designs_own() -> None:
    x, other = data(), data(seed=1)
    design = Design(in_memory(x), None)
    z = (other - x.mean(axis=0)) / x.std(axis=0)
    expected = np.column_stack([z @ design.vectors.numpy(), np.ones(N)])
    np.testing.assert_allclose(design.coordinates(torch.from_numpy(other)), expected, atol=1e-9)


def test_streamed_rows_have_the_moments_of_rows_in_memory() -> None:
    x = data().astype(np.float32)
    one, other = Design(in_memory(x), None), Design(streamed(x), None)
    torch.testing.assert_close(one.mean, other.mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(one.scale, other.scale, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one.values, other.values, rtol=1e-4, atol=1e-3)


def test_rows_far_from_the_origin_keep_their_digits() -> None:
    x = (data() + 1e4).astype(np.float32)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(Design(in_memory(x), None).scale, wide.std(axis=0), rtol=1e-3)


def test_a_constant_column_keeps_its_scale() -> None:
    x = data()
    x[:, 2] = 7.0
    design = Design(in_memory(x), None)
    assert design.scale[2] == 1.0
    np.testing.assert_allclose(design.values.min(), 0.0, atol=1e-9)


@pytest.mark.parametrize("kind", ["memory", "streamed"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_named(kind: str, bad: float) -> None:
    x = data()
    x[43, 1] = bad
    with pytest.raises(UsageError, match="got NaN or inf in row 43; leave it out"):
        Design(in_memory(x) if kind == "memory" else streamed(x), None)


def test_one_row_is_refused() -> None:
    with pytest.raises(UsageError, match="expected at least 2 training rows, got 1"):
        Design(in_memory(np.ones((1, 3))), None)
