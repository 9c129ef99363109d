"""The estimated cost of a sweep, from its plan and one timed fit."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from interp.activations import ActivationSource
from interp.runtime.engines import executor
from probes.sweeps.blocks import blocks
from probes.sweeps.run import places_in
from probes.sweeps.unit import Unit, run_unit

# Arrays of a place's rows that a fit holds at once: as read, standardised, rotated, in two precisions.
_COPIES = 6


@dataclass(frozen=True)
class SweepCost:
    """Estimated cost of a sweep.

    Attributes:
        cells: Rows that the table will have.
        units: Units of work.
        fits: Fits of one address at one place on one split.
        seconds: Wall-clock time, extrapolated.
        memory_mb: Memory of all workers, in MB.
        note: What the estimate is based on.
    """

    cells: int
    units: int
    fits: int
    seconds: float
    memory_mb: int
    note: str = (
        "seconds are extrapolated from one timed fit of one address at one place; "
        "controls without an address are not included"
    )


def estimate_cost(store: ActivationSource, plans: list[list[Unit]], engine: str, workers: int | None) -> SweepCost:
    """Estimate the cost of planned sweeps by timing one address at one place on one split.

    Args:
        store: The store that the sweeps were planned for.
        plans: Results of `probes.sweeps.run.plan`.
        engine: As in `probes.sweeps.run.sweep`.
        workers: As in `probes.sweeps.run.sweep`.
    """
    cells, fits, seconds, most_rows = 0, 0, 0.0, 0
    for units in plans:
        first = next(unit for unit in units if unit.address)
        addresses = len({unit.address for unit in units if unit.address is not None})
        by_place = {place: blocks(store, place, first.targets, first.splits) for place in places_in(units)}
        cells += addresses * sum(len(block.targets) for of_place in by_place.values() for block in of_place)
        rows = {place: sum(len(block.rows) for block in of_place) for place, of_place in by_place.items()}
        most_rows = max(most_rows, *rows.values())
        usable = [place for place, n in rows.items() if n]
        if not usable:
            continue
        fits += addresses * len(usable) * len(first.splits)
        middle = sorted(usable, key=rows.__getitem__)[len(usable) // 2]
        sample = replace(first, places=(middle,), splits=first.splits[:1])
        run_unit(sample)  # the first run also pays for imports and for opening the store
        started = time.perf_counter()
        run_unit(sample)
        seconds += (time.perf_counter() - started) * addresses * len(usable) * len(first.splits)
    at_once = executor(engine, workers).workers
    return SweepCost(
        cells=cells,
        units=sum(len(units) for units in plans),
        fits=fits,
        seconds=round(seconds / at_once, 1),
        memory_mb=round(at_once * (most_rows * store.meta["d_model"] * 4 * _COPIES / 1e6) + 400 * at_once),
    )
