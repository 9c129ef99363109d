"""The papers' table as a page of Markdown."""

from __future__ import annotations

from typing import Any

from interp.measures import meets


def page(result: dict[str, Any]) -> str:
    """The whole page: the measures with their targets, then each system with its tables and the paper's figures."""
    parts = [
        "# Nine systems, measured again on small models with known ground truth",
        "Written by `cotlens bench papers`. Ours are models of about a million parameters on generated tasks, so "
        "the papers' figures stand beside them for the shape of the finding, never as a target.",
        _measures(result["measures"]),
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


def _measures(rows: list[dict[str, Any]]) -> str:
    out = []
    for row in rows:
        verdict = {True: "met", False: "short", None: "not measured"}[row["met"]]
        out.append(
            {
                "measure": f"`{row['id']}`",
                "what": row["says"],
                "value": row["value"],
                "95 %": row["ci"],
                "target": f"{row['op']} {row['target']}",
                "": verdict,
                "other seeds": other_seeds(row) or None,
                "beside it": row["note"] or None,
            }
        )
    return markdown(out)


def other_seeds(row: dict[str, Any]) -> str:
    """A measure's values at the training seeds that do not ship, and which of them fall short of its target."""
    values = (row.get("other_seeds") or {}).values()
    return ", ".join(_cell(value) + ("" if meets(row, value) else " (short)") for value in values)


def markdown(records: list[dict[str, Any]]) -> str:
    """Records as a Markdown table, numbers with three decimals."""
    if not records:
        return "(nothing)"
    names = list(records[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "|".join("---" for _ in names) + "|"]
    lines += ["| " + " | ".join(_cell(record.get(name)) for name in names) + " |" for record in records]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".") if value else "0"
    if isinstance(value, list):
        return "[" + ", ".join(_cell(each) for each in value) + "]"
    return str(value).replace("|", "\\|").replace("\n", " ")
