"""The table of all decoders in docs/figures.md, from the kept result of `cotlens bench decoders`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def decoder_table(organisms: Sequence[dict[str, Any]]) -> str:
    """Return the table: one row for each decoder, one column for each organism of seed 0.

    A cell has the exact match of the worst step and, in parentheses, its strongest control.

    Args:
        organisms: The kept results, one for each organism and training seed.
    """
    shown = [result for result in organisms if result["seed"] == 0 and "error" not in result]
    methods = list(dict.fromkeys(row["method"] for result in shown for row in result["scores"]))
    names = " | ".join(f"`{result['organism']}`" for result in shown)
    lines = [f"| decoder | {names} | largest ECE | answer follows | fit |", f"|---|{'---|' * len(shown)}---|---|---|"]
    for method in methods:
        cells = " | ".join(_cell(result, method) for result in shown)
        lines.append(
            f"| {method.replace('_', ' ')} | {cells} | {_ece(shown, method)} | {_cause(shown, method)} | {_fit(shown, method)} |"
        )
    return "\n".join(lines)


def _cell(result: dict[str, Any], method: str) -> str:
    """Return the exact match of the worst step and its strongest control."""
    steps = [row for row in result["scores"] if row["method"] == method and row["step"] > 0]
    if not steps:
        return "–"
    worst = min(steps, key=lambda row: row["top1"])
    control = max(worst["question_only"], worst["other_problem"])
    return f"**{worst['top1']:.3f}** ({control:.2f})"


def _ece(shown: Sequence[dict[str, Any]], method: str) -> str:
    """Return the largest calibration error."""
    errors = [
        row["ece"] for result in shown for row in result["scores"] if row["method"] == method and row["step"] == 0
    ]
    return f"{max(errors):.3f}" if errors else "–"


def _cause(shown: Sequence[dict[str, Any]], method: str) -> str:
    """Return the range of follow rates."""
    measured = [row["follow_rate"] for result in shown for row in result["causal"] if row["method"] == method]
    rates = [rate for rate in measured if rate is not None]
    return f"{min(rates):.2f}–{max(rates):.2f}" if rates else "–"


def _fit(shown: Sequence[dict[str, Any]], method: str) -> str:
    """Return the longest fit."""
    seconds = [row["fit_seconds"] for result in shown for row in result["costs"] if row["method"] == method]
    return f"{max(seconds):.1f} s" if seconds else "–"
