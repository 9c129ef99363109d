"""The figures that this project is held to: every one of a group, with its target and verdict."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

from interp.errors import unknown

_OPS = {">=": lambda value, target: value >= target, "<=": lambda value, target: value <= target}


def table() -> dict[str, dict[str, dict[str, Any]]]:
    """Group -> id -> {op, target, says}, from `benchmarks/measures.toml`."""
    return tomllib.loads((files("benchmarks") / "measures.toml").read_text())


def meets(rule: dict[str, Any], value: float) -> bool:
    """Whether a value does what a measure's `op` and `target` ask."""
    return bool(_OPS[rule["op"]](value, rule["target"]))


def report(group: str, taken: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Every measure of `group` in order. `taken` maps ids to what was measured (`value`, and `ci`, `n`, `note`, …).

    A measure that is not in `taken` is listed with value null and a note that says so. Raises `UsageError` on
    ids that the group does not have.
    """
    wanted = table()[group]
    for name in taken:
        if name not in wanted:
            raise unknown(f"measure of group {group}", name, wanted)
    rows = []
    for name, rule in wanted.items():
        row: dict[str, Any] = {
            "value": None,
            "ci": None,
            "n": None,
            "unit": "",
            "peer": None,
            "peer_version": None,
            "note": "",
        }
        row |= taken.get(name, {"note": "not measured in this run"})
        value = row["value"]
        met = None if value is None else meets(rule, value)
        rows.append({"id": name, **row, "op": rule["op"], "target": rule["target"], "met": met, "says": rule["says"]})
    return rows
