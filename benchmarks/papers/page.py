"""The papers' table as a page of Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.shown import cell, table_row


def page(result: dict[str, Any]) -> str:
    """The whole page: the measures with their targets, then each system with its tables and the paper's figures."""
    parts = [
        "# Nine systems, measured again on small models with known ground truth",
        "Written by `cotlens bench papers`. Ours are models of about a million parameters on generated tasks, so "
        "the papers' figures stand beside them for the shape of the finding, never as a target.",
        markdown([table_row(row) | {"measure": f"`{row['id']}`"} for row in result["measures"]]),
    ]
    for said in result["systems"].values():
        parts.append(_system(said))
    return "\n\n".join(part for part in parts if part) + "\n"


def _system(said: dict[str, Any]) -> str:
    if "title" not in said:
        return ""
    parts = [f"## {said['title']}"]
    for caption, records in said["tables"].items():
        parts += [f"**{caption}**", markdown(records)]
    if said["notes"]:
        parts.append("\n".join(f"- {note}" for note in said["notes"]))
    if said["paper"]:
        parts += ["What the paper reports:", markdown(said["paper"])]
    return "\n\n".join(parts)


def markdown(records: list[dict[str, Any]]) -> str:
    """Records as a Markdown table, numbers with three decimals."""
    if not records:
        return "(nothing)"
    names = list(records[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "|".join("---" for _ in names) + "|"]
    lines += ["| " + " | ".join(cell(record.get(name)) for name in names) + " |" for record in records]
    return "\n".join(lines)
