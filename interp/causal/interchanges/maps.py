"""Layer maps: the same interchange at every address and offset, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from interp.causal.interchanges.results import combine
from interp.causal.interchanges.run import interchange
from interp.causal.patching.donors import donors_for
from interp.causal.patching.patch import CACHE, EVERYTHING
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
    """Return follow and same-value change rates at each address and offset.

    Args:
        reasoner: The reasoner that is edited.
        traces: Its traces.
        sites: Sites or hook names; every address of theirs is a row.
        offsets: Thoughts after the step's last one.
        whole: Add the whole residual stream of the position and its cache (keys and values alone).
        seed: Seed of donors.
        batch_size: Problems that are thought about at once.
        progress: Called with (addresses done, addresses in all).

    Returns:
        One row for each cell: address, label, offset, followed, followed_ci, chance, same_value_changed,
        same_value_ci, n. Cells where no step has such a thought are left out.

    Raises:
        UsageError: No cell has such a thought.
    """
    addresses = [address.name for address in resolve(reasoner.model, sites)]
    addresses += [EVERYTHING, CACHE] if whole else []
    donors = donors_for(reasoner, traces, seed=seed, batch_size=batch_size)
    results, missing = [], UsageError("expected offsets, got none; name some.")
    for number, address in enumerate(addresses):
        for offset in offsets:
            try:
                cell = interchange(
                    reasoner,
                    traces,
                    address=address,
                    offset=offset,
                    edits=("other value", "same value"),
                    donors=donors,
                    seed=seed,
                    batch_size=batch_size,
                )
            except UsageError as error:
                missing = error
                continue
            results.append(cell)
        if progress:
            progress(number + 1, len(addresses))
    if not results:
        raise missing
    return combine(results).map()


def best_cell(table: pd.DataFrame) -> pd.Series:
    """Return the row of a layer map where most answers follow and fewest change with a same-value donor."""
    return table.loc[(table["followed"] - table["same_value_changed"].fillna(0)).idxmax()]
