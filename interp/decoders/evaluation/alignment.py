"""Linear maps between the latents of two reasoners, fitted on steps of problems that both of them thought about.

Two trainings of one recipe hold the same values in other directions. A decoder of one cannot read the other until the one
space is mapped to the other: by a rotation and a scale (orthogonal Procrustes, Schönemann 1966, as in Smith et al., arXiv
1702.03859) or by any linear map (ridge regression, as in Bansal et al., arXiv 2106.07682).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.activations import ActivationSource
from interp.activations.mapping import checked_out
from interp.errors import StoreError, UsageError, unknown
from interp.models.address import Address
from interp.statistics.donors import other_problem
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

Alignment = Literal["orthogonal", "ridge"]
ALIGNMENTS: tuple[Alignment, ...] = get_args(Alignment)
# Fewer steps than this say little about a whole space.
FEWEST = 50
_STRENGTHS = tuple(np.logspace(-2, 4, 7))

Latents = Float[np.ndarray, "rows _"]
Map = Callable[[Latents], Latents]


def fit_map(alignment: Alignment, theirs: Latents, ours: Latents) -> Map:
    """Return the map that brings `theirs` nearest to `ours`, row by row.

    Args:
        alignment: `orthogonal` for a rotation and a scale, `ridge` for any linear map.
        theirs: Latents of the other reasoner, shape (rows, their width).
        ours: Latents of the home reasoner at the same steps, shape (rows, our width).

    Raises:
        UsageError: There are fewer than 50 rows, or the widths differ and the map is a rotation.
    """
    if alignment not in ALIGNMENTS:
        raise unknown("alignment", alignment, ALIGNMENTS)
    if len(theirs) < FEWEST:
        raise UsageError(
            f"expected at least {FEWEST} steps shared with the other store to align it, got {len(theirs)}; think about "
            "more of the same problems."
        )
    if alignment == "ridge":
        from sklearn.linear_model import RidgeCV

        ridge = RidgeCV(_STRENGTHS, cv=3).fit(theirs, ours)
        return lambda x: ridge.predict(x).astype(np.float32)
    if theirs.shape[1] != ours.shape[1]:
        raise UsageError(
            f"expected equal widths for a rotation, got {theirs.shape[1]} and {ours.shape[1]}; use the alignment ridge."
        )
    from scipy.linalg import orthogonal_procrustes

    our_mean, their_mean = ours.mean(axis=0), theirs.mean(axis=0)
    rotation, total = orthogonal_procrustes(theirs - their_mean, ours - our_mean)
    scale = total / max(float(((theirs - their_mean) ** 2).sum()), 1e-12)
    return lambda x: ((x - their_mean) @ rotation * scale + our_mean).astype(np.float32)


def shared_steps(
    home: tuple[ActivationSource, pd.DataFrame], other: tuple[ActivationSource, pd.DataFrame]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of both stores that belong to the same step of the same problem, in one order.

    Args:
        home: A store and rows of it, with column `read_step`.
        other: The same of the other store.
    """

    def with_problems(store: ActivationSource, rows: pd.DataFrame) -> pd.DataFrame:
        ids = [store.traces[trace].problem.id for trace in rows["trace"]]
        keys = pd.DataFrame({"problem": ids, "read_step": rows["read_step"].to_numpy(), "number": range(len(rows))})
        return keys.drop_duplicates(["problem", "read_step"])

    both = with_problems(*home).merge(with_problems(*other), on=["problem", "read_step"], suffixes=("_home", "_other"))
    return home[1].iloc[both["number_home"]], other[1].iloc[both["number_other"]]


def mismatched_rows(rows: pd.DataFrame, structures: np.ndarray, seed: int) -> pd.DataFrame:
    """Return, for each row, one of another problem at the same step: pairs for a map that has nothing to find."""
    return rows.iloc[other_problem(rows["read_step"].to_numpy(), structures, np.zeros(len(rows), int), seed)]


class MappedStore(ActivationSource):
    """Another source whose activations at one address are mapped into the home model's space.

    It describes itself as the home model's, so that the home decoders read it. Every other address is refused.
    """

    def __init__(self, other: ActivationSource, home: ActivationSource, address: Address, mapping: Map) -> None:
        self.meta = {**other.meta, "reasoner": home.meta["reasoner"], "d_model": home.meta["d_model"]}
        self.addresses = other.addresses
        self._other, self._home, self._mapped_address, self._map = other, home, address, mapping

    @property
    def name(self) -> str:
        """The name of the source that is mapped."""
        return self._other.name

    @property
    def index(self) -> pd.DataFrame:
        """The rows of the source that is mapped."""
        return self._other.index

    @property
    def traces(self) -> TraceSet:
        """The traces of the source that is mapped."""
        return self._other.traces

    def load_reasoner(self) -> Reasoner:
        """Return the home model, whose space the activations are in."""
        return self._home.load_reasoner()

    def _read(self, address: Address, rows: slice | np.ndarray, out: np.ndarray | None) -> np.ndarray:
        if address != self._mapped_address:
            raise StoreError(
                f"expected {self._mapped_address}, where the map was fitted, got {address}; fit one there."
            )
        numbers = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
        mapped = self._map(self._other.acts(address, numbers))
        if out is None:
            return mapped
        checked_out(out, *mapped.shape)[:] = mapped
        return out
