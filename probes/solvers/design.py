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

_WIDE = 16
_PRODUCTS = 30  # about how often a fit multiplies its rows with all columns


@runtime_checkable
class Rows(Protocol):
    """A design matrix that may be larger than memory: its size, and its rows in blocks, in order."""

    @property
    def n(self) -> int: ...

    @property
    def d(self) -> int: ...

    def blocks(self) -> Iterator[Float[Tensor, "block d"]]: ...


@dataclass(frozen=True)
class InMemory:
    """A design matrix held whole."""

    rows: Float[Tensor, "rows d"]

    @property
    def n(self) -> int:
        return self.rows.shape[0]

    @property
    def d(self) -> int:
        return self.rows.shape[1]

    def blocks(self) -> Iterator[Tensor]:
        yield self.rows


@dataclass(frozen=True)
class Streamed:
    """A design matrix read block by block at every pass, for example from a store's memory-mapped shards."""

    n: int
    d: int
    read: Callable[[], Iterator[np.ndarray]]

    def blocks(self) -> Iterator[Tensor]:
        for block in self.read():
            yield torch.from_numpy(np.ascontiguousarray(block, dtype=np.float32))


class Design:
    """Standardised rows in the eigenbasis of their Gram matrix: coefficients here belong to its eigenvectors.

    Rows in memory are turned into that basis once where enough `columns` of coefficients will be multiplied with
    them to pay for it; otherwise the coefficients are turned at each product. `values` are the eigenvalues.
    """

    def __init__(self, rows: Rows, weights: Tensor | None, columns: int = 1) -> None:
        self.n, self.d = rows.n, rows.d
        self.mean, self.scale, gram = _moments(rows, weights)
        values, vectors = torch.linalg.eigh(gram)
        self.dtype = self.mean.dtype
        self.values, self.vectors = values.clamp(min=0).to(self.dtype), vectors.to(self.dtype)
        self._turned = isinstance(rows, InMemory) and columns * _PRODUCTS > self.n
        self._rough: Tensor | None = None
        if isinstance(rows, InMemory):
            held = (rows.rows - self.mean) / self.scale
            self._hold(held @ self.vectors if self._turned else held)
        else:
            self._blocks: Callable[[], Iterator[Tensor]] = lambda: (
                (block - self.mean) / self.scale for block in rows.blocks()
            )

    def _hold(self, rows: Tensor) -> None:
        self._blocks = InMemory(rows).blocks
        self._rough = rows.bfloat16() if self._turned and fast_bfloat16(rows) else None

    def sample(self, chosen: Tensor) -> Design:
        """The same matrix with some of its rows; moments and eigenvectors are kept, eigenvalues scaled."""
        small = object.__new__(Design)
        small.n, small.d = len(chosen), self.d
        small.dtype, small._turned = self.dtype, self._turned
        small.mean, small.scale, small.vectors = self.mean, self.scale, self.vectors
        small.values = self.values * (len(chosen) / self.n)
        small._hold(next(self._blocks())[chosen])
        return small

    def times(self, coef: Float[Tensor, "d columns"]) -> Float[Tensor, "rows columns"]:
        if not self._turned:
            coef = self.vectors @ coef
        if 1 < coef.shape[1] < _WIDE:
            # A few columns are multiplied up to 4 times faster when each lies in one piece.
            coef = coef.T.contiguous().T
        found = [block @ coef for block in self._blocks()]
        return found[0] if len(found) == 1 else torch.cat(found)

    def transposed_times(self, columns: Float[Tensor, "rows columns"]) -> Float[Tensor, "d columns"]:
        out, start = torch.zeros(self.d, columns.shape[1], device=columns.device, dtype=columns.dtype), 0
        for block in self._blocks():
            # Written this way round the rows are read in the order in which they lie, which is up to 4 times faster.
            out += (columns[start : start + len(block)].T @ block).T
            start += len(block)
        return out if self._turned else self.vectors.T @ out

    def rough_times(self, coef: Float[Tensor, "d columns"]) -> Float[Tensor, "rows columns"]:
        """As `times`, to two or three digits where that is faster: enough to find a direction, not where it ends."""
        return self.times(coef) if self._rough is None else (self._rough @ coef.bfloat16()).to(coef.dtype)

    def rough_transposed_times(self, columns: Float[Tensor, "rows columns"]) -> Float[Tensor, "d columns"]:
        if self._rough is None:
            return self.transposed_times(columns)
        return (self._rough.T @ columns.bfloat16()).to(columns.dtype)


def _moments(rows: Rows, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation and Gram matrix of the standardised rows; sums over blocks are in float64."""
    total, start, shift, mass = None, 0, None, 0.0
    for block in rows.blocks():
        # The sum tells it 30 times faster, but may overflow where every row is finite.
        if not torch.isfinite(block.sum()) and not (finite := torch.isfinite(block).all(dim=1)).all():
            bad = start + int((~finite).nonzero()[0])
            raise UsageError(f"row {bad} of the probe's input is not finite. Leave it out, or capture in float32.")
        w = (
            torch.ones(len(block), 1, device=block.device)
            if weights is None
            else weights[start : start + len(block), None].to(block.device)
        )
        shift = block.mean(dim=0) if shift is None else shift
        moved = block - shift  # sums of squares about a nearby point keep their digits when means are large
        heavy = moved * w.to(moved.dtype)
        part = (heavy.sum(dim=0).double(), (heavy.T @ moved).double())
        total = part if total is None else (total[0] + part[0], total[1] + part[1])
        start += len(block)
        mass += float(w.sum(dtype=torch.float64))
    if total is None or shift is None or start < 2:
        raise UsageError(f"a probe needs at least 2 rows, but {start} came.")
    offset = total[0] / mass
    scatter = total[1] - mass * torch.outer(offset, offset)
    spread = (scatter.diagonal() / mass).clamp(min=0).sqrt()
    mean = (shift.double() + offset).to(shift.dtype)
    # A column that does not vary beyond rounding carries nothing and is left at its own scale.
    scale = torch.where(spread > 1e-6 * mean.double().abs().clamp(min=1e-12), spread, torch.ones_like(spread))
    return mean, scale.to(mean.dtype), scatter / torch.outer(scale, scale) * (start / mass)
