"""Measures as people read them: value, interval, target and verdict, other training seeds, and what stands beside it."""

from __future__ import annotations

from typing import Any

from benchmarks.measures import meets

VERDICTS = {True: "met", False: "short", None: "not measured"}


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """One measure, as `benchmarks.measures.report` gives it, under the headings that tables have."""
    return {
        "measure": row["id"],
        "what": row["says"],
        "value": row["value"],
        "95 %": row["ci"],
        "target": f"{row['op']} {row['target']:g}",
        "": VERDICTS[row["met"]],
        "other seeds": other_seeds(row) or None,
        "beside it": row["note"] or None,
    }


def other_seeds(row: dict[str, Any]) -> str:
    """A measure's values at the training seeds that do not ship, and which of them fall short of its target."""
    values = (row.get("other_seeds") or {}).values()
    return ", ".join(cell(value) + ("" if meets(row, value) else " (short)") for value in values)


def peer_of(row: dict[str, Any]) -> str:
    """What a measure was taken beside, with its version."""
    return f"{row['peer']} {row['peer_version'] or ''}".strip() if row["peer"] else ""


def cell(value: Any) -> str:
    """What a cell of a table says: numbers with three decimals, small ones with two digits, nothing as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        if 0 < abs(value) < 5e-4:
            return f"{value:.1e}"
        return f"{value:.3f}".rstrip("0").rstrip(".") if value else "0"
    if isinstance(value, list):
        return "[" + ", ".join(cell(each) for each in value) + "]"
    return str(value).replace("|", "\\|").replace("\n", " ")
