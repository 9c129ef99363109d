"""One evaluation for all decoders: fit on train, choose the site on validation, report on held-out problems.

A *site* is an address and an offset: the value of step k is read at thought k + offset. Every decoder gets the
same candidates. Beside each score stands the same decoder reading the latents of another problem.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.activations import Store
from interp.activations.store import THINKING
from interp.decoders.base import Decoder
from interp.errors import UsageError, unknown
from interp.models.address import Address
from interp.splits import grouped_split
from interp.stats import first_within_error, grouped_mean_interval
from interp.targets import labels, structures

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

# Where each decoder lives; imported when it is used, so that decoders of later packages draw no arrow from here.
DECODERS: dict[str, str] = {
    "logit_lens": "interp.decoders.logit_lens:LogitLens",
    "probe": "probes.decoder:ProbeDecoder",
    "sae": "interp.decoders.features:FeatureReadout",
    "random_dictionary": "interp.decoders.features:FeatureReadout",
    "pca": "interp.decoders.features:FeatureReadout",
    "neurons": "interp.decoders.features:FeatureReadout",
    "verbalizer": "interp.decoders.verbalizer:Verbalizer",
}
# At thought k + 1 the last step could not be read, so a site there would not cover every step.
OFFSETS = (0, -1)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Site:
    """Where a decoder reads the value of step k: `address`, at thought k + `offset` (0 is the begin marker)."""

    address: Address
    offset: int

    @property
    def label(self) -> str:
        return f"{self.address.label}, thought k{self.offset:+d}" if self.offset else f"{self.address.label}, thought k"


class ReadOuts:
    """What decoders said about every step of every trace, with the site that each of them was given."""

    def __init__(
        self, frame: pd.DataFrame, sites: dict[str, Site], store: Store, seed: int, fitted: dict[str, Any]
    ) -> None:
        self._frame, self.sites, self.store, self.seed, self.fitted = frame, sites, store, seed, fitted

    def table(self) -> pd.DataFrame:
        """One row for each (method, trace, step).

        Columns: method, trace, step, position, address, split, gold, text (top-1), confidence, right, top_k,
        other_problem (the text read from another problem's latents).
        """
        return self._frame

    def of(self, method: str) -> pd.DataFrame:
        if method not in self.sites:
            raise unknown("decoding method in these read-outs", method, self.sites)
        return self._frame[self._frame["method"] == method]

    def scores(self) -> pd.DataFrame:
        """Held-out top-1 by method and step, with grouped 95 % intervals, the other-problem control and chance."""
        return pooled_scores([self])


def pooled_scores(readouts: Sequence[ReadOuts]) -> pd.DataFrame:
    """Held-out scores over several splits of the same store; a problem counts once, however often it was tested.

    Columns: method, step, site (that of the first split), top1, ci_low, ci_high, topk, other_problem, chance
    (the most frequent value), n (read-outs scored).
    """
    frame = pd.concat([each.table() for each in readouts], ignore_index=True)
    out = []
    for (method, step), part in frame[frame["split"] == "test"].groupby(["method", "step"], sort=False):
        low, high = grouped_mean_interval(part["right"].to_numpy(), part["structure"].to_numpy())
        out.append(
            {
                "method": method,
                "step": step,
                "site": readouts[0].sites[method].label,
                "top1": part["right"].mean(),
                "ci_low": low,
                "ci_high": high,
                "topk": np.mean([gold in top for gold, top in zip(part["gold"], part["top_k"], strict=True)]),
                "other_problem": (part["other_problem"] == part["gold"]).mean(),
                "chance": part["gold"].value_counts(normalize=True).max(),
                "n": len(part),
            }
        )
    return pd.DataFrame(out)


def make_decoder(method: str, reasoner: Reasoner | None, **options: Any) -> Decoder:
    """The decoder of that name. Raises `UsageError` on an unknown one, or a lens without its reasoner."""
    kind = _kind(method)
    if method == "logit_lens":
        if reasoner is None:
            raise UsageError("the logit lens needs the model's unembedding; pass reasoner=.")
        return kind(reasoner)
    if DECODERS[method].endswith("FeatureReadout"):
        return kind(method, **options)
    return kind(**options)


def _kind(method: str) -> Any:
    if method not in DECODERS:
        raise unknown("decoding method", method, DECODERS)
    module, _, attribute = DECODERS[method].partition(":")
    return getattr(importlib.import_module(module), attribute)


def _readable(method: str, candidates: Sequence[Site]) -> Sequence[Site]:
    """The candidates whose address the decoder says that it `reads`; all of them where it says nothing, or has none."""
    wanted = getattr(_kind(method), "reads", ())
    return [site for site in candidates if site.address.name in wanted] or candidates


def step_rows(store: Store, offset: int) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows at which step k is read with this offset, with k in column `read_step`, and the values after step k."""
    index = store.index
    readable = index[index["channel"].isin(THINKING) | index["place"].isin(["begin", "end"])].copy()
    # The begin marker stands before thought 1; the end marker is no thought and is never read.
    readable = readable[readable["place"] != "end"]
    readable["read_step"] = readable["step"].where(readable["place"] != "begin", 0) - offset
    readable["step"] = readable["read_step"]
    gold = labels(store, readable, "step_value")
    known = np.array([label is not None for label in gold], dtype=bool)
    return readable[known], gold[known].astype(str)


def decode(
    store: Store,
    methods: Sequence[str] = ("logit_lens", "probe", "sae"),
    *,
    reasoner: Reasoner | None = None,
    addresses: Sequence[str] | None = None,
    offsets: Sequence[int] = OFFSETS,
    seed: int = 0,
    top_k: int = 3,
    progress: Progress | None = None,
    **options: Any,
) -> ReadOuts:
    """Read the value of every step of every trace of `store` with each of `methods`.

    Each method is fitted on the rows of 60 % of the problem structures at each candidate site, gets the site
    where it is best on another 15 %, and is scored on the rest. `options` go to the dictionaries (`d_sae`, `k`,
    `samples`). Without `reasoner` the store's own is loaded when a lens needs it.
    """
    if reasoner is None and "logit_lens" in methods:
        from interp.loading import load

        reasoner = load(store.meta["reasoner"]["name"])
    candidates = [
        Site(address, offset)
        for offset in offsets
        for address in ([store.address(a) for a in addresses] if addresses else store.addresses)
    ]
    candidates.sort(key=lambda site: (abs(site.offset), site.address.depth))
    # All dictionaries read at one site, the linear probe's, so that they differ in their features alone.
    frames: list[pd.DataFrame] = []
    sites: dict[str, Site] = {}
    fitted: dict[str, Decoder] = {}
    for number, method in enumerate(methods):
        if progress:
            progress(method, number, len(methods))
        decoder_options = {**options, "seed": seed} if DECODERS.get(method, "").endswith("FeatureReadout") else {}
        tried = [sites["probe"]] if decoder_options and "probe" in sites else _readable(method, candidates)
        sites[method], fitted[method] = _best_site(store, method, reasoner, tried, seed, decoder_options)
        frames.append(_read(store, method, fitted[method], sites[method], seed, top_k))
    if progress:
        progress("done", len(methods), len(methods))
    return ReadOuts(pd.concat(frames, ignore_index=True), sites, store, seed, fitted)


def _best_site(
    store: Store,
    method: str,
    reasoner: Reasoner | None,
    candidates: Sequence[Site],
    seed: int,
    options: dict[str, Any],
) -> tuple[Site, Decoder]:
    """The first site, in order of preference, whose validation score is within one standard error of the best."""
    tried: list[tuple[float, int, Site, Decoder]] = []
    readable = {offset: step_rows(store, offset) for offset in {site.offset for site in candidates}}
    every_step = max(len(rows) for rows, _ in readable.values())
    for site in candidates:
        rows, gold = readable[site.offset]
        if not every_step or len(rows) < every_step:
            continue  # somewhere else every step can be read, and a score over fewer steps would not compare
        split = grouped_split(structures(store, rows), seed)
        decoder = make_decoder(method, reasoner, **options).fit(
            store, site.address, rows[split.train], gold[split.train]
        )
        read = decoder.decode(store, site.address, rows[split.val], top_k=1).texts[:, 0]
        tried.append((float((read == gold[split.val]).mean()), int(split.val.sum()), site, decoder))
    if not tried:
        raise UsageError("this store holds no thoughts whose steps are known; capture channels latent or thought.")
    at = first_within_error([score for score, *_ in tried], [n for _, n, *_ in tried])
    return tried[at][2], tried[at][3]


def _read(store: Store, method: str, decoder: Decoder, site: Site, seed: int, top_k: int) -> pd.DataFrame:
    rows, gold = step_rows(store, site.offset)
    groups = structures(store, rows)
    split = grouped_split(groups, seed)
    readings = decoder.decode(store, site.address, rows, top_k=top_k)
    part = np.where(split.train, "train", np.where(split.val, "val", "test"))
    swapped = other_problem(rows["read_step"].to_numpy(), groups, part, seed)
    return pd.DataFrame(
        {
            "method": method,
            "trace": rows["trace"].to_numpy(),
            "step": rows["read_step"].to_numpy(),
            "position": rows["position"].to_numpy(),
            "address": site.address.name,
            "split": part,
            "structure": groups,
            "gold": gold,
            "text": readings.texts[:, 0],
            "confidence": readings.scores[:, 0],
            "right": readings.texts[:, 0] == gold,
            "top_k": list(readings.texts),
            "other_problem": readings.texts[swapped, 0],
        }
    ).sort_values(["trace", "step"], ignore_index=True)


def other_problem(steps: np.ndarray, groups: np.ndarray, parts: np.ndarray, seed: int) -> np.ndarray:
    """For each row the place of a row of another structure, of the same step and part (itself if there is none)."""
    rng = np.random.default_rng(seed)
    donor = np.arange(len(steps))
    for key in sorted(set(zip(steps.tolist(), parts.tolist(), strict=True))):
        here = np.flatnonzero((steps == key[0]) & (parts == key[1]))
        order = rng.permutation(here)
        donor[order] = np.roll(order, 1)
    clash = np.flatnonzero(groups[donor] == groups)
    for row in clash:
        others = np.flatnonzero((steps == steps[row]) & (parts == parts[row]) & (groups != groups[row]))
        if len(others):
            donor[row] = rng.choice(others)
    return donor
