"""The kept result of `cotlens bench faithfulness` as the tables of its page."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pandas as pd

LEVELS = ("chain", "step")
_HEADINGS = MappingProxyType({"text": "Thoughts in words", "latent": "Latents"})


def short_table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the table that is printed: both levels of a metric side by side.

    Args:
        rows: Kept rows, one for each organism, level and metric.
    """
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        key = row["organism"], row["metric"]
        line = lines.setdefault(key, {"organism": row["organism"], "metric": row["metric"], "source": row["source"]})
        line[row["level"]] = f"{row['auroc']['value']:.3f} {_interval(row['auroc']['ci'])}"
        line[f"{row['level']} lean"] = f"{row['lean']:+.2f}"
        decays = row["decay"] is not None and row["decay"] == row["decay"]
        line[f"{row['level']} decay"] = f"{row['decay']:+.2f}" if decays else "–"
        line["passes"] = f"{row['passes']:.1f}"
    columns = ["organism", "metric", "source"]
    columns += [f"{level}{part}" for level in LEVELS for part in ("", " lean", " decay")]
    return [{column: line.get(column, "–") for column in [*columns, "passes"]} for line in lines.values()]


def class_tables(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, str]]]:
    """Return for each level the AUROC of each truth class against all rows of the other truth, a line a metric."""
    return {
        level: [
            {
                "organism": row["organism"],
                "metric": row["metric"],
                **{name: f"{value:.2f}" for name, value in row["by_class"].items() if value is not None},
            }
            for row in rows
            if row["level"] == level
        ]
        for level in LEVELS
    }


def faithfulness_table(kept: Mapping[str, Any]) -> str:
    """Return the tables of `docs/faithfulness.md`.

    Args:
        kept: The kept result.
    """
    parts = []
    for name, group in kept["groups"].items():
        parts.append(f"### {_HEADINGS[name]}\n\n{lines_of(short_table(group['rows']))}")
        if name == "latent":
            parts.append(_silent_metrics(group["rows"], kept["without_meaning"]))
        for level, rows in class_tables(group["rows"]).items():
            parts.append(f"Each truth class against all rows of the other truth, {level} level:\n\n{lines_of(rows)}")
    return "\n\n".join(parts)


def _silent_metrics(rows: list[dict[str, Any]], without_meaning: Mapping[str, str]) -> str:
    """Return which metrics say nothing about latents, and on which organisms others do not."""
    organisms = list(dict.fromkeys(row["organism"] for row in rows))
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    scored = {(row["organism"], row["metric"]) for row in rows}
    lines = [f"- {metric}: no meaning here; {why}." for metric, why in without_meaning.items()]
    for metric in metrics:
        absent = [of for of in organisms if (of, metric) not in scored]
        if absent:
            lines.append(f"- {metric}: nothing to edit on {', '.join(absent)}, whose questions take no hint.")
    return "\n".join(lines)


def lines_of(rows: list[dict[str, Any]]) -> str:
    """Return rows as a Markdown table; a cell that a row does not have is a dash."""
    frame = pd.DataFrame(rows).astype(object)
    frame = frame.where(frame.notna(), "–")
    heads = [str(name) for name in frame.columns]
    lines = [heads, ["---"] * len(heads), *frame.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _interval(ci: list[float]) -> str:
    return f"[{ci[0]:.3f}, {ci[1]:.3f}]"
