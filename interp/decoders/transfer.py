"""Transfer: decoders fitted on one store, read on another without being fitted again.

The other store may hold another training seed, another task, or another reasoner. Only problems whose structure was
in no fit and no selection count.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.activations import Store
from interp.decoders.evaluate import ReadOuts
from interp.decoders.registry import decoder_class
from interp.decoders.sites import STEP_VALUE, step_rows
from interp.errors import CotlensError
from interp.stats import grouped_mean_interval
from interp.targets import structures


def transfer(readouts: ReadOuts, other: Store) -> pd.DataFrame:
    """Exact match of each method of `readouts` on `other`, at the sites it was given, by method.

    Columns: method, top1, ci_low, ci_high, chance, n, note. A decoder that cannot be taken there, such as a lens whose
    unembedding the other model does not have, has NaN and a note that says why.
    """
    table = readouts.table()
    seen = set(table.loc[table["split"] != "test", "structure"])
    return pd.DataFrame([_read(readouts, method, other, seen) for method in readouts.sites])


def _read(readouts: ReadOuts, method: str, other: Store, seen: set[str]) -> dict[str, Any]:
    says = getattr(decoder_class(method), "says", STEP_VALUE)
    right, groups, golds = [], [], []
    try:
        own = readouts.own[method]
        for step in (None, *own):
            site, decoder = readouts.at(method, -1 if step is None else step)
            rows, gold = step_rows(other, site.offset, says)
            steps = rows["read_step"].to_numpy()
            here = ~np.isin(steps, list(own)) if step is None else steps == step
            new = here & ~np.isin(structures(other, rows), list(seen))
            if new.any():
                said = decoder.decode(other, other.address(site.address), rows[new], top_k=1).texts[:, 0]
                right.append(said == gold[new])
                groups.append(structures(other, rows[new]))
                golds.append(gold[new])
    except (CotlensError, ValueError, RuntimeError) as error:
        return _row(method, note=str(error).splitlines()[0])
    if not right:
        return _row(method, note="no problem of the other store is new to this decoder")
    low, high = grouped_mean_interval(np.concatenate(right), np.concatenate(groups))
    shares = pd.Series(np.concatenate(golds)).value_counts(normalize=True)
    return _row(method, float(np.concatenate(right).mean()), low, high, float(shares.max()), sum(map(len, right)))


def _row(
    method: str,
    top1: float = float("nan"),
    low: float = float("nan"),
    high: float = float("nan"),
    chance: float = float("nan"),
    n: int = 0,
    note: str = "",
) -> dict[str, Any]:
    return {"method": method, "top1": top1, "ci_low": low, "ci_high": high, "chance": chance, "n": n, "note": note}
