"""Locations: where a decoder reads a step, chosen on validation problems alone.

One location serves all steps, so that a decoder has to mean the same everywhere. A step that is read better elsewhere by
more than three standard errors on validation gets its own location. With thinking tokens, for example, the last step
is computed at the end marker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from interp.activations import ActivationSource
from interp.decoders.base import Decoder, SharedDecoder
from interp.decoders.step_rows import DecodeInputs, StepRows
from interp.errors import UsageError
from interp.models.address import Address
from interp.statistics.intervals import first_within_error
from interp.statistics.splits import Masks

# Of the location that serves all steps. One position later, the step's value may be a mere leftover.
OFFSETS = (0, -1)
# Of single steps that the common location does not reach, in order of preference.
STEP_OFFSETS = (0, -1, 1)
# Standard errors by which a step's own location has to be better, on validation, than the common one.
_MARGIN = 3.0


@dataclass(frozen=True)
class Location:
    """Where the value of step k is read.

    Attributes:
        address: The activation.
        offset: Positions from the last thought of step k.
    """

    address: Address
    offset: int

    @property
    def label(self) -> str:
        """The location in words, such as "layer 2, thought k-1"."""
        return f"{self.address.label}, thought k{self.offset:+d}" if self.offset else f"{self.address.label}, thought k"


class Share(NamedTuple):
    """A proportion of `n` validation rows."""

    right: float
    n: int


@dataclass(frozen=True)
class FittedDecoder:
    """A decoder fitted at one location.

    Attributes:
        location: Where it reads.
        decoder: The fitted decoder.
        seconds: How long fitting took.
        validation: The share of validation rows read right, by step.
    """

    location: Location
    decoder: Decoder
    seconds: float
    validation: dict[int, Share]

    def for_step(self, step: int) -> FittedDecoder:
        """Return the same with the validation share of one step alone."""
        return FittedDecoder(self.location, self.decoder, self.seconds, {step: self.validation[step]})


def candidate_locations(
    store: ActivationSource, addresses: Sequence[str] | None = None, offsets: Sequence[int] = OFFSETS
) -> list[Location]:
    """Return all locations of a store in order of preference: offsets in the given order, then early addresses first.

    Args:
        store: The activations.
        addresses: Names of addresses to read; all that the store holds where None.
        offsets: Positions from a step's last thought.
    """
    chosen = [store.address(name) for name in addresses] if addresses else store.addresses
    locations = [Location(address, offset) for offset in offsets for address in chosen]
    return sorted(locations, key=lambda location: (list(offsets).index(location.offset), location.address.depth))


class LocationSearch:
    """Fits one method at candidate locations and picks among them on validation rows."""

    def __init__(self, inputs: DecodeInputs, make: Callable[[], Decoder]) -> None:
        self._inputs, self._make = inputs, make
        # Decoders that use no labels, by address: one fit serves all offsets and steps.
        self._label_free: dict[Address, FittedDecoder] = {}
        # A decoder that serves all addresses, and the seconds that its fits took together.
        self._shared: SharedDecoder | None = None
        self._shared_seconds = 0.0

    def fit_common(self, locations: Sequence[Location]) -> FittedDecoder:
        """Fit at each location, and return the one for all steps.

        It is the first, in order of preference, whose validation score is within one standard error of the best.

        Raises:
            UsageError: The store holds no thoughts whose steps are known, too few problems to split, or no address at
                which the decoder can be read.
        """
        locations = self._readable(locations)
        rows = {offset: self._inputs.step_rows(offset) for offset in {location.offset for location in locations}}
        most = max(len(of_offset) for of_offset in rows.values())
        # Scores over fewer steps do not compare, so locations that lack some steps are left out.
        complete = [location for location in locations if len(rows[location.offset]) == most > 0]
        if not complete:
            raise UsageError("this store holds no thoughts whose steps are known; capture channels latent or thought.")
        self._label_free.clear()
        return _first_of_best([self._fit(location, rows[location.offset]) for location in complete])

    def fit_by_step(self, common: FittedDecoder, locations: Sequence[Location]) -> dict[int, FittedDecoder]:
        """Return a location and decoder for each step of `common.validation` that is read better elsewhere.

        Better means by more than three standard errors of the difference, on validation rows.
        """
        self._label_free.clear()
        locations = self._readable(locations)
        better: dict[int, FittedDecoder] = {}
        for step, share in common.validation.items():
            if not _can_improve(share):
                continue
            fits = []
            for location in locations:
                rows = self._inputs.step_rows(location.offset)
                of_step = rows.select(rows.steps == step)
                if len(of_step) >= share.n:
                    try:
                        fits.append(self._fit(location, of_step))
                    except UsageError:
                        continue  # too few problems reach this step to split them
            if fits:
                best = _first_of_best(fits)
                gain = best.validation[step].right - share.right
                if gain > _MARGIN * _error_of_difference(share, best.validation[step]):
                    better[step] = best
        return better

    def _readable(self, locations: Sequence[Location]) -> Sequence[Location]:
        """Return the locations at whose addresses the decoder can be read."""
        decoder = self._shared or self._make()
        if not isinstance(decoder, SharedDecoder):
            return locations
        if decoder.one_for_all:
            self._shared = decoder
        kept = [location for location in locations if decoder.reads(location.address)]
        if not kept:
            raise UsageError(
                f"expected an address that {decoder.name} can be read at, got {', '.join(sorted({a.address.name for a in locations}))}; "
                "capture the outputs of blocks (site resid_post)."
            )
        return kept

    def _fit(self, location: Location, rows: StepRows) -> FittedDecoder:
        split = rows.split()
        earlier = self._label_free.get(location.address)
        if earlier is not None:
            decoder, seconds = earlier.decoder, earlier.seconds
        else:
            start = time.perf_counter()
            decoder = self._shared or self._make()
            gold = rows.gold(decoder.traits.output)
            decoder = decoder.fit(self._inputs.store, location.address, rows.rows[split.train], gold[split.train])
            seconds = time.perf_counter() - start
            if self._shared is not None:
                self._shared_seconds = seconds = self._shared_seconds + seconds
        shares = _validation(self._inputs.store, location, decoder, rows, split)
        fitted = FittedDecoder(location, decoder, seconds, shares)
        if not decoder.traits.uses_labels:
            self._label_free[location.address] = fitted
        return fitted


def _validation(
    store: ActivationSource, location: Location, decoder: Decoder, rows: StepRows, split: Masks
) -> dict[int, Share]:
    held_out, gold = rows.rows[split.val], rows.gold(decoder.traits.output)[split.val]
    right = decoder.decode(store, location.address, held_out, top_k=1).texts[:, 0] == gold
    steps = held_out["read_step"].to_numpy()
    return {
        int(step): Share(float(right[steps == step].mean()), int((steps == step).sum())) for step in np.unique(steps)
    }


def _can_improve(share: Share) -> bool:
    """Return whether a perfect location would be better by the margin."""
    return 1.0 - share.right > _MARGIN * _error_of_difference(share, Share(1.0, share.n))


def _error_of_difference(one: Share, two: Share) -> float:
    """Return the standard error of the difference of two proportions, one success and one failure added to each."""
    variances = [((p * n + 1) / (n + 2)) * (1 - (p * n + 1) / (n + 2)) / n for p, n in (one, two)]
    return float(np.sqrt(sum(variances)))


def _first_of_best(fits: Sequence[FittedDecoder]) -> FittedDecoder:
    counts = [sum(share.n for share in fitted.validation.values()) for fitted in fits]
    totals = [sum(share.right * share.n for share in fitted.validation.values()) for fitted in fits]
    return fits[first_within_error([total / n for total, n in zip(totals, counts, strict=True)], counts)]
