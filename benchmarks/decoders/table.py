"""The README's table of all decoders, from what `cotlens bench decoders` kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def decoder_table(organisms: Sequence[dict[str, Any]]) -> str:
    """One row for each decoder, one column for each organism of seed 0: its worst step, with what it is above.

    `organisms` are the results that the bench kept, one for each organism and training seed.
    """
    shown = [each for each in organisms if each["seed"] == 0 and "error" not in each]
    methods = list(dict.fromkeys(row["method"] for each in shown for row in each["scores"]))
    names = " | ".join(f"`{each['organism']}`" for each in shown)
    lines = [f"| decoder | {names} | largest ECE | answer follows | fit |", f"|---|{'---|' * len(shown)}---|---|---|"]
    for method in methods:
        cells = " | ".join(_cell(each, method) for each in shown)
        lines.append(
            f"| {method.replace('_', ' ')} | {cells} | {_ece(shown, method)} | {_cause(shown, method)} | {_fit(shown, method)} |"
        )
    return "\n".join(lines)


def _cell(each: dict[str, Any], method: str) -> str:
    steps = [row for row in each["scores"] if row["method"] == method and row["step"] > 0]
    if not steps:
        return "–"
    worst = min(steps, key=lambda row: row["top1"])
    beside = max(worst["question_only"], worst["other_problem"])
    return f"**{worst['top1']:.3f}** ({beside:.2f})"


def _ece(shown: Sequence[dict[str, Any]], method: str) -> str:
    found = [row["ece"] for each in shown for row in each["scores"] if row["method"] == method and row["step"] == 0]
    return f"{max(found):.3f}" if found else "–"


def _cause(shown: Sequence[dict[str, Any]], method: str) -> str:
    rows = [row["follow_rate"] for each in shown for row in each["causal"] if row["method"] == method]
    found = [rate for rate in rows if rate is not None]
    return f"{min(found):.2f}–{max(found):.2f}" if found else "–"


def _fit(shown: Sequence[dict[str, Any]], method: str) -> str:
    found = [row["fit_seconds"] for each in shown for row in each["costs"] if row["method"] == method]
    return f"{max(found):.1f} s" if found else "–"
