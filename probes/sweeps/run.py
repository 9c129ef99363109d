"""The probe sweep: address x place x target, each score beside its controls, interval and q-value.

Within one problem split, all targets of an address that share their rows are solved together with their
shuffled copies and control tasks. Over several splits, each problem counts once for its interval, however
often it was tested. A sweep is worked through in units (`probes/sweeps/unit.py`) by any engine; with a folder,
finished units are kept there and the same sweep run again computes only what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from interp.activations import ActivationSource, Store
from interp.activations.targets import value_targets
from interp.errors import StoreError, UsageError, checked_count, unknown
from interp.problems.base import checked_seed
from interp.runtime.engines import Inline, executor
from interp.runtime.files import commit, explain_os_errors
from interp.runtime.progress import Progress
from interp.statistics.intervals import q_values
from probes.sweeps import controls as ladder
from probes.sweeps.blocks import MIN_ROWS, blocks, cache_store, cached_store, left_out
from probes.sweeps.fit import ESTIMATORS
from probes.sweeps.results import Sweep
from probes.sweeps.unit import Unit, run_unit

_UNITS = "units"


def sweep(
    store: ActivationSource,
    targets: Sequence[str] | None = None,
    *,
    controls: str | Sequence[str] = "all",
    places: Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    addresses: Sequence[str] | None = None,
    seeds: int | Sequence[int] = 3,
    estimator: str = "ridge",
    random_init: ActivationSource | None = None,
    description_length: bool = False,
    engine: str = "inline",
    workers: int | None = None,
    out: Path | str | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Probes for every target at every place and address of `store`, each beside its controls.

    `targets` are the values after each step by default. `places` may be narrowed by name or by `channels`.
    `seeds` are the problem splits (3 means 0, 1 and 2). `estimator` is one of `probes.sweeps.fit.ESTIMATORS`.
    `random_init` is a store of the same problems made by an untrained twin. With `description_length` the table has
    the bits of the online code too (`probes.sweeps.description_length`), at about twice the time. With `out`, finished units are kept
    in that folder and taken up again. Raises `UsageError` on unknown targets, places, addresses, estimators or
    controls, and when no target has enough rows; `PartialError` when a worker died.
    """
    planned = plan(
        store,
        targets,
        controls=controls,
        places=places,
        channels=channels,
        addresses=addresses,
        seeds=seeds,
        estimator=estimator,
        random_init=random_init,
        description_length=description_length,
    )
    return run(store, [planned], engine=engine, workers=workers, out=out, progress=progress)


def run(
    store: ActivationSource,
    plans: Sequence[list[Unit]],
    *,
    engine: str = "inline",
    workers: int | None = None,
    out: Path | str | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Several planned sweeps of one store as one table, with q-values over all of it."""
    together = [unit for planned in plans for unit in planned]
    if not any(blocks(store, place, p[0].targets, p[0].seeds) for p in plans for place in p[0].places):
        raise UsageError(
            f"no target has {MIN_ROWS} rows with two or more labels anywhere in this store. Capture more problems."
        )
    chosen_engine = executor(engine, workers)
    twins = [cached_store(unit.twin, unit.twin_hash or "") for unit in together[:1] if unit.twin]
    for source in [store, *twins]:
        if not isinstance(chosen_engine, Inline) and not isinstance(source, Store):
            raise UsageError(
                f"{source.name} is in the memory of this process, which workers cannot reach; use engine inline, or "
                "capture to a folder."
            )
    results = iter(_worked(together, chosen_engine, Path(out) / _UNITS if out else None, progress))
    return _together(store, [(planned, [next(results) for _ in planned]) for planned in plans])


def plan(
    store: ActivationSource,
    targets: Sequence[str] | None = None,
    *,
    controls: str | Sequence[str] = "all",
    places: Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    addresses: Sequence[str] | None = None,
    seeds: int | Sequence[int] = 3,
    estimator: str = "ridge",
    random_init: ActivationSource | None = None,
    description_length: bool = False,
) -> list[Unit]:
    """The units of a sweep: one for each address, and one for the other controls of places with the same problems."""
    for given in filter(None, (store, random_init)):
        cache_store(given)
    names = ladder.chosen(controls if isinstance(controls, str) else list(controls))
    splits = list(range(checked_count("seeds", seeds))) if isinstance(seeds, int) else [checked_seed(s) for s in seeds]
    if estimator not in ESTIMATORS:
        raise unknown("estimator", estimator, ESTIMATORS)
    if random_init is not None and not _same_problems(random_init, store):
        raise StoreError("the untrained twin's store holds other traces than this one; capture the same problems.")
    wanted = _places(store, places, channels)
    where = [store.address(a) for a in addresses] if addresses else store.addresses
    common = Unit(
        store=store.name,
        config_hash=store.meta["config_hash"],
        twin=random_init.name if random_init else None,
        twin_hash=random_init.meta["config_hash"] if random_init else None,
        address=None,
        places=tuple(wanted),
        targets=tuple(targets or value_targets(store)),
        controls=tuple(names),
        seeds=tuple(splits),
        estimator=estimator,
        description_length=description_length,
    )
    alike: dict[bytes, list[str]] = {}
    for place in wanted:
        alike.setdefault(store.rows(place=place)["trace"].to_numpy().tobytes(), []).append(place)
    without = [replace(common, places=tuple(group)) for group in alike.values()]
    return [*(replace(common, address=address.name) for address in where), *without]


def _places(store: ActivationSource, places: Sequence[str] | None, channels: Sequence[str] | None) -> list[str]:
    if places:
        for place in places:
            if place not in store.places:
                raise unknown("place in this store", place, store.places)
        return list(places)
    kept = set(store.rows(channel=channels)["place"]) if channels else set(store.places) - {"question"}
    return [place for place in store.places if place in kept]


def _same_problems(one: ActivationSource, other: ActivationSource) -> bool:
    return [t.problem.id for t in one.traces] == [t.problem.id for t in other.traces]


def _worked(planned: list[Unit], engine: Any, folder: Path | None, progress: Progress | None) -> list[dict[str, Any]]:
    """The results of all units, those that are kept in `folder` read from there."""
    found: dict[int, dict[str, Any]] = {}
    for number, unit in enumerate(planned):
        kept = _kept(folder / f"{unit.key}.json") if folder else None
        if kept is not None:
            found[number] = kept
    missing = [number for number in range(len(planned)) if number not in found]
    for done, (place, result) in enumerate(engine.map(run_unit, [planned[number] for number in missing])):
        number = missing[place]
        found[number] = result
        if folder:
            with explain_os_errors(f"writing {folder}"):
                folder.mkdir(parents=True, exist_ok=True)
                commit(folder / f"{planned[number].key}.json", json.dumps(result).encode())
        if progress:
            progress(len(planned) - len(missing) + done + 1, len(planned))
    return [found[number] for number in range(len(planned))]


def _kept(path: Path) -> dict[str, Any] | None:
    """A finished unit, or None where there is none that can be read; it is then computed again."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _together(store: ActivationSource, worked: list[tuple[list[Unit], list[dict[str, Any]]]]) -> Sweep:
    frames = [frame for planned, results in worked if (frame := _table(planned, results)) is not None]
    frame = pd.concat(frames, ignore_index=True)
    keys = ["target", "place", "address", "estimator"]
    frame = frame.drop_duplicates(keys).reset_index(drop=True)
    frame["q"] = q_values(frame["p"].to_numpy())
    swept = set(frame["place"])
    why_not: dict[str, dict[str, str]] = {}
    missing: dict[tuple[str, str], dict[str, Any]] = {}
    for planned, results in worked:
        for each in results:
            for control, reasons in each["why_not"].items():
                why_not.setdefault(control, {}).update(reasons)
        for each in left_out(store, planned[0].places, planned[0].targets):
            missing[each["target"], each["place"]] = each
    first = worked[0][0][0]
    notes = {
        "splits": list(first.seeds),
        "estimators": list(dict.fromkeys(frame["estimator"])),
        "controls": {name: ladder.CONTROLS[name] for name in first.controls},
        "why_not": {name: _reason(found, swept) for name, found in why_not.items()},
        "left_out": list(missing.values()),
        "left_out_rule": f"fewer than {MIN_ROWS} rows, or a single label",
        "store": store.name,
        "config_hash": store.meta["config_hash"],
    }
    return Sweep(frame, notes)


def _table(planned: list[Unit], results: list[dict[str, Any]]) -> pd.DataFrame | None:
    """The cells of one planned sweep with the controls that no address is needed for; None without any cell."""
    by_address = [row for unit, each in zip(planned, results, strict=True) if unit.address for row in each["rows"]]
    shared = [row for unit, each in zip(planned, results, strict=True) if not unit.address for row in each["rows"]]
    if not by_address:
        return None
    frame = pd.DataFrame(by_address)
    if shared:
        frame = frame.merge(pd.DataFrame(shared), on=["target", "place"], how="left")
    for control in planned[0].controls:
        if control not in frame:
            frame[control] = float("nan")
    order = {place: number for number, place in enumerate(planned[0].places)}
    return frame.sort_values("place", key=lambda column: column.map(order), kind="stable")


def _reason(found: dict[str, str], swept: set[str]) -> str:
    """Why a control is missing, with the places where it is unless that is all of them."""
    reasons: dict[str, list[str]] = {}
    for place, why in found.items():
        if place in swept:
            reasons.setdefault(why, []).append(place)
    return "; ".join(
        why if set(places) == swept else f"{why} (at {', '.join(places)})" for why, places in reasons.items()
    )
