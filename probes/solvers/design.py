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
        moments = _moments(rows, weights)
        self.mean, self.scale, self.dtype = moments.mean, moments.scale, moments.mean.dtype
        # In the precision of the rows: a basis that is not quite that of the eigenvectors costs steps, not digits.
        values, self.vectors = torch.linalg.eigh(moments.gram.to(self.dtype))
        self.values = values.clamp(min=0)
        self._rotated = isinstance(rows, InMemory) and columns * _PRODUCTS_PER_FIT > self.n
        # Rows are held less a nearby point. What is left of the mean, and the scale, are taken into the coefficients, so
        # that no further pass over the rows is needed.
        self._offset, self._rough = torch.zeros_like(self.mean), None
        if isinstance(rows, InMemory):
            held, self._offset = moments.shifted, moments.offset
            if self._rotated:
                held, self._offset = (side @ (self.vectors / self.scale[:, None]) for side in (held, self._offset))
            self._blocks: Callable[[], Iterator[Tensor]] = InMemory(held).blocks
            self._rough = held.bfloat16() if fast_bfloat16(held) else None
        else:
            self._blocks = lambda: (block - self.mean for block in rows.blocks())

    @property
    def exact(self) -> bool:
        """Whether `rough_times` is as precise as `times`."""
        return self._rough is None

    def coordinates(self, rows: Float[Tensor, "rows d"]) -> Float[Tensor, "rows parameters"]:
        """Return any rows, standardised as the design's own, in the eigenbasis, with a last column of ones."""
        coordinates = (rows - self.mean) @ (self.vectors / self.scale[:, None])
        return torch.nn.functional.pad(coordinates, (0, 1), value=1.0)

    def times(self, parameters: Float[Tensor, "columns parameters"]) -> Float[Tensor, "columns rows"]:
        """Return the logits of the rows.

        Args:
            parameters: Coefficients in the eigenbasis, and last the intercepts, shape (columns, d + 1).

        Returns:
            Logits, shape (columns, rows).
        """
        coef, intercepts = self._of_rows(parameters)
        products = [torch.addmm(intercepts, coef, block.T) for block in self._blocks()]
        return products[0] if len(products) == 1 else torch.cat(products, dim=1)

    def transposed_times(self, columns: Float[Tensor, "columns rows"]) -> Float[Tensor, "columns parameters"]:
        """Return the gradient by the parameters, shape (columns, d + 1), of a gradient by the logits."""
        out, start = None, 0
        for block in self._blocks():
            part = columns[:, start : start + len(block)] @ block
            out = part if out is None else out.add_(part)
            start += len(block)
        assert out is not None
        return self._of_eigenvectors(out, columns.sum(dim=1, keepdim=True))

    def rough_times(self, parameters: Float[Tensor, "columns parameters"]) -> Float[Tensor, "columns rows"]:
        """Return `times(parameters)`, in bfloat16 where that is faster: precise enough for a search direction."""
        if self._rough is None:
            return self.times(parameters)
        coef, intercepts = self._of_rows(parameters)
        return (coef.bfloat16() @ self._rough.T).to(self.dtype).add_(intercepts)

    def rough_transposed_times(self, columns: Float[Tensor, "columns rows"]) -> Float[Tensor, "columns parameters"]:
        """Return `transposed_times(columns)`, in bfloat16 where that is faster."""
        if self._rough is None:
            return self.transposed_times(columns)
        product = (columns.bfloat16() @ self._rough).to(self.dtype)
        return self._of_eigenvectors(product, columns.sum(dim=1, keepdim=True))

    def _of_rows(self, parameters: Float[Tensor, "columns parameters"]) -> tuple[Tensor, Tensor]:
        """Return coefficients and intercepts, shape (columns, 1), for the rows as they are held."""
        coef = parameters[:, :-1] if self._rotated else (parameters[:, :-1] @ self.vectors.T) / self.scale
        return coef, parameters[:, -1:] - coef @ self._offset[:, None]

    def _of_eigenvectors(
        self, products: Float[Tensor, "columns d"], sums: Tensor
    ) -> Float[Tensor, "columns parameters"]:
        """Return the gradient by the parameters, of products with the rows as they are held and sums over them."""
        products = products.addmm(sums, self._offset[None], alpha=-1)
        coef = products if self._rotated else (products / self.scale) @ self.vectors
        return torch.cat([coef, sums], dim=1)


@dataclass(frozen=True)
class _Moments:
    """Mean, standard deviation and Gram matrix of rows.

    Attributes:
        mean: Mean of each feature, shape (d,).
        scale: Standard deviation of each feature, 1 for a constant one, shape (d,).
        gram: Gram matrix of the standardised rows, in float64, shape (d, d).
        shifted: The last block less a point near the mean; all rows where they are one block.
        offset: The mean less that point, shape (d,).
    """

    mean: Tensor
    scale: Tensor
    gram: Tensor
    shifted: Tensor
    offset: Tensor


def _moments(rows: Rows, weights: Tensor | None) -> _Moments:
    """Return the moments of rows; blocks are summed in float64."""
    total, start, shift, shifted, mass = None, 0, None, None, 0.0
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
    if total is None or shift is None or shifted is None or start < 2:
        raise UsageError(f"expected at least 2 training rows, got {start}; capture more problems.")
    offset = total[0] / mass
    scatter = total[1] - mass * torch.outer(offset, offset)
    spread = (scatter.diagonal() / mass).clamp(min=0).sqrt()
    mean = (shift.double() + offset).to(shift.dtype)
    # A column that varies only by rounding keeps its own scale.
    scale = torch.where(spread > 1e-6 * mean.double().abs().clamp(min=1e-12), spread, torch.ones_like(spread))
    gram = scatter / torch.outer(scale, scale) * (start / mass)
    return _Moments(mean, scale.to(mean.dtype), gram, shifted, offset.to(shift.dtype))
