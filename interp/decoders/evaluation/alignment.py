"""Linear maps between the latents of two reasoners, fitted on steps of problems that both of them thought about.

Two trainings of one recipe hold the same values in other directions, so a decoder of one says nothing of the other until
its space is found in it: by a rotation and a scale (orthogonal Procrustes, Schönemann 1966, as in Smith et al., arXiv
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
from interp.decoders.sites import other_problem
from interp.errors import StoreError, UsageError, unknown
from interp.models.address import Address
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

Kind = Literal["orthogonal", "ridge"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Fewer steps than this say little about a whole space.
FEWEST = 50
_STRENGTHS = tuple(np.logspace(-2, 4, 7))

Latents = Float[np.ndarray, "rows _"]
Map = Callable[[Latents], Latents]


def fit_map(kind: Kind, theirs: Latents, ours: Latents) -> Map:
    """The map that brings `theirs` nearest to `ours`, row by row. Raises `UsageError` on too few rows, or on widths that
    no rotation joins."""
    if kind not in KINDS:
        raise unknown("alignment", kind, KINDS)
    if len(theirs) < FEWEST:
        raise UsageError(
            f"{len(theirs)} steps are shared with the other store, too few to align it (at least {FEWEST})."
        )
    if kind == "ridge":
        from sklearn.linear_model import RidgeCV

        fitted = RidgeCV(_STRENGTHS, cv=3).fit(theirs, ours)
        return lambda x: fitted.predict(x).astype(np.float32)
    if theirs.shape[1] != ours.shape[1]:
        raise UsageError(f"a rotation joins equal widths, but {theirs.shape[1]} and {ours.shape[1]} came. Use ridge.")
    from scipy.linalg import orthogonal_procrustes

    here, there = ours.mean(axis=0), theirs.mean(axis=0)
    rotation, total = orthogonal_procrustes(theirs - there, ours - here)
    scale = total / max(float(((theirs - there) ** 2).sum()), 1e-12)
    return lambda x: ((x - there) @ rotation * scale + here).astype(np.float32)


def shared_steps(
    home: tuple[ActivationSource, pd.DataFrame], other: tuple[ActivationSource, pd.DataFrame]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of both that stand for the same step of the same problem, in one order. `read_step` says the step."""

    def keyed(store: ActivationSource, rows: pd.DataFrame) -> pd.DataFrame:
        ids = [store.traces[t].problem.id for t in rows["trace"]]
        keys = pd.DataFrame({"problem": ids, "read_step": rows["read_step"].to_numpy(), "at": range(len(rows))})
        return keys.drop_duplicates(["problem", "read_step"])

    both = keyed(*home).merge(keyed(*other), on=["problem", "read_step"], suffixes=("_home", "_other"))
    return home[1].iloc[both["at_home"]], other[1].iloc[both["at_other"]]


def mismatched(rows: pd.DataFrame, groups: np.ndarray, seed: int) -> pd.DataFrame:
    """For each row one of another problem at the same step: what a map makes of pairs that have nothing in common."""
    return rows.iloc[other_problem(rows["read_step"].to_numpy(), groups, np.zeros(len(rows), int), seed)]


class MappedStore(ActivationSource):
    """Another source whose activations at one address are mapped into the home model's space.

    It describes itself as the home model's, so that the home decoders read it. Every other address is refused.
    """

    def __init__(self, other: ActivationSource, home: ActivationSource, address: Address, carry: Map) -> None:
        self.meta = {**other.meta, "reasoner": home.meta["reasoner"], "d_model": home.meta["d_model"]}
        self.addresses = other.addresses
        self._other, self._home, self._mapped_address, self._map = other, home, address, carry

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
