"""The table of every figure that this project is held to, with targets and verdicts."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from interp.statistics.measures import measure_rows, meets

__all__ = ["bench_report", "bench_rules", "meets", "report", "table"]

#: The group `scale` is spread over benches; the demo prints what is not here.
_SCALE = {
    "capture": ("scale.capture_memory", "scale.capture_disk"),
    "probes": ("scale.sweep_over_tuned", "scale.solver_over_floor"),
    "sae": ("scale.sae_over_best",),
    "store": ("scale.store_rss_mb",),
}


def table() -> dict[str, dict[str, dict[str, Any]]]:
    """Return `benchmarks/measures.toml`: group, then measure id, then its op, target and says."""
    return tomllib.loads(Path(__file__).with_name("measures.toml").read_text(encoding="utf-8"))


def report(group: str, measured: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for every measure of a group, in the order of the table.

    Args:
        group: A group of the table, such as "capture".
        measured: Measure id to what was measured (`value`, and `ci`, `n`, `note`, …).

    Returns:
        Rows as `interp.statistics.measures.measure_rows` makes them. A measure that was not taken has value None.

    Raises:
        UsageError: `measured` holds an id that the group does not have.
    """
    return measure_rows(group, table()[group], measured)


def bench_rules(bench: str) -> dict[str, dict[str, Any]]:
    """Return the measures that a bench prints: those of its own group, then its share of the group `scale`.

    Args:
        bench: A group of the table that one bench takes, such as "capture".

    Returns:
        Measure id to its op, target and says.
    """
    rules = table()
    return rules[bench] | {name: rules["scale"][name] for name in _SCALE.get(bench, ())}


def bench_report(bench: str, measured: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for every measure that a bench prints, as `report` does for a group.

    Args:
        bench: A group of the table that one bench takes.
        measured: Measure id to what was measured.

    Raises:
        UsageError: `measured` holds an id that the bench does not print.
    """
    return measure_rows(bench, bench_rules(bench), measured)
