"""Transfer: decoders fitted on one store, read on another without being fitted again.

The other store may hold another training seed, another task, or another reasoner. Where both thought about some of the
same problems, the other's latents are also brought into the home space by a linear map that is fitted on those (see
`interp.decoders.evaluation.alignment`); the labels are never used for it. Only problems whose structure was in no fit and no
selection count.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.activations.targets import structures
from interp.decoders.base import Decoder
from interp.decoders.evaluation.alignment import FEWEST, KINDS, MappedStore, fit_map, mismatched, shared_steps
from interp.decoders.evaluation.chance import blind_guess, offered
from interp.decoders.evaluation.read_outs import ReadOuts
from interp.decoders.registry import decoder_class
from interp.decoders.sites import STEP_VALUE, Site, other_problem, step_rows
from interp.errors import CotlensError
from interp.statistics.intervals import grouped_mean_interval

AS_IS = "none"
# A map fitted on pairs that have nothing in common: what is read through it owes nothing to the alignment.
_SHUFFLED = "shuffled"
Views = dict[tuple[str, Site], dict[str, ActivationSource]]


def transfer(readouts: ReadOuts, other: ActivationSource) -> pd.DataFrame:
    """Exact match of each method of `readouts` on `other`, at the sites it was given, by method and alignment.

    Columns: method; alignment (`none`; where problems are shared also `orthogonal` and `ridge`); home (the method's score
    on held-out problems of its own store); top1, ci_low, ci_high; the controls other_problem (another problem's latents
    of the other store, brought over in the same way) and shuffled_map (the map fitted on mismatched problems); chance;
    n; note. A decoder that cannot be taken there, such as a lens whose unembedding the other model does not have, has
    NaN and a note that says why.
    """
    ids = [{t.problem.id for t in store.traces} for store in (readouts.store, other)]
    kinds = (AS_IS, *KINDS) if len(ids[0] & ids[1]) >= FEWEST // 2 else (AS_IS,)
    views: Views = {}
    return pd.DataFrame([_read(readouts, method, other, kind, views) for method in readouts.sites for kind in kinds])


def _read(readouts: ReadOuts, method: str, other: ActivationSource, kind: str, views: Views) -> dict[str, Any]:
    table = readouts.of(method)
    row = {"method": method, "alignment": kind, "home": table.loc[table["split"] == "test", "right"].mean()}
    own, parts = readouts.own[method], []
    try:
        for step in (None, *own):
            site, decoder = readouts.at(method, -1 if step is None else step)
            says = getattr(decoder_class(method), "says", STEP_VALUE)
            rows, gold = step_rows(other, site.offset, says)
            steps = rows["read_step"].to_numpy()
            here = ~np.isin(steps, list(own)) if step is None else steps == step
            here &= ~np.isin(structures(other, rows), readouts.seen)
            if here.any():
                if (kind, site) not in views:
                    views[kind, site] = {"text": other} if kind == AS_IS else _brought(readouts, other, kind, site)
                parts.append(_said(readouts, other, views[kind, site], site, decoder, rows[here], gold[here]))
    except (CotlensError, ValueError, RuntimeError) as error:
        return row | {"n": 0, "note": str(error).splitlines()[0]}
    if not parts:
        return row | {"n": 0, "note": "no problem of the other store is new to this decoder"}
    found = pd.concat(parts)
    right = (found["text"] == found["gold"]).to_numpy()
    low, high = grouped_mean_interval(right, found["structure"].to_numpy())
    scores = {"top1": right.mean(), "ci_low": low, "ci_high": high}
    scores["other_problem"] = (found["other_problem"] == found["gold"]).mean()
    scores["shuffled_map"] = (found[_SHUFFLED] == found["gold"]).mean() if kind != AS_IS else np.nan
    scores["chance"] = blind_guess(found["gold"], found["offers"].tolist())
    return row | scores | {"n": len(found), "note": ""}


def _said(
    readouts: ReadOuts,
    other: ActivationSource,
    views: dict[str, ActivationSource],
    site: Site,
    decoder: Decoder,
    rows: pd.DataFrame,
    gold: np.ndarray,
) -> pd.DataFrame:
    """What the decoder says of these rows of the other store, and of the controls in their place."""
    at, groups = other.address(site.address), structures(other, rows)
    said = {name: decoder.decode(view, at, rows, top_k=1).texts[:, 0] for name, view in views.items()}
    swapped = other_problem(rows["read_step"].to_numpy(), groups, np.zeros(len(rows), int), readouts.seed)
    described = {
        "gold": gold,
        "structure": groups,
        "other_problem": said["text"][swapped],
        "offers": offered(other, rows["trace"].tolist(), gold.tolist()),
    }
    return pd.DataFrame(said | described)


def _brought(readouts: ReadOuts, other: ActivationSource, kind: Any, site: Site) -> dict[str, ActivationSource]:
    """The other store in the home space, by a map fitted on training problems, and by one fitted on mismatched pairs."""
    home, at = readouts.store, other.address(site.address)
    rows, _ = step_rows(home, site.offset)
    taught = rows[np.isin(structures(home, rows), readouts.taught)]
    ours, theirs = shared_steps((home, taught), (other, step_rows(other, site.offset)[0]))
    wrong = mismatched(theirs, structures(other, theirs), readouts.seed)
    wanted = home.acts(site.address, ours)
    return {
        name: MappedStore(other, home, at, fit_map(kind, other.acts(at, pairs), wanted))
        for name, pairs in (("text", theirs), (_SHUFFLED, wrong))
    }
