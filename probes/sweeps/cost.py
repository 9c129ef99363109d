"""What a sweep will take, from its plan and one timed unit."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from interp.activations import ActivationSource
from interp.runtime.engines import executor
from probes.sweeps.blocks import blocks
from probes.sweeps.unit import Unit, run_unit

_COPIES = 6  # arrays of a place's rows that a fit holds at once: as read, standardised, rotated, in two precisions


def estimate(store: ActivationSource, plans: list[list[Unit]], engine: str, workers: int | None) -> dict[str, Any]:
    """Cells, units, seconds and memory of planned sweeps. The time is that of one address at one place and one split,
    measured now, times their number; it is an estimate, and says so."""
    cells, fits, seconds, largest = 0, 0, 0.0, 0
    for planned in plans:
        first = next(unit for unit in planned if unit.address)
        addresses = sum(unit.address is not None for unit in planned)
        at_places = {place: blocks(store, place, first.targets, first.seeds) for place in first.places}
        cells += addresses * sum(len(block.targets) for found in at_places.values() for block in found)
        rows = {place: sum(len(block.rows) for block in found) for place, found in at_places.items()}
        largest = max(largest, *rows.values())
        usable = [place for place in first.places if rows[place]]
        if not usable:
            continue
        fits += addresses * len(usable) * len(first.seeds)
        middle = sorted(usable, key=rows.__getitem__)[len(usable) // 2]
        sample = replace(first, places=(middle,), seeds=first.seeds[:1])
        run_unit(sample)  # the first one also pays for imports and for opening the store
        started = time.perf_counter()
        run_unit(sample)
        seconds += (time.perf_counter() - started) * addresses * len(usable) * len(first.seeds)
    at_once = executor(engine, workers).workers
    return {
        "cells": cells,
        "units": sum(len(planned) for planned in plans),
        "fits": fits,
        "seconds": round(seconds / at_once, 1),
        "memory_mb": round(at_once * (largest * store.meta["d_model"] * 4 * _COPIES / 1e6) + 400 * at_once),
        "note": "seconds are extrapolated from one address at one place, timed now; controls without an address come on top",
    }
