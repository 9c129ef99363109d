"""Transfer: decoders fitted on one store read another, without being fitted again.

The other store may hold another training seed, another task, or another reasoner. Where both reasoners thought about some
of the same problems, the other's latents are also mapped into the home space by a linear map (see
`interp.decoders.evaluation.alignment`). The map is fitted on pairs of latents of training problems and never sees labels.
Only problems whose structure was in no fit and no selection count.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.decoders.base import Decoder
from interp.decoders.evaluation.alignment import (
    ALIGNMENTS,
    FEWEST,
    Alignment,
    MappedStore,
    fit_map,
    mismatched_rows,
    shared_steps,
)
from interp.decoders.evaluation.chance import blind_guess, offered_sizes
from interp.decoders.evaluation.read_outs import ReadOuts
from interp.decoders.locations import Location
from interp.decoders.step_rows import DecodeInputs, StepRows
from interp.errors import CotlensError
from interp.statistics.donors import other_problem
from interp.statistics.estimates import Estimate

NO_MAP: Literal["none"] = "none"
# Column of the map fitted on mismatched pairs. What is read through it owes nothing to the alignment.
_SHUFFLED = "shuffled"


def transfer(readouts: ReadOuts, other: ActivationSource) -> pd.DataFrame:
    """Return the exact match of each method on another store, at its own locations, by alignment.

    Args:
        readouts: Fitted decoders (`interp.decode`).
        other: The store to read.

    Returns:
        One row for each method and alignment, with columns method; alignment (`none`, and where problems are shared
        `orthogonal` and `ridge`); home (held-out score on the method's own store); top1, ci_low, ci_high; the controls
        other_problem (another problem's latents of the other store, mapped in the same way) and shuffled_map (a map
        fitted on mismatched problems); chance; n; note. Where a decoder cannot read the other store, such as a lens
        whose unembedding the other model lacks, scores are NaN and the note says why.
    """
    ids, other_ids = ({trace.problem.id for trace in store.traces} for store in (readouts.store, other))
    alignments = (NO_MAP, *ALIGNMENTS) if len(ids & other_ids) >= FEWEST // 2 else (NO_MAP,)
    run = _Transfer(readouts, DecodeInputs(other, readouts.seed))
    return pd.DataFrame([run.row(method, alignment) for method in readouts.methods for alignment in alignments])


@dataclass(frozen=True)
class _Transfer:
    """The reading of one other store, with each of its mapped copies made once."""

    readouts: ReadOuts
    other: DecodeInputs
    _views: dict[tuple[str, Location], dict[str, ActivationSource]] = field(default_factory=dict, init=False)

    def row(self, method: str, alignment: Alignment | Literal["none"]) -> dict[str, Any]:
        """Return one row of the table of `transfer`."""
        table = self.readouts.of(method)
        row = {"method": method, "alignment": alignment}
        row["home"] = table.loc[table["split"] == "test", "right"].mean()
        by_step = self.readouts.methods[method].by_step
        frames = []
        try:
            for step in (None, *by_step):
                fitted = self.readouts.at(method, step)
                rows = self.other.step_rows(fitted.location.offset)
                of_step = ~np.isin(rows.steps, list(by_step)) if step is None else rows.steps == step
                rows = rows.select(of_step & ~np.isin(rows.structures, self.readouts.used_structures))
                if len(rows):
                    views = self._stores(alignment, fitted.location)
                    frames.append(self._read(views, fitted.location, fitted.decoder, rows))
        except (CotlensError, ValueError, RuntimeError) as error:
            return row | {"n": 0, "note": str(error).splitlines()[0]}
        if not frames:
            return row | {"n": 0, "note": "no problem of the other store is new to this decoder"}
        read = pd.concat(frames)
        top1 = Estimate.of_mean((read["text"] == read["gold"]).to_numpy(), read["structure"].to_numpy())
        return row | {
            "top1": top1.value,
            "ci_low": top1.low,
            "ci_high": top1.high,
            "other_problem": (read["other_problem"] == read["gold"]).mean(),
            "shuffled_map": (read[_SHUFFLED] == read["gold"]).mean() if alignment != NO_MAP else np.nan,
            "chance": blind_guess(read["gold"], read["offers"].tolist()),
            "n": top1.n,
            "note": "",
        }

    def _read(
        self, views: dict[str, ActivationSource], location: Location, decoder: Decoder, rows: StepRows
    ) -> pd.DataFrame:
        """What the decoder says of these rows of the other store, and of the controls in their place."""
        address = self.other.store.address(location.address)
        texts = {name: decoder.decode(view, address, rows.rows, top_k=1).texts[:, 0] for name, view in views.items()}
        gold = rows.gold(decoder.traits.output)
        donors = other_problem(rows.steps, rows.structures, np.zeros(len(rows), int), self.readouts.seed)
        columns = {
            "gold": gold,
            "structure": rows.structures,
            "other_problem": texts["text"][donors],
            "offers": offered_sizes(self.other.offers, rows.rows["trace"].tolist(), gold.tolist()),
        }
        return pd.DataFrame(texts | columns)

    def _stores(self, alignment: Alignment | Literal["none"], location: Location) -> dict[str, ActivationSource]:
        """Return the other store as it is, or in the home space by a true map and by one fitted on mismatched pairs."""
        if (alignment, location) not in self._views:
            self._views[alignment, location] = (
                {"text": self.other.store} if alignment == NO_MAP else self._mapped(alignment, location)
            )
        return self._views[alignment, location]

    def _mapped(self, alignment: Alignment, location: Location) -> dict[str, ActivationSource]:
        home, other = self.readouts.store, self.other.store
        address = other.address(location.address)
        home_rows = self.readouts.inputs.step_rows(location.offset)
        fitting_rows = home_rows.rows[np.isin(home_rows.structures, self.readouts.train_structures)]
        ours, theirs = shared_steps((home, fitting_rows), (other, self.other.step_rows(location.offset).rows))
        structures = self.other.structures[theirs["trace"].to_numpy()]
        wrong = mismatched_rows(theirs, structures, self.readouts.seed)
        targets = home.acts(location.address, ours)
        return {
            name: MappedStore(other, home, address, fit_map(alignment, other.acts(address, rows), targets))
            for name, rows in (("text", theirs), (_SHUFFLED, wrong))
        }
