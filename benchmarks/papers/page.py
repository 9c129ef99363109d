"""The papers' table as a page of Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.shown import cell, table_row


def page(result: dict[str, Any]) -> str:
    """Return the page: measures with their targets, then each system with its tables and the paper's figures."""
    parts = [
        "# Nine systems, measured again on small models with known ground truth",
        "Written by `cotlens bench papers`. Our models have about a million parameters and solve generated tasks. "
        "The papers' figures beside them show whether the finding is the same; they are not targets.",
        markdown([table_row(row) | {"measure": f"`{row['id']}`"} for row in result["measures"]]),
    ]
    for section in result["systems"].values():
        parts.append(_system(section))
    return "\n\n".join(part for part in parts if part) + "\n"


def _system(section: dict[str, Any]) -> str:
    """Return one system's part of the page, or nothing where it was not measured."""
    if "title" not in section:
        return ""
    parts = [f"## {section['title']}"]
    for caption, records in section["tables"].items():
        parts += [f"**{caption}**", markdown(records)]
    if section["notes"]:
        parts.append("\n".join(f"- {note}" for note in section["notes"]))
    if section["paper"]:
        parts += ["What the paper reports:", markdown(section["paper"])]
    return "\n\n".join(parts)


def markdown(records: list[dict[str, Any]]) -> str:
    """Return records as a Markdown table, numbers with three decimals."""
    if not records:
        return "(nothing)"
    names = list(records[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "|".join("---" for _ in names) + "|"]
    lines += ["| " + " | ".join(cell(record.get(name)) for name in names) + " |" for record in records]
    return "\n".join(lines)
