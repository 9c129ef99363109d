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

# About how often a fit multiplies its rows with all vectors of coefficients.
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
    """Standardised rows in the eigenbasis of their Gram matrix, and a last column of ones for the intercept.

    Coefficients belong to the eigenvectors. Rows in memory are rotated into that basis once where enough vectors of
    coefficients will be multiplied with them to pay for it; otherwise the coefficients are rotated at each product.

    Logits and coefficients are arrays of one row for each vector of coefficients. Sums over the design's rows are then
    sums over adjacent numbers, which a processor adds fastest.

    Args:
        rows: The rows, in memory or streamed.
        weights: Weight of each row in mean, standard deviation and Gram matrix, shape (rows,); all 1 by default.
        columns: Number of vectors of coefficients of a fit.

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
        self.dtype = self.mean.dtype
        # In the precision of the rows: a basis that is not quite that of the eigenvectors costs steps, not digits.
        values, self.vectors = torch.linalg.eigh(gram.to(self.dtype))
        self.values = values.clamp(min=0)
        self._rotated = isinstance(rows, InMemory) and columns * _PRODUCTS_PER_FIT > self.n
        self._rough: Tensor | None = None
        if isinstance(rows, InMemory):
            held = self.coordinates(rows.rows) if self._rotated else _standardised(rows.rows, self.mean, self.scale)
            self._blocks: Callable[[], Iterator[Tensor]] = InMemory(held).blocks
            self._rough = held.bfloat16() if fast_bfloat16(held) else None
        else:
            self._blocks = lambda: (_standardised(block, self.mean, self.scale) for block in rows.blocks())

    @property
    def exact(self) -> bool:
        """Whether `rough_times` is as precise as `times`."""
        return self._rough is None

    def coordinates(self, rows: Float[Tensor, "rows d"]) -> Float[Tensor, "rows parameters"]:
        """Return any rows, standardised as the design's own, in the eigenbasis, with a last column of ones."""
        out = _standardised(rows, self.mean, self.scale)
        out[:, :-1] = out[:, :-1] @ self.vectors
        return out

    def times(self, parameters: Float[Tensor, "columns parameters"]) -> Float[Tensor, "columns rows"]:
        """Return the logits of the rows.

        Args:
            parameters: Coefficients in the eigenbasis, and last the intercepts, shape (columns, d + 1).

        Returns:
            Logits, shape (columns, rows).
        """
        parameters = self._of_rows(parameters)
        products = [parameters @ block.T for block in self._blocks()]
        return products[0] if len(products) == 1 else torch.cat(products, dim=1)

    def transposed_times(self, columns: Float[Tensor, "columns rows"]) -> Float[Tensor, "columns parameters"]:
        """Return the gradient by the parameters, shape (columns, d + 1), of a gradient by the logits."""
        out, start = None, 0
        for block in self._blocks():
            part = columns[:, start : start + len(block)] @ block
            out = part if out is None else out.add_(part)
            start += len(block)
        assert out is not None
        return self._of_eigenvectors(out)

    def rough_times(self, parameters: Float[Tensor, "columns parameters"]) -> Float[Tensor, "columns rows"]:
        """Return `times(parameters)`, in bfloat16 where that is faster: precise enough for a search direction."""
        if self._rough is None:
            return self.times(parameters)
        return (self._of_rows(parameters).bfloat16() @ self._rough.T).to(self.dtype)

    def rough_transposed_times(self, columns: Float[Tensor, "columns rows"]) -> Float[Tensor, "columns parameters"]:
        """Return `transposed_times(columns)`, in bfloat16 where that is faster."""
        if self._rough is None:
            return self.transposed_times(columns)
        return self._of_eigenvectors((columns.bfloat16() @ self._rough).to(self.dtype))

    def _of_rows(self, parameters: Float[Tensor, "columns parameters"]) -> Float[Tensor, "columns parameters"]:
        """Return parameters for the rows as they are held: rotated or not."""
        if self._rotated:
            return parameters
        return torch.cat([parameters[:, :-1] @ self.vectors.T, parameters[:, -1:]], dim=1)

    def _of_eigenvectors(self, parameters: Float[Tensor, "columns parameters"]) -> Float[Tensor, "columns parameters"]:
        """Return a gradient by the parameters of the held rows as one by those of the eigenvectors."""
        if self._rotated:
            return parameters
        return torch.cat([parameters[:, :-1] @ self.vectors, parameters[:, -1:]], dim=1)


def _standardised(rows: Float[Tensor, "rows d"], mean: Tensor, scale: Tensor) -> Float[Tensor, "rows parameters"]:
    """Return the standardised rows and a last column of ones, in one pass."""
    out = rows.new_empty(rows.shape[0], rows.shape[1] + 1)
    torch.sub(rows, mean, out=out[:, :-1])
    out[:, :-1] /= scale
    out[:, -1] = 1.0
    return out


def _moments(rows: Rows, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, standard deviation and Gram matrix of the standardised rows; blocks are summed in float64."""
    total, start, shift, mass = None, 0, None, 0.0
    for block in rows.blocks():
        mean = block.mean(dim=0)
        # The means are quick to check, but may overflow although every row is finite.
        if not torch.isfinite(mean).all() and not (finite := torch.isfinite(block).all(dim=1)).all():
            row = start + int((~finite).nonzero()[0])
            raise UsageError(
                f"expected finite rows in the probe's input, got NaN or inf in row {row}; "
                "leave it out, or capture in float32."
            )
        shift = mean if shift is None else shift
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
