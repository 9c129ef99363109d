"""Read thoughts again as the decoder of a run read them: the same fit, at the same locations or at every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dashboards.runs import Run
from interp.decoders.base import Decoder
from interp.decoders.step_rows import step_rows
from interp.errors import StoreError

if TYPE_CHECKING:
    from interp.activations import ActivationSource
    from interp.models.address import Address
    from interp.reasoners import Reasoner

#: Decoders that are fitted again in well under a second.
QUICK = ("probe", "logit_lens")
# Layers of the grid; a deep model's are evenly spaced.
MAX_LAYERS = 12


@dataclass(frozen=True)
class Reading:
    """Which decoder reads a step, and where.

    Attributes:
        address: The activation.
        offset: Positions from the step's last thought.
        steps: The steps that are read with it.
    """

    address: str
    offset: int
    steps: tuple[int, ...]


def quick_method(run: Run, method: str) -> str:
    """Return the decoder to read live thoughts with: the chosen one where it is quick, else the run's probe."""
    return method if method in QUICK else next((name for name in QUICK if name in run.methods), QUICK[0])


def why_not_again(run: Run, method: str) -> str:
    """Return in one line why a run's thoughts cannot be read again; empty where they can."""
    if not (run.path / "store" / "meta.json").exists():
        return "this run keeps no activations, so its decoder cannot be fitted again"
    if method not in run.methods:
        return "only the probe and the logit lens are fitted again, and this run has neither"
    return ""


def locations_of(run: Run, method: str) -> list[Reading]:
    """Return where a decoder of the run read each step, the location of most steps first."""
    read = run.readouts[run.readouts["method"] == method]
    if read.empty:
        raise StoreError(f"expected read-outs of {method} in {run.path}, got none; choose another decoder.")
    first = read.drop_duplicates("step")
    where: dict[tuple[str, int], list[int]] = {}
    for row in first.to_dict("records"):
        last = run.traces[int(row["trace"])].step_position(int(row["step"]))
        offset = 0 if last is None else int(row["position"]) - last
        where.setdefault((str(row["address"]), offset), []).append(int(row["step"]))
    readings = [Reading(address, offset, tuple(sorted(steps))) for (address, offset), steps in where.items()]
    return sorted(readings, key=lambda reading: -len(reading.steps))


class ThoughtReader:
    """The decoder of a run, fitted again on the run's training problems.

    Args:
        run: The run, with its store.
        method: One of `QUICK` that the run has.
        reasoner: The model, for decoders that need it.
    """

    def __init__(self, run: Run, method: str, reasoner: Reasoner | None = None) -> None:
        from interp.decoders.registry import make_decoder

        self._make = lambda: make_decoder(method, reasoner)
        self._store = run.store
        readouts = run.readouts[run.readouts["method"] == method]
        self._train = set(readouts.loc[readouts["split"] == "train", "trace"].tolist())
        self.locations = locations_of(run, method)
        self._fitted: dict[tuple[str, int, tuple[int, ...]], Decoder] = {}

    def addresses(self) -> list[str]:
        """Return the addresses that steps are read at."""
        return list(dict.fromkeys(location.address for location in self.locations))

    def fit(self) -> None:
        """Fit the decoder now, so that the first reading is as fast as the next."""
        for number, location in enumerate(self.locations):
            self._decoder(location.address, location.offset, location.steps if number else ())

    def read(self, source: ActivationSource) -> pd.DataFrame:
        """Return what the decoder reads in each step of each trace, where the run read it.

        Args:
            source: Activations of the run's model.

        Returns:
            Columns: trace, step, text, top_k, score (the decoder's own, not calibrated).
        """
        parts = []
        for number, location in enumerate(self.locations):
            # The first serves all steps, and the others single ones: `interp.decoders.locations`.
            fitted_on = () if number == 0 else location.steps
            read = self._read_at(source, location.address, location.offset, fitted_on, steps=location.steps)
            parts.append(read)
        return pd.concat(parts, ignore_index=True).sort_values(["trace", "step"], ignore_index=True)

    def layers(self, trace: int) -> pd.DataFrame:
        """Return what the decoder reads in each step of one trace of the run, fitted at every layer.

        Args:
            trace: Index of the trace.

        Returns:
            Columns: address, label, step, text, top_k, score.
        """
        parts = []
        for address in _spread(self._store.addresses):
            read = self._read_at(self._store, address.name, self.locations[0].offset, trace=trace)
            parts.append(read.assign(address=address.name, label=address.label))
        return pd.concat(parts, ignore_index=True)

    def _read_at(
        self,
        source: ActivationSource,
        address: str,
        offset: int,
        fitted_on: tuple[int, ...] = (),
        *,
        steps: tuple[int, ...] = (),
        trace: int | None = None,
    ) -> pd.DataFrame:
        """Return the read-outs at one location: of all steps and traces, or of those that are given."""
        decoder = self._decoder(address, offset, fitted_on)
        rows, _ = step_rows(source, offset)
        if trace is not None:
            rows = rows[rows["trace"] == trace]
        if steps:
            rows = rows[rows["read_step"].isin(steps)]
        ranked = decoder.decode(source, source.address(address), rows, top_k=3)
        return pd.DataFrame(
            {
                "trace": rows["trace"].to_numpy(),
                "step": rows["read_step"].to_numpy(),
                "text": ranked.texts[:, 0],
                "top_k": list(ranked.texts),
                "score": ranked.scores[:, 0],
            }
        )

    def _decoder(self, address: str, offset: int, fitted_on: tuple[int, ...]) -> Decoder:
        """Return the decoder at one location, fitted on all steps, or on those that are given."""
        if (address, offset, fitted_on) not in self._fitted:
            rows, gold = step_rows(self._store, offset)
            mask = rows["trace"].isin(self._train).to_numpy()
            if fitted_on:
                mask &= rows["read_step"].isin(fitted_on).to_numpy()
            decoder = self._make().fit(self._store, self._store.address(address), rows[mask], gold[mask])
            self._fitted[address, offset, fitted_on] = decoder
        return self._fitted[address, offset, fitted_on]


def _spread(addresses: list[Address]) -> list[Address]:
    """Return at most `MAX_LAYERS` addresses, evenly spaced, the first and the last among them."""
    if len(addresses) <= MAX_LAYERS:
        return addresses
    return [addresses[k] for k in np.linspace(0, len(addresses) - 1, MAX_LAYERS).round().astype(int)]
