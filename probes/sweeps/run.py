"""The probe sweep: every target at every place and address, each score with its controls, interval and q-value.

Within one problem split, all targets of an address that share their rows are solved together with their shuffled
copies and control tasks. Over several splits, each problem counts once for its interval, however often it is tested.
A sweep is divided into units (`probes/sweeps/unit.py`) that any engine runs. With a folder, finished units are kept
there, and the same sweep run again computes only what is missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from interp.activations import ActivationSource, Store
from interp.activations.source import place_key
from interp.activations.splits import describe_split, seeds_of_splits
from interp.activations.step_positions import POOLED, rows_at, step_places
from interp.activations.targets import value_targets
from interp.errors import StoreError, UsageError, checked_count, unknown
from interp.problems.base import checked_seed
from interp.runtime.engines import Executor, Inline, executor
from interp.runtime.files import commit, explain_os_errors
from interp.runtime.locks import locked
from interp.runtime.progress import Progress
from interp.statistics.intervals import q_values
from interp.statistics.splits import MAX_SPLITS
from interp.text.limits import MAX_UNPLACED
from interp.text.placement import require_placed, step_placement
from interp.traces import Channel
from probes.estimators.registry import estimator_class
from probes.sweeps import controls as control_inputs
from probes.sweeps.blocks import MIN_ROWS, SkippedTarget, blocks, cache_store, cached_store, left_out
from probes.sweeps.results import Sweep
from probes.sweeps.unit import Unit, UnitResult, run_unit

_UNITS = "units"
# Places of one unit. With all places of an address in one, workers end far apart; what fits share, they share at a place.
_PLACES_TOGETHER = 4
_OF_STEPS = re.compile(r"value_\d+|step_value|next_step")


def sweep(
    store: ActivationSource,
    targets: Sequence[str] | None = None,
    *,
    controls: str | Sequence[str] = "all",
    places: Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    addresses: Sequence[str] | None = None,
    splits: int | Sequence[int] = 3,
    estimator: str = "ridge",
    random_init: ActivationSource | None = None,
    description_length: bool = False,
    max_unplaced: float = MAX_UNPLACED,
    engine: str = "inline",
    workers: int | None = None,
    out: Path | str | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Fit probes for every target at every place and address of a store, each with its controls.

    Args:
        store: The activations to read, a store or a recording.
        targets: Targets to probe; the value after each step by default.
        controls: "all", "none" or names from `probes.sweeps.controls.control_names()`.
        places: Places to probe; every place but "question" by default. `thought k` is the k-th position of a thought;
            where steps are written in several tokens, `step k` is the one at which the value of step k is complete.
        channels: Channels whose places are probed; an alternative to `places`.
        addresses: Addresses to probe; every captured address by default.
        splits: Number of problem splits, or their seeds; 3 means the seeds 0, 1 and 2. There is one where a questions
            file says itself what is fitted, selected on and tested.
        estimator: A name from `probes.estimators.registry.estimator_names()`.
        random_init: A store of the same problems made by an untrained twin.
        description_length: Whether the table also has the bits of the online code, at about twice the time.
        max_unplaced: Largest share of the steps of visible thoughts that may have no place, where a target is a step's.
        engine: Where the units run: "inline", "process", "ray" or "slurm", with settings behind a colon.
        workers: Number of workers; one for each core by default.
        out: Folder where finished units are kept and read again.
        progress: Called with the number of finished units and of all units.

    Returns:
        The sweep; `.table()` has one row for each target, place and address.

    Raises:
        UsageError: A target, place, address, estimator or control is unknown, no target has enough rows, or more steps
            than `max_unplaced` have no place in the text.
        StoreError: The twin's store holds other problems.
        PartialError: A worker died.
    """
    units = plan(
        store,
        targets,
        controls=controls,
        places=places,
        channels=channels,
        addresses=addresses,
        splits=splits,
        estimator=estimator,
        random_init=random_init,
        description_length=description_length,
        max_unplaced=max_unplaced,
    )
    return run(store, [units], engine=engine, workers=workers, out=out, progress=progress)


def run(
    store: ActivationSource,
    plans: Sequence[list[Unit]],
    *,
    engine: str = "inline",
    workers: int | None = None,
    out: Path | str | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Run several planned sweeps of one store and return them as one table, with q-values over all of it.

    Args:
        store: The store that the sweeps were planned for.
        plans: Results of `plan`.
        engine: As in `sweep`.
        workers: As in `sweep`.
        out: As in `sweep`.
        progress: As in `sweep`.

    Raises:
        UsageError: No target has enough rows anywhere, or workers cannot reach a source in memory.
        PartialError: A worker died.
    """
    all_units = [unit for units in plans for unit in units]
    if not any(blocks(store, place, p[0].targets, p[0].splits) for p in plans for place in places_in(p)):
        raise UsageError(
            f"expected {MIN_ROWS} rows with two or more labels for some target, got fewer at every place of this "
            "store; capture more problems."
        )
    chosen_engine = executor(engine, workers)
    twins = [cached_store(unit.twin, unit.twin_hash or "") for unit in all_units[:1] if unit.twin]
    for source in [store, *twins]:
        if not isinstance(chosen_engine, Inline) and not isinstance(source, Store):
            raise UsageError(
                f"expected stores on disk for engine {engine}, got {source.name} in memory, which workers cannot "
                "reach; use engine inline, or capture to a folder."
            )
    results = iter(_run_units(all_units, chosen_engine, Path(out) / _UNITS if out else None, progress))
    return _combined(store, [(units, [next(results) for _ in units]) for units in plans])


def plan(
    store: ActivationSource,
    targets: Sequence[str] | None = None,
    *,
    controls: str | Sequence[str] = "all",
    places: Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    addresses: Sequence[str] | None = None,
    splits: int | Sequence[int] = 3,
    estimator: str = "ridge",
    random_init: ActivationSource | None = None,
    description_length: bool = False,
    max_unplaced: float = MAX_UNPLACED,
) -> list[Unit]:
    """Return the units of a sweep without running them.

    There is one unit for every few places of an address, and one for the controls without an address of all places
    that share their problems. The arguments and errors are those of `sweep`.
    """
    for opened in filter(None, (store, random_init)):
        cache_store(opened)
    names = control_inputs.chosen_controls(controls if isinstance(controls, str) else list(controls))
    if isinstance(splits, int):
        splits = range(checked_count("splits", splits, at_most=MAX_SPLITS))
    split_seeds = seeds_of_splits(store, [checked_seed(seed) for seed in splits])
    estimator_class(estimator)
    if random_init is not None and not _same_problems(random_init, store):
        raise StoreError(
            "expected an untrained twin's store of the same traces, got other traces; capture the same problems."
        )
    chosen_targets = tuple(targets or value_targets(store))
    if any(_OF_STEPS.fullmatch(target) for target in chosen_targets):
        require_placed(store.traces, max_unplaced)
    chosen_places = _places(store, places, channels)
    chosen_addresses = [store.address(a) for a in addresses] if addresses else store.addresses
    common = Unit(
        store=store.name,
        config_hash=store.meta["config_hash"],
        twin=random_init.name if random_init else None,
        twin_hash=random_init.meta["config_hash"] if random_init else None,
        address=None,
        places=tuple(chosen_places),
        targets=chosen_targets,
        controls=tuple(names),
        splits=tuple(split_seeds),
        estimator=estimator,
        description_length=description_length,
    )
    same_problems: dict[bytes, list[str]] = {}
    for place in chosen_places:
        same_problems.setdefault(rows_at(store, place)["trace"].to_numpy().tobytes(), []).append(place)
    without_address = [replace(common, places=tuple(group)) for group in same_problems.values()]
    groups = [
        tuple(chosen_places[first : first + _PLACES_TOGETHER])
        for first in range(0, len(chosen_places), _PLACES_TOGETHER)
    ]
    by_address = [
        replace(common, address=address.name, places=group) for address in chosen_addresses for group in groups
    ]
    return [*by_address, *without_address]


def places_in(units: Sequence[Unit]) -> list[str]:
    """Return the places of planned units, in the order in which they were chosen."""
    return list(dict.fromkeys(place for unit in units if unit.address is not None for place in unit.places))


def places_of(store: ActivationSource) -> list[str]:
    """Return the places that can be swept: those of the store, and of visible steps where their values are complete."""
    return sorted([*store.places, *step_places(store)], key=place_key)


def _places(store: ActivationSource, places: Sequence[str] | None, channels: Sequence[str] | None) -> list[str]:
    all_places = places_of(store)
    if places:
        for place in places:
            if place not in all_places and place not in POOLED:
                raise unknown("place in this store", place, [*all_places, *POOLED])
        return list(places)
    if not channels:
        return [place for place in all_places if place != "question"]
    kept = set(store.rows(channel=channels)["place"].unique())
    kept |= set(step_places(store)) if Channel.THOUGHT in channels else set()
    return [place for place in all_places if place in kept]


def _same_problems(one: ActivationSource, other: ActivationSource) -> bool:
    return [t.problem.id for t in one.traces] == [t.problem.id for t in other.traces]


def _run_units(units: list[Unit], engine: Executor, folder: Path | None, progress: Progress | None) -> list[UnitResult]:
    """Return the results of all units; those kept in `folder` are read from there."""
    results: dict[int, UnitResult] = {}
    for number, unit in enumerate(units):
        kept = _kept_result(folder / f"{unit.key}.json") if folder else None
        if kept is not None:
            results[number] = kept
    missing = [number for number in range(len(units)) if number not in results]
    # Controls without an address are the largest units: begun last, they would be waited for.
    missing.sort(key=lambda number: units[number].address is not None)
    with locked(folder.parent, "sweeping into") if folder and missing else nullcontext():
        for done, (index, result) in enumerate(engine.map(run_unit, [units[number] for number in missing])):
            number = missing[index]
            results[number] = result
            if folder:
                with explain_os_errors(f"writing {folder}"):
                    folder.mkdir(parents=True, exist_ok=True)
                    commit(folder / f"{units[number].key}.json", json.dumps(asdict(result)).encode())
            if progress:
                progress(len(units) - len(missing) + done + 1, len(units))
    return [results[number] for number in range(len(units))]


def _kept_result(path: Path) -> UnitResult | None:
    """Return a finished unit, or None if there is none that can be read; it is then computed again."""
    try:
        return UnitResult(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _combined(store: ActivationSource, finished: list[tuple[list[Unit], list[UnitResult]]]) -> Sweep:
    """Return one sweep of all planned sweeps; a cell that occurs twice counts once."""
    frames = [frame for units, results in finished if (frame := _table(units, results)) is not None]
    frame = pd.concat(frames, ignore_index=True)
    keys = ["target", "place", "address", "estimator"]
    frame = frame.drop_duplicates(keys).reset_index(drop=True)
    frame["q"] = q_values(frame["p"].to_numpy())
    swept = set(frame["place"])
    why_not: dict[str, dict[str, str]] = {}
    missing: dict[tuple[str, str], SkippedTarget] = {}
    for units, results in finished:
        for result in results:
            for control, reasons in result.why_not.items():
                why_not.setdefault(control, {}).update(reasons)
        for cell in left_out(store, places_in(units), units[0].targets):
            missing[cell.target, cell.place] = cell
    first = finished[0][0][0]
    notes = {
        "splits": list(first.splits),
        "split": describe_split(store, first.splits[0]),
        "estimators": list(dict.fromkeys(frame["estimator"])),
        "controls": {name: control_inputs.description(name) for name in first.controls},
        "why_not": {name: _reasons(by_place, swept) for name, by_place in why_not.items()},
        "left_out": [asdict(cell) for cell in missing.values()],
        "left_out_rule": f"fewer than {MIN_ROWS} rows, or a single label",
        "unconverged": sum(result.unconverged for _, results in finished for result in results),
        "store": store.name,
        "config_hash": store.meta["config_hash"],
        "step_places": list(step_places(store)),
    }
    placement = step_placement(store.traces)
    return Sweep(frame, notes if placement is None else notes | {"steps": placement.to_dict()})


def _table(units: list[Unit], results: list[UnitResult]) -> pd.DataFrame | None:
    """Return the cells of one planned sweep with the controls that need no address; None without any cell."""
    by_address = [row for unit, result in zip(units, results, strict=True) if unit.address for row in result.rows]
    shared = [row for unit, result in zip(units, results, strict=True) if not unit.address for row in result.rows]
    if not by_address:
        return None
    frame = pd.DataFrame(by_address)
    if shared:
        frame = frame.merge(pd.DataFrame(shared), on=["target", "place"], how="left")
    for control in units[0].controls:
        if control not in frame:
            frame[control] = float("nan")
    order = {place: number for number, place in enumerate(places_in(units))}
    return frame.sort_values("place", key=lambda column: column.map(order), kind="stable")


def _reasons(by_place: dict[str, str], swept: set[str]) -> str:
    """Return why a control is missing, with the places unless these are all that were swept."""
    places_by_reason: dict[str, list[str]] = {}
    for place, reason in by_place.items():
        if place in swept:
            places_by_reason.setdefault(reason, []).append(place)
    return "; ".join(
        reason if set(places) == swept else f"{reason} (at {', '.join(places)})"
        for reason, places in places_by_reason.items()
    )
