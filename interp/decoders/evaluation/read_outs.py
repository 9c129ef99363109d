"""Read every step of every trace with any decoder: fit on train, choose the site on validation, score held-out problems.

Every decoder gets the same candidate sites (`interp/decoders/sites.py`). Beside each score stands the same decoder
reading the latents of another problem.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.activations.targets import structures
from interp.decoders.base import Decoder
from interp.decoders.evaluation.chance import blind_guess, offered
from interp.decoders.evaluation.confidence import calibrated
from interp.decoders.registry import decoder_class, is_dictionary, make_decoder, needs_model
from interp.decoders.sites import (
    OFFSETS,
    OWN_OFFSETS,
    STEP_VALUE,
    Fitted,
    Site,
    candidates,
    learned_bytes,
    other_problem,
    own_sites,
    step_rows,
    thinking_rows,
    try_sites,
)
from interp.errors import unknown
from interp.runtime.progress import StageProgress
from interp.statistics.intervals import grouped_mean_interval
from interp.statistics.splits import grouped_split

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


@dataclass(frozen=True)
class Cost:
    """What a decoder took: seconds to fit at its site, seconds for 1,000 read-outs, and the bytes that it learned."""

    fit_seconds: float
    decode_seconds: float
    bytes: int


class ReadOuts:
    """What decoders said about every step of every trace, with the site that each of them was given.

    `sites` and `fitted` hold the site and the decoder of each method that serve all steps, `own` the sites of single
    steps that are read elsewhere, as method -> step -> `Fitted`.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        sites: dict[str, Site],
        store: ActivationSource,
        seed: int,
        fitted: dict[str, Any],
        own: dict[str, dict[int, Fitted]] | None = None,
        costs: dict[str, Cost] | None = None,
        validation: dict[str, dict[int, tuple[float, int]]] | None = None,
    ) -> None:
        self._frame, self.sites, self.store, self.seed, self.fitted = frame, sites, store, seed, fitted
        self.own = own or {method: {} for method in sites}
        self.costs = costs or {}
        self.validation = validation or {}

    def table(self) -> pd.DataFrame:
        """One row for each (method, trace, step).

        Columns: method, trace, step, position, address, split, structure, gold, text (top-1), right, top_k, scores (the
        decoder's own, of `top_k`), confidence (the probability of being right that validation read-outs give it), offers
        (see `interp.decoders.evaluation.chance`), other_problem (the text read from another problem's latents).
        """
        return self._frame

    def of(self, method: str) -> pd.DataFrame:
        if method not in self.sites:
            raise unknown("decoding method in these read-outs", method, self.sites)
        return self._frame[self._frame["method"] == method]

    @property
    def taught(self) -> np.ndarray:
        """The structures that decoders were fitted on."""
        return self._frame.loc[self._frame["split"] == "train", "structure"].unique()

    @property
    def seen(self) -> np.ndarray:
        """The structures that decoders were fitted or selected on."""
        return self._frame.loc[self._frame["split"] != "test", "structure"].unique()

    def scores(self) -> pd.DataFrame:
        """Held-out top-1 by method and step, with grouped 95 % intervals, the other-problem control and chance."""
        return pooled_scores([self])

    def at(self, method: str, step: int) -> tuple[Site, Decoder]:
        """Where `method` reads a step, and the decoder that reads it there."""
        own = self.own[method].get(step)
        return (own.site, own.decoder) if own else (self.sites[method], self.fitted[method])

    def everywhere(self, method: str, rows: pd.DataFrame) -> pd.DataFrame:
        """What `method` says at every thinking position of the traces of `rows`, at its common site's address.

        Columns: trace, position, text.
        """
        at = thinking_rows(self.store, rows)
        if "read_step" not in at:
            at = at.assign(read_step=at["step"].clip(lower=1))
        said = self.fitted[method].decode(self.store, self.sites[method].address, at, top_k=1)
        return at[["trace", "position"]].assign(text=said.texts[:, 0])


def pooled_scores(readouts: Sequence[ReadOuts]) -> pd.DataFrame:
    """Held-out scores over several splits of the same store; a problem counts once, however often it was tested.

    Columns: method, step, site (that of the first split), top1, ci_low, ci_high, topk, other_problem, chance
    (the best blind guess), n (read-outs scored).
    """
    frame = pd.concat([each.table() for each in readouts], ignore_index=True)
    out = []
    for (method, step), part in frame[frame["split"] == "test"].groupby(["method", "step"], sort=False):
        low, high = grouped_mean_interval(part["right"].to_numpy(), part["structure"].to_numpy())
        out.append(
            {
                "method": method,
                "step": step,
                "site": readouts[0].at(method, step)[0].label,
                "top1": part["right"].mean(),
                "ci_low": low,
                "ci_high": high,
                "topk": np.mean([gold in top for gold, top in zip(part["gold"], part["top_k"], strict=True)]),
                "other_problem": (part["other_problem"] == part["gold"]).mean(),
                "chance": blind_guess(part["gold"], part["offers"]),
                "n": len(part),
            }
        )
    return pd.DataFrame(out)


def decode(
    store: ActivationSource,
    methods: Sequence[str] = ("logit_lens", "probe", "sae"),
    *,
    reasoner: Reasoner | None = None,
    addresses: Sequence[str] | None = None,
    offsets: Sequence[int] = OFFSETS,
    own_offsets: Sequence[int] = OWN_OFFSETS,
    seed: int = 0,
    top_k: int = 3,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    progress: StageProgress | None = None,
    **options: Any,
) -> ReadOuts:
    """Read the value of every step of every trace of `store` with each of `methods`.

    Each method is fitted on the rows of 60 % of the problem structures at each candidate site, gets the site
    where it is best on another 15 %, and is scored on the rest. A step that is plainly not there gets a site of its own
    among `own_offsets` (none are tried where that is empty). `options` go to the dictionaries (`d_sae`, `k`, `samples`),
    `settings` to decoders by name, as `{"verbalizer": {"updates": 500}}`.
    Without `reasoner` the store's own is loaded when a method needs it. A decoder that is slow to fit reads where the
    probe does, if that is among the methods and comes first.
    """
    if reasoner is None and any(needs_model(method) for method in methods):
        reasoner = store.load_reasoner()
    common = candidates(store, addresses, offsets)
    elsewhere = candidates(store, addresses, own_offsets) if len(own_offsets) else []
    # Values of single tokens are all that most decoders say; the order keeps the probe's sites known to the slow ones.
    frames: list[pd.DataFrame] = []
    found: dict[str, Fitted] = {}
    own: dict[str, dict[int, Fitted]] = {}
    costs: dict[str, Cost] = {}
    for number, method in enumerate(methods):
        if progress:
            progress(method, number, len(methods))
        kind = decoder_class(method)
        says = getattr(kind, "says", STEP_VALUE)
        given = {**options, "seed": seed} if is_dictionary(method) else dict((settings or {}).get(method, {}))
        make = partial(make_decoder, method, reasoner, **given)
        follows = "probe" in found and (is_dictionary(method) or getattr(kind, "follows_probe", False))
        tried = [found["probe"].site] if follows else _readable(kind, common)
        found[method] = try_sites(store, tried, make, says, seed)
        own[method] = {}
        if follows:
            for step, there in own["probe"].items() if getattr(kind, "own_sites", True) else ():
                own[method] |= own_sites(store, _only(found[method], step), [there.site], make, says, seed)
        elif elsewhere:
            own[method] = own_sites(store, found[method], _readable(kind, elsewhere), make, says, seed)
        frame, seconds = _read(store, method, found[method], own[method], says, seed, top_k)
        frames.append(frame)
        size = sum(learned_bytes(each.decoder) for each in (found[method], *own[method].values()))
        costs[method] = Cost(found[method].seconds, seconds, size)
    if progress:
        progress("done", len(methods), len(methods))
    return ReadOuts(
        pd.concat(frames, ignore_index=True),
        {method: each.site for method, each in found.items()},
        store,
        seed,
        {method: each.decoder for method, each in found.items()},
        own,
        costs,
        {method: _validated(each, own[method]) for method, each in found.items()},
    )


def _only(found: Fitted, step: int) -> Fitted:
    return Fitted(found.site, found.decoder, found.seconds, {step: found.validation[step]})


def _validated(common: Fitted, own: dict[int, Fitted]) -> dict[int, tuple[float, int]]:
    return common.validation | {step: each.validation[step] for step, each in own.items()}


def _readable(kind: Any, sites: Sequence[Site]) -> Sequence[Site]:
    """The candidates whose address the decoder says that it `reads`; all of them where it says nothing, or has none."""
    wanted = getattr(kind, "reads", ())
    return [site for site in sites if site.address.name in wanted] or sites


def _read(
    store: ActivationSource, method: str, common: Fitted, own: dict[int, Fitted], says: str, seed: int, top_k: int
) -> tuple[pd.DataFrame, float]:
    """The read-outs of one method, in order of trace and step, and the seconds that 1,000 of them take."""
    parts, seconds = [], 0.0
    for fitted, steps in [(common, None), *((each, step) for step, each in own.items())]:
        rows, gold = step_rows(store, fitted.site.offset, says)
        here = ~rows["read_step"].isin(own).to_numpy() if steps is None else (rows["read_step"] == steps).to_numpy()
        rows, gold = rows[here], gold[here]
        if not len(rows):
            continue
        start = time.perf_counter()
        readings = fitted.decoder.decode(store, fitted.site.address, rows, top_k=top_k)
        seconds += time.perf_counter() - start
        groups = structures(store, rows)
        split = grouped_split(groups, seed)
        part = np.where(split.train, "train", np.where(split.val, "val", "test"))
        swapped = other_problem(rows["read_step"].to_numpy(), groups, part, seed)
        parts.append(
            pd.DataFrame(
                {
                    "method": method,
                    "trace": rows["trace"].to_numpy(),
                    "step": rows["read_step"].to_numpy(),
                    "position": rows["position"].to_numpy(),
                    "address": fitted.site.address.name,
                    "split": part,
                    "structure": groups,
                    "gold": gold,
                    "text": readings.texts[:, 0],
                    "right": readings.texts[:, 0] == gold,
                    "top_k": list(readings.texts),
                    "scores": list(np.asarray(readings.scores, np.float64)),
                    "offers": offered(store, rows["trace"].tolist(), gold.tolist()),
                    "other_problem": readings.texts[swapped, 0],
                }
            )
        )
    frame = pd.concat(parts).sort_values(["trace", "step"], ignore_index=True)
    return frame.assign(confidence=calibrated(store, frame)), 1000 * seconds / len(frame)
