"""Parts of a bench: one can be taken alone, and what was kept of the others stays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness import HEADER, keep, kept_result
from benchmarks.measures import bench_report, bench_rules
from interp.errors import unknown
from interp.runtime.console import jsonable
from interp.statistics.measures import NOT_MEASURED

Measures = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class PartResult:
    """What a part of a bench measured.

    Attributes:
        measures: Measure id to what was measured.
        more: Further entries of the kept result.
    """

    measures: Measures
    more: dict[str, Any] = field(default_factory=dict)


def run_parts(name: str, parts: Mapping[str, Callable[[], PartResult]], chosen: Sequence[str] = ()) -> dict[str, Any]:
    """Run the parts of a bench, and keep the result after each, so that one that fails loses nothing of the others.

    Args:
        name: Name of the bench.
        parts: Name of each part to the function that takes it.
        chosen: Names of parts; all by default, and then nothing that was kept before stays.

    Returns:
        The kept result, as `cotlens bench --json` prints it.

    Raises:
        UsageError: A part is unknown.
    """
    check_parts(chosen, parts)
    before = kept_result(name) if chosen else {}
    measures = kept_measures(name, before)
    more = {key: value for key, value in before.items() if key not in HEADER}
    result: dict[str, Any] = {}
    for part in chosen or parts:
        taken = parts[part]()
        measures |= taken.measures
        more |= taken.more
        result = keep(name, jsonable(bench_report(name, measures)), **jsonable(more))
    return result


def check_parts(chosen: Sequence[str], known: Collection[str]) -> None:
    """Raise `UsageError` for a part that a bench does not have.

    Args:
        chosen: Names of parts.
        known: The parts of the bench.
    """
    for part in chosen:
        if part not in known:
            raise unknown("part of this bench", part, list(known))


def kept_measures(name: str, kept: Mapping[str, Any]) -> Measures:
    """Return what was measured before, by measure id, and notes that say why a measure could not be taken.

    Args:
        name: Name of the bench.
        kept: Its kept result; empty where there is none.
    """
    rules = bench_rules(name)
    described = {key for rule in rules.values() for key in rule} | {"id", "met"}
    return {
        row["id"]: {key: value for key, value in row.items() if key not in described}
        for row in kept.get("measures", [])
        if row["id"] in rules and (row["value"] is not None or row["note"] != NOT_MEASURED)
    }
