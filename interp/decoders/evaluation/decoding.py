"""`decode`: fit decoders on train problems, choose locations on validation problems, and read every step of a store."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.decoders.base import DecoderTraits, DictionaryOptions
from interp.decoders.evaluation.chance import offered_sizes
from interp.decoders.evaluation.confidence import calibrated_confidence
from interp.decoders.evaluation.costs import Cost, learned_bytes
from interp.decoders.evaluation.read_outs import MethodResult, ReadOuts
from interp.decoders.locations import (
    OFFSETS,
    STEP_OFFSETS,
    FittedDecoder,
    Location,
    LocationSearch,
    candidate_locations,
)
from interp.decoders.registry import decoder_traits, make_decoder
from interp.decoders.step_rows import DecodeInputs, StepRows
from interp.runtime.progress import StageProgress
from interp.statistics.donors import other_problem
from interp.text.limits import MAX_UNPLACED
from interp.text.placement import require_placed

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

Settings = Mapping[str, Mapping[str, Any]]
# The method whose locations slow decoders take over.
_LEADER = "probe"


class DecodeOptions(DictionaryOptions, total=False):
    """Options of `decode` that `evaluate` passes on."""

    addresses: Sequence[str] | None
    offsets: Sequence[int]
    step_offsets: Sequence[int]
    settings: Settings | None
    max_unplaced: float


class _Candidates(TypedDict):
    common: list[Location]
    of_steps: list[Location]


def decode(
    store: ActivationSource,
    methods: Sequence[str] = ("logit_lens", "probe", "sae"),
    *,
    reasoner: Reasoner | None = None,
    addresses: Sequence[str] | None = None,
    offsets: Sequence[int] = OFFSETS,
    step_offsets: Sequence[int] = STEP_OFFSETS,
    seed: int = 0,
    top_k: int = 3,
    settings: Settings | None = None,
    max_unplaced: float = MAX_UNPLACED,
    progress: StageProgress | None = None,
    **options: Unpack[DictionaryOptions],
) -> ReadOuts:
    """Read every step of every trace of a store with each of several decoders.

    Each decoder is fitted on 60 % of the problem structures at each candidate location, gets the location where it is
    best on another 15 %, and is scored on the rest. A step that is read better elsewhere gets its own location. A
    decoder that is slow to fit reads where the probe does, if `probe` comes before it.

    Args:
        store: Activations with the channels latent or thought.
        methods: Names of decoders (`interp.decoders.registry.decoder_names`).
        reasoner: The model, for decoders that run it; loaded from the store's description where None.
        addresses: Addresses to read; all that the store holds where None.
        offsets: Positions from a step's last thought, for the location that serves all steps.
        step_offsets: The same for single steps; empty for no locations of single steps.
        seed: Seed of the problem split, of the donors of the control, and of the dictionaries.
        top_k: Number of ranked texts for each read-out.
        settings: Constructor arguments of decoders by name, such as `{"verbalizer": {"updates": 500}}`.
        max_unplaced: Largest share of the steps of visible thoughts that may have no place in the text. Steps without one
            are not read.
        progress: Called with (method, methods done, number of methods).
        **options: Options of the dictionaries: `d_sae`, `k`, `samples`.

    Returns:
        The read-outs, with the fitted decoders and their locations.

    Raises:
        UsageError: A method is unknown, the store holds no thoughts whose steps are known, or more steps than
            `max_unplaced` have no place in the text.
    """
    traits = {method: decoder_traits(method) for method in methods}
    require_placed(store.traces, max_unplaced)
    if reasoner is None and any(of_method.needs_model for of_method in traits.values()):
        reasoner = store.load_reasoner()
    inputs = DecodeInputs(store, seed)
    candidates: _Candidates = {
        "common": candidate_locations(store, addresses, offsets),
        "of_steps": candidate_locations(store, addresses, step_offsets) if len(step_offsets) else [],
    }
    frames: list[pd.DataFrame] = []
    results: dict[str, MethodResult] = {}
    for number, method in enumerate(methods):
        if progress:
            progress(method, number, len(methods))
        arguments = {**options, "seed": seed} if traits[method].dictionary else dict((settings or {}).get(method, {}))
        search = LocationSearch(inputs, partial(make_decoder, method, reasoner, arguments))
        common, by_step = _place(search, traits[method], candidates, results.get(_LEADER))
        frame, seconds = _read(inputs, method, common, by_step, traits[method], top_k)
        size = sum(learned_bytes(fitted.decoder) for fitted in (common, *by_step.values()))
        frames.append(frame)
        results[method] = MethodResult(common, by_step, Cost(common.seconds, seconds, size))
    if progress:
        progress("done", len(methods), len(methods))
    return ReadOuts(pd.concat(frames, ignore_index=True), results, inputs)


def _place(
    search: LocationSearch, traits: DecoderTraits, candidates: _Candidates, leader: MethodResult | None
) -> tuple[FittedDecoder, dict[int, FittedDecoder]]:
    """Fit one method at its common location and at those of single steps."""
    if leader is not None and traits.follows_probe:
        common = search.fit_common([leader.common.location])
        by_step: dict[int, FittedDecoder] = {}
        for step, fitted in leader.by_step.items() if traits.per_step else ():
            by_step |= search.fit_by_step(common.for_step(step), [fitted.location])
        return common, by_step
    common = search.fit_common(_preferred(traits, candidates["common"]))
    if not candidates["of_steps"]:
        return common, {}
    return common, search.fit_by_step(common, _preferred(traits, candidates["of_steps"]))


def _preferred(traits: DecoderTraits, locations: Sequence[Location]) -> Sequence[Location]:
    """Return the candidates at the addresses that a decoder prefers; all of them where it prefers none, or has none."""
    return [location for location in locations if location.address.name in traits.addresses] or locations


def _read(
    inputs: DecodeInputs,
    method: str,
    common: FittedDecoder,
    by_step: Mapping[int, FittedDecoder],
    traits: DecoderTraits,
    top_k: int,
) -> tuple[pd.DataFrame, float]:
    """Return the read-outs of one method, in order of trace and step, and the seconds that 1,000 of them take."""
    frames, seconds = [], 0.0
    for fitted, step in [(common, None), *((fitted, step) for step, fitted in by_step.items())]:
        rows = inputs.step_rows(fitted.location.offset)
        rows = rows.select(~np.isin(rows.steps, list(by_step)) if step is None else rows.steps == step)
        if not len(rows):
            continue
        start = time.perf_counter()
        ranking = fitted.decoder.decode(inputs.store, fitted.location.address, rows.rows, top_k=top_k)
        seconds += time.perf_counter() - start
        frames.append(
            _frame(inputs, method, fitted.location, rows, rows.gold(traits.output), ranking.texts, ranking.scores)
        )
    frame = pd.concat(frames).sort_values(["trace", "step"], ignore_index=True)
    return frame.assign(confidence=calibrated_confidence(inputs.store, frame)), 1000 * seconds / len(frame)


def _frame(
    inputs: DecodeInputs,
    method: str,
    location: Location,
    rows: StepRows,
    gold: np.ndarray,
    texts: np.ndarray,
    scores: np.ndarray,
) -> pd.DataFrame:
    donors = other_problem(rows.steps, rows.structures, rows.parts, inputs.split_seed)
    traces = rows.rows["trace"].to_numpy()
    return pd.DataFrame(
        {
            "method": method,
            "trace": traces,
            "step": rows.steps,
            "position": rows.rows["position"].to_numpy(),
            "address": location.address.name,
            "split": rows.parts,
            "structure": rows.structures,
            "gold": gold,
            "text": texts[:, 0],
            "right": texts[:, 0] == gold,
            "top_k": list(texts),
            "scores": list(np.asarray(scores, np.float64)),
            "offers": offered_sizes(inputs.offers, traces.tolist(), gold.tolist()),
            "other_problem": texts[donors, 0],
        }
    )
