"""Design matrices that may be larger than memory, standardised, with their Gram matrix factorised once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import UsageError
from interp.runtime.hardware import fast_bfloat16

# From this many columns on, a product is fast whatever the memory layout of the coefficients.
_WIDE = 16
# About how often a fit multiplies its rows with all columns.
_PRODUCTS_PER_FIT = 30


@runtime_checkable
class Rows(Protocol):
    """A design matrix that may be larger than memory: its size, and its rows in blocks, in order."""

    @property
    def n(self) -> int:
        """Number of rows."""
        ...

    @property
    def d(self) -> int:
        """Number of features."""
        ...

    def blocks(self) -> Iterator[Float[Tensor, "block d"]]:
        """Yield the rows in order, block by block."""
        ...


@dataclass(frozen=True)
class InMemory:
    """A design matrix held in memory, shape (rows, d)."""

    rows: Float[Tensor, "rows d"]

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.rows.shape[0]

    @property
    def d(self) -> int:
        """Number of features."""
        return self.rows.shape[1]

    def blocks(self) -> Iterator[Tensor]:
        """Yield all rows as one block."""
        yield self.rows


@dataclass(frozen=True)
class Streamed:
    """A design matrix read block by block at every pass, for example from memory-mapped shards of a store.

    Attributes:
        n: Number of rows.
        d: Number of features.
        read: Called once a pass; returns an iterator over blocks of shape (block, d), in order.
    """

    n: int
    d: int
    read: Callable[[], Iterator[np.ndarray]]

    def blocks(self) -> Iterator[Tensor]:
        """Yield the blocks of `read` as float32 tensors."""
        for block in self.read():
            yield torch.from_numpy(np.ascontiguousarray(block, dtype=np.float32))


class Design:
    """Standardised rows in the eigenbasis of their Gram matrix.

    Coefficients belong to the eigenvectors. Rows in memory are rotated into that basis once where enough columns of
    coefficients will be multiplied with them to pay for it; otherwise the coefficients are rotated at each product.

    Args:
        rows: The rows, in memory or streamed.
        weights: Weight of each row in mean, standard deviation and Gram matrix, shape (rows,); all 1 by default.
        columns: Number of columns of coefficients of a fit.

    Attributes:
        n: Number of rows.
        d: Number of features.
        mean: Mean of each feature, shape (d,).
        scale: Standard deviation of each feature, shape (d,); 1 for a constant feature.
        values: Eigenvalues of the Gram matrix of the standardised rows, shape (d,).
        vectors: Its eigenvectors, one a column, shape (d, d).
    """

    def __init__(self, rows: Rows, weights: Tensor | None, columns: int = 1) -> None:
        self.n, self.d = rows.n, rows.d
        self.mean, self.scale, gram = _moments(rows, weights)
        values, vectors = torch.linalg.eigh(gram)
        self.dtype = self.mean.dtype
        self.values, self.vectors = values.clamp(min=0).to(self.dtype), vectors.to(self.dtype)
        self._rotated = isinstance(rows, InMemory) and columns * _PRODUCTS_PER_FIT > self.n
        self._rough: Tensor | None = None
        if isinstance(rows, InMemory):
            standardised = (rows.rows - self.mean).div_(self.scale)
            held = standardised @ self.vectors if self._rotated else standardised
            self._blocks: Callable[[], Iterator[Tensor]] = InMemory(held).blocks
            self._rough = held.bfloat16() if self._rotated and fast_bfloat16(held) else None
        else:
            self._blocks = lambda: ((block - self.mean) / self.scale for block in rows.blocks())

    @property
    def exact(self) -> bool:
        """Whether `rough_times` is as precise as `times`."""
        return self._rough is None

    def times(self, coef: Float[Tensor, "d columns"]) -> Float[Tensor, "rows columns"]:
        """Return the product of the standardised rows and coefficients in the eigenbasis."""
        if not self._rotated:
            coef = self.vectors @ coef
        if 1 < coef.shape[1] < _WIDE:
            # A few columns are multiplied up to 4 times faster when each is contiguous in memory.
            coef = coef.T.contiguous().T
        products = [block @ coef for block in self._blocks()]
        return products[0] if len(products) == 1 else torch.cat(products)

    def transposed_times(self, columns: Float[Tensor, "rows columns"]) -> Float[Tensor, "d columns"]:
        """Return the product of the transposed standardised rows and columns over rows, in the eigenbasis."""
        out, start = torch.zeros(self.d, columns.shape[1], device=columns.device, dtype=columns.dtype), 0
        for block in self._blocks():
            # In this order the rows are read as they lie in memory, which is up to 4 times faster.
            out += (columns[start : start + len(block)].T @ block).T
            start += len(block)
        return out if self._rotated else self.vectors.T @ out

    def rough_times(self, coef: Float[Tensor, "d columns"]) -> Float[Tensor, "rows columns"]:
        """Return `times(coef)`, in bfloat16 where that is faster: precise enough for a search direction."""
        return self.times(coef) if self._rough is None else (self._rough @ coef.bfloat16()).to(coef.dtype)

    def rough_transposed_times(self, columns: Float[Tensor, "rows columns"]) -> Float[Tensor, "d columns"]:
        """Return `transposed_times(columns)`, in bfloat16 where that is faster."""
        if self._rough is None:
            return self.transposed_times(columns)
        return (self._rough.T @ columns.bfloat16()).to(columns.dtype)


def _moments(rows: Rows, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, standard deviation and Gram matrix of the standardised rows; blocks are summed in float64."""
    total, start, shift, mass = None, 0, None, 0.0
    for block in rows.blocks():
        # The sum is 30 times faster to check, but may overflow although every row is finite.
        if not torch.isfinite(block.sum()) and not (finite := torch.isfinite(block).all(dim=1)).all():
            row = start + int((~finite).nonzero()[0])
            raise UsageError(
                f"expected finite rows in the probe's input, got NaN or inf in row {row}; "
                "leave it out, or capture in float32."
            )
        shift = block.mean(dim=0) if shift is None else shift
        shifted = block - shift  # sums of squares about a nearby point keep their digits when means are large
        weighted = shifted
        if weights is None:
            mass += len(block)
        else:
            w = weights[start : start + len(block), None].to(block.device)
            weighted = shifted * w.to(shifted.dtype)
            mass += float(w.sum(dtype=torch.float64))
        part = (weighted.sum(dim=0).double(), (weighted.T @ shifted).double())
        total = part if total is None else (total[0] + part[0], total[1] + part[1])
        start += len(block)
    if total is None or shift is None or start < 2:
        raise UsageError(f"expected at least 2 training rows, got {start}; capture more problems.")
    offset = total[0] / mass
    scatter = total[1] - mass * torch.outer(offset, offset)
    spread = (scatter.diagonal() / mass).clamp(min=0).sqrt()
    mean = (shift.double() + offset).to(shift.dtype)
    # A column that varies only by rounding keeps its own scale.
    scale = torch.where(spread > 1e-6 * mean.double().abs().clamp(min=1e-12), spread, torch.ones_like(spread))
    return mean, scale.to(mean.dtype), scatter / torch.outer(scale, scale) * (start / mass)
