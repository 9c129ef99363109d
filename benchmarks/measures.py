"""The table of every figure that this project is held to, with targets and verdicts."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from interp.statistics.measures import measure_rows, meets

__all__ = ["meets", "report", "table"]


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
