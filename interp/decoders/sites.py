"""Sites: where a decoder reads the value of a step, and how the place is chosen without looking at test problems.

A *site* is an address and an offset in positions: the value of step k is read at the last thought of step k, or so many
positions from it. One site serves all steps, so that a decoder has to mean the same everywhere. Only where validation
problems say plainly that a step is not there, as with thinking tokens, whose last step is computed at the end marker,
does that step get a site of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.activations.targets import labels, structures
from interp.decoders.base import Decoder
from interp.errors import UsageError
from interp.models.address import Address
from interp.statistics.intervals import first_within_error
from interp.statistics.splits import Masks, grouped_split
from interp.traces import THINKING

# For one site that serves all steps: one position later, the step's value may be a mere leftover.
OFFSETS = (0, -1)
# For a step that the common site does not reach, in order of preference.
OWN_OFFSETS = (0, -1, 1)
# How many standard errors a step's own site has to be better, on validation, than the common one.
_PLAINLY = 3.0
# What a decoder is taught to say: the value of the step, or its whole text.
STEP_VALUE, STEP_TEXT = "step_value", "step_text"


@dataclass(frozen=True)
class Site:
    """Where a decoder reads the value of step k: `address`, `offset` positions from the last thought of step k."""

    address: Address
    offset: int

    @property
    def label(self) -> str:
        return f"{self.address.label}, thought k{self.offset:+d}" if self.offset else f"{self.address.label}, thought k"


@dataclass(frozen=True)
class Fitted:
    """A decoder at the site that it was given, and what fitting it there took."""

    site: Site
    decoder: Decoder
    seconds: float
    validation: dict[int, tuple[float, int]]  # step -> share right on validation problems, and how many


def candidates(
    store: ActivationSource, addresses: Sequence[str] | None = None, offsets: Sequence[int] = OFFSETS
) -> list[Site]:
    """All sites of a store in order of preference: the thought itself first, early addresses first."""
    chosen = [store.address(a) for a in addresses] if addresses else store.addresses
    found = [Site(address, offset) for offset in offsets for address in chosen]
    return sorted(found, key=lambda site: (list(offsets).index(site.offset), site.address.depth))


def step_rows(store: ActivationSource, offset: int, says: str = STEP_VALUE) -> tuple[pd.DataFrame, np.ndarray]:
    """The row at which each step of each trace is read with this offset, and what it should be read as.

    Columns of the index, and `read_step`, the step; where the position was not captured, or is neither a thought nor a
    marker beside one, the step is left out.
    """
    index = store.index
    thinking = index[index["channel"].isin(THINKING) & (index["step"] > 0)]
    ends = thinking.groupby(["trace", "step"], sort=False)["position"].max().reset_index()
    readable = index[index["channel"].isin(THINKING) | index["place"].isin(["begin", "end"])]
    known = pd.MultiIndex.from_arrays([readable["trace"], readable["position"]])
    wanted = pd.MultiIndex.from_arrays([ends["trace"], ends["position"] + offset])
    at = known.get_indexer(wanted)
    rows = readable.iloc[at[at >= 0]].copy()
    rows["read_step"] = rows["step"] = ends["step"].to_numpy()[at >= 0]
    gold = labels(store, rows, STEP_VALUE)
    there = np.array([label is not None for label in gold], dtype=bool)
    rows, gold = rows[there], gold[there].astype(str)
    return (rows, gold) if says == STEP_VALUE else (rows, _texts(store, rows))


def _texts(store: ActivationSource, rows: pd.DataFrame) -> np.ndarray:
    pairs = zip(rows["trace"], rows["read_step"], strict=True)
    return np.array([store.traces[t].problem.steps[s - 1].text for t, s in pairs], dtype=object)


def try_sites(
    store: ActivationSource, sites: Sequence[Site], make: Callable[[], Decoder], says: str, seed: int
) -> Fitted:
    """The first site, in order of preference, whose validation score over all steps is within one standard error of
    the best. Raises `UsageError` where the store holds no thoughts whose steps are known."""
    readable = {offset: step_rows(store, offset, says) for offset in {site.offset for site in sites}}
    every_step = max(len(rows) for rows, _ in readable.values())
    # Somewhere else every step can be read, and a score over fewer steps would not compare.
    whole = [site for site in sites if len(readable[site.offset][0]) == every_step > 0]
    if not whole:
        raise UsageError("this store holds no thoughts whose steps are known; capture channels latent or thought.")
    made: dict[Address, tuple[Decoder, float]] = {}
    return _first_of_the_best([_fit(store, site, make, *readable[site.offset], seed, made) for site in whole])


def own_sites(
    store: ActivationSource, common: Fitted, sites: Sequence[Site], make: Callable[[], Decoder], says: str, seed: int
) -> dict[int, Fitted]:
    """For each step that is read plainly better elsewhere, on validation problems, its own site and decoder.

    Plainly: by more than three standard errors of the difference from the common site.
    """
    short = {step: found for step, found in common.validation.items() if found[0] < 1.0}
    readable = {offset: step_rows(store, offset, says) for offset in {site.offset for site in sites}}
    own = {}
    made: dict[Address, tuple[Decoder, float]] = {}
    for step, (share, n) in short.items():
        tried = []
        for site in sites:
            rows, gold = readable[site.offset]
            here = (rows["read_step"] == step).to_numpy()
            if here.sum() >= n and _reach(share, n):
                try:
                    tried.append(_fit(store, site, make, rows[here], gold[here], seed, made))
                except UsageError:
                    continue  # too few problems reach this step to split them
        if tried:
            best = _first_of_the_best(tried)
            if best.validation[step][0] - share > _PLAINLY * _error(share, n, *best.validation[step]):
                own[step] = best
    return own


def _reach(share: float, n: int) -> bool:
    """Whether even a perfect site could be plainly better."""
    return 1.0 - share > _PLAINLY * _error(share, n, 1.0, n)


def _error(one: float, n_one: int, two: float, n_two: int) -> float:
    """The standard error of the difference of two proportions, one success and one failure added to each."""
    variances = [((p * n + 1) / (n + 2)) * (1 - (p * n + 1) / (n + 2)) / n for p, n in ((one, n_one), (two, n_two))]
    return float(np.sqrt(sum(variances)))


def _fit(
    store: ActivationSource,
    site: Site,
    make: Callable[[], Decoder],
    rows: pd.DataFrame,
    gold: np.ndarray,
    seed: int,
    made: dict[Address, tuple[Decoder, float]],
) -> Fitted:
    split = grouped_split(structures(store, rows), seed)
    start = time.perf_counter()
    if site.address in made:
        decoder, seconds = made[site.address]
    else:
        decoder = make().fit(store, site.address, rows[split.train], gold[split.train])
        seconds = time.perf_counter() - start
    if getattr(decoder, "label_free", False):
        made[site.address] = decoder, seconds
    return Fitted(site, decoder, seconds, _validation(store, site, decoder, rows, gold, split))


def _validation(
    store: ActivationSource, site: Site, decoder: Decoder, rows: pd.DataFrame, gold: np.ndarray, split: Masks
) -> dict[int, tuple[float, int]]:
    held = rows[split.val]
    right = decoder.decode(store, site.address, held, top_k=1).texts[:, 0] == gold[split.val]
    steps = held["read_step"].to_numpy()
    return {int(step): (float(right[steps == step].mean()), int((steps == step).sum())) for step in np.unique(steps)}


def _first_of_the_best(tried: Sequence[Fitted]) -> Fitted:
    counts = [sum(n for _, n in each.validation.values()) for each in tried]
    totals = [sum(share * n for share, n in each.validation.values()) for each in tried]
    return tried[first_within_error([t / n for t, n in zip(totals, counts, strict=True)], counts)]


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


def thinking_rows(store: ActivationSource, rows: pd.DataFrame) -> pd.DataFrame:
    """All thinking positions, markers included, of the traces of `rows`: where a decoder could have read a step."""
    index = store.index
    readable = index[index["channel"].isin(THINKING) | index["place"].isin(["begin", "end"])]
    return readable[readable["trace"].isin(rows["trace"].unique())]


def learned_bytes(thing: Any, seen: set[int] | None = None) -> int:
    """The bytes of all arrays that a decoder holds of its own; a reasoner or store that it reads is not counted."""
    from interp.reasoners.base import Reasoner

    seen = set() if seen is None else seen
    if (
        thing is None
        or isinstance(thing, (str, int, float, bool, type, Reasoner, ActivationSource))
        or id(thing) in seen
    ):
        return 0
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        return int(thing.nbytes)
    if hasattr(thing, "element_size"):
        return int(thing.element_size() * thing.nelement())
    if isinstance(thing, dict):
        return sum(learned_bytes(each, seen) for each in thing.values())
    if isinstance(thing, (list, tuple)):
        return sum(learned_bytes(each, seen) for each in thing)
    if callable(getattr(thing, "state_dict", None)):
        return sum(learned_bytes(each, seen) for each in thing.state_dict().values())
    return sum(learned_bytes(each, seen) for each in vars(thing).values()) if hasattr(thing, "__dict__") else 0
