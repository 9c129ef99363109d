"""Measures as table rows: value, interval, target and verdict, other training seeds, and notes."""

from __future__ import annotations

from typing import Any

from benchmarks.measures import meets

_VERDICTS = {True: "met", False: "short", None: "not measured"}


def table_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a measure under the headings of a table.

    Args:
        row: A row of `benchmarks.measures.report`.
    """
    return {
        "measure": row["id"],
        "what": row["says"],
        "value": row["value"],
        "95 %": row["ci"],
        "target": f"{row['op']} {row['target']:g}",
        "": _VERDICTS[row["met"]],
        "other seeds": other_seeds(row) or None,
        "beside it": row["note"] or None,
    }


def other_seeds(row: dict[str, Any]) -> str:
    """Return a measure's values at the training seeds that are not shipped, and which of them miss its target."""
    values = (row.get("other_seeds") or {}).values()
    return ", ".join(cell(value) + ("" if meets(row, value) else " (short)") for value in values)


def peer_of(row: dict[str, Any]) -> str:
    """Return the name and version of the program that a measure is compared with; empty where there is none."""
    return f"{row['peer']} {row['peer_version'] or ''}".strip() if row["peer"] else ""


def cell(value: Any) -> str:
    """Return a value as the text of a table cell.

    Numbers have three decimals, small ones two digits; None is a dash.
    """
    if value is None:
        return "–"
    if isinstance(value, float):
        if 0 < abs(value) < 5e-4:
            return f"{value:.1e}"
        return f"{value:.3f}".rstrip("0").rstrip(".") if value else "0"
    if isinstance(value, list):
        return "[" + ", ".join(cell(item) for item in value) + "]"
    return str(value).replace("|", "\\|").replace("\n", " ")
