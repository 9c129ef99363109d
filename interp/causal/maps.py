"""The layer x position map: the same interchange at every address and thought, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from interp.causal.donors import donors_for
from interp.causal.patching import CACHE, EVERYTHING
from interp.causal.sites import interchange_at
from interp.errors import UsageError
from interp.models.address import resolve
from interp.runtime.progress import Progress
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


def layer_map(
    reasoner: Reasoner,
    traces: TraceSet,
    *,
    sites: str | Sequence[str] = "resid",
    offsets: Sequence[int] = (-1, 0, 1),
    whole: bool = True,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Follow and same-value change rates at each address and offset from the step's own thought.

    One row for each cell: address, label, offset, followed, followed_ci, chance, same_value_changed,
    same_value_ci, n. With `whole`, the position's whole residual stream and its cache (keys and values alone) are
    rows too. Cells where no step has such a thought are left out; `UsageError` where that is all of them.
    """
    addresses = [(a.name, a.label) for a in resolve(reasoner.model, sites)]
    addresses += [(EVERYTHING, EVERYTHING), (CACHE, CACHE)] if whole else []
    donors = donors_for(reasoner, traces, seed=seed, batch_size=batch_size)
    out = []
    for number, (name, label) in enumerate(addresses):
        for offset in offsets:
            try:
                found = interchange_at(
                    reasoner,
                    traces,
                    site=name,
                    offset=offset,
                    kinds=("other value", "same value"),
                    donors=donors,
                    seed=seed,
                    batch_size=batch_size,
                )
            except UsageError:
                continue
            followed, same = found.rates("other value"), found.rates("same value", "changed")
            out.append(
                {
                    "address": name,
                    "label": label,
                    "offset": offset,
                    "followed": followed["value"],
                    "followed_ci": followed["ci"],
                    "chance": found.rates("other value", "chance")["value"],
                    "same_value_changed": same["value"],
                    "same_value_ci": same["ci"],
                    "n": followed["n"],
                }
            )
        if progress:
            progress(number + 1, len(addresses))
    if not out:
        raise UsageError(f"{reasoner.name} has no thoughts at offsets {list(offsets)}; give others.")
    return pd.DataFrame(out)


def best_cell(table: pd.DataFrame) -> pd.Series:
    """The cell where most answers follow with the fewest changed by a same-value donor."""
    return table.loc[(table["followed"] - table["same_value_changed"].fillna(0)).idxmax()]
