"""Measures: figures with a target, as the demo and the benches print them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from interp.errors import unknown

#: The note of a measure that nothing was said about.
NOT_MEASURED = "not measured in this run"
_RELATIONS: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda value, target: value >= target,
    "<=": lambda value, target: value <= target,
}


def meets(rule: Mapping[str, Any], value: float) -> bool:
    """Return whether `value` has the relation `op` to the `target` of a rule.

    Args:
        rule: A rule with `op` (">=" or "<=") and `target`.
        value: The measured value.

    Returns:
        Whether the rule holds.
    """
    return bool(_RELATIONS[rule["op"]](value, rule["target"]))


def measure_rows(
    group: str, rules: Mapping[str, Mapping[str, Any]], measured: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return one row for each measure of a group, in the order of its rules.

    Args:
        group: Name of the group, for messages.
        rules: Measure id to its `op` (">=" or "<="), `target` and `says` (what it measures).
        measured: Measure id to what was measured: `value`, and where they apply `ci`, `n`, `unit`, `peer`,
            `peer_version` and `note`.

    Returns:
        Rows with the keys id, value, ci, n, unit, peer, peer_version, note, op, target, met and says. The value of a
        measure that is missing in `measured` is None, and its note says so.

    Raises:
        UsageError: `measured` holds an id that the group does not have.
    """
    for name in measured:
        if name not in rules:
            raise unknown(f"measure of group {group}", name, list(rules))
    rows = []
    for name, rule in rules.items():
        row: dict[str, Any] = {
            "value": None,
            "ci": None,
            "n": None,
            "unit": "",
            "peer": None,
            "peer_version": None,
            "note": "",
        }
        row |= measured.get(name, {"note": NOT_MEASURED})
        met = None if row["value"] is None else meets(rule, row["value"])
        rows.append({"id": name, **row, "op": rule["op"], "target": rule["target"], "met": met, "says": rule["says"]})
    return rows
