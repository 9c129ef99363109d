"""The headline of a run: three figures, each with where it was measured, what stands beside it, and what beats it.

The demo, the report, the home page and the JSON print this and nothing else. A control that reads a step at least as
well as the thought is said in the sentence of the figure.
"""

from __future__ import annotations

import re
from typing import Any

from interp.runtime import palette

# A step that fewer held-out problems reach is no headline.
MIN_STRUCTURES = 10
# Controls that predict the same labels as the reading, so that they can beat it.
RIVALS = (
    *("question_only", "before_thinking", "other_problem", "text_only", "random_init", "position_only"),
    *("shuffled_labels", "majority", "chance"),
)
# Those that stand beside every reading.
_BESIDE = ("question_only", "before_thinking", "other_problem", "text_only", "random_init")


def headline(info: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the three figures of a run.

    Args:
        info: The content of `run.json`.

    Returns:
        `answers`, `read` and `used`. Each has `what`, `value`, `ci`, `n`, `unit`, `where`, `beside` (value by name),
        `beaten_by` (the controls that are at least as good) and `note` (a sentence, or why there is no figure).
    """
    return {"answers": _answers(info), "read": _read(info), "used": _used(info)}


def _figure(what: str, **fields: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"value": None, "ci": None, "n": None, "unit": "", "where": ""}
    return {"what": what, **empty, "beside": {}, "beaten_by": {}, "note": "", **fields}


def location_in_words(label: str) -> str:
    """Return a location as a sentence names it: tables and axes call the input of block 0 `in 0`.

    Args:
        label: Such as `in 0, thought k-1`: k is the step that is read.
    """
    words = re.sub(r"\b(in|out) (\d+)(?=,|;|$)", lambda found: f"{found[1]}put of block {found[2]}", label)
    positions = {"": "at the thought of the step", "-1": "one position before the thought of the step"}
    positions["+1"] = "one position after the thought of the step"
    return re.sub(
        r"\bthought k([+-]\d+)?(?= \(|;|$)",
        lambda found: positions.get(found[1] or "", f"{found[1]} positions from the thought of the step"),
        words,
    )


def _answers(info: dict[str, Any]) -> dict[str, Any]:
    beside = {"chance": info["chance"]}
    for other in info["comparisons"]:
        if other["kind"] in ("direct", "pause"):
            beside[other["organism"]] = other["accuracy"]
    beaten = {"chance": info["chance"]} if info["chance"] is not None and info["accuracy"] <= info["chance"] else {}
    return _figure(
        "answers right",
        value=info["accuracy"],
        ci=info["ci"],
        n=info["n_problems"],
        unit="problems",
        beside=beside,
        beaten_by=beaten,
        note=info.get("warning") or (f"no better than chance ({info['chance']:.3f})" if beaten else ""),
    )


def _read(info: dict[str, Any]) -> dict[str, Any]:
    what = "thoughts read right, worst step"
    steps = [step for step in info["steps"] if step["n"] >= MIN_STRUCTURES] or info["steps"]
    if not steps:
        return _answer_reading(info)
    if info.get("steps_from") == "sweep":
        what = "values of steps read before the answer, worst step"
    worst = min(steps, key=lambda step: step["probe_top1"])
    beaten: dict[str, float] = {}
    at: dict[str, dict[str, Any]] = {}
    for step in sorted(steps, key=lambda step: step["probe_top1"]):
        for control in winning_controls(step):
            if control not in beaten:
                beaten[control], at[control] = step[control], step
    note = ""
    if beaten:
        strongest = max(beaten, key=lambda control: beaten[control] - at[control]["probe_top1"])
        step = at[strongest]
        note = _no_better(
            beaten, strongest, f"at step {step['step']}, where the thought gives {step['probe_top1']:.3f}"
        )
    where = f"step {worst['step']}, linear probe, {reading_location(worst)}"
    return _reading(what, worst, where=where, beaten_by=beaten, note=note)


def _reading(what: str, entry: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return the figure of what a probe reads, from an entry of `run.json` with its controls."""
    beside = {name: entry[name] for name in _BESIDE if entry.get(name) is not None}
    value, ci, n = entry["probe_top1"], entry["ci"], entry["n"]
    return _figure(what, value=value, ci=ci, n=n, unit="problem structures", beside=beside, **fields)


def _no_better(beaten: dict[str, float], strongest: str, where: str) -> str:
    """Return the sentence that names the control that beats a reading by most, and how many others do."""
    others = f" ({len(beaten) - 1} more are no worse)" if len(beaten) > 1 else ""
    return f"no better than a control: {palette.label(strongest)} gives {beaten[strongest]:.3f} {where}{others}"


def winning_controls(step: dict[str, Any]) -> list[str]:
    """Return the controls of a step's entry that read it at least as well as the thought does, best first."""
    values = {name: step[name] for name in RIVALS if step.get(name) is not None}
    winners = [name for name, value in values.items() if value >= step["probe_top1"]]
    return sorted(winners, key=lambda name: -values[name])


def reading_location(step: dict[str, Any]) -> str:
    """Return where a step's entry was read; runs of version 0.1 name the place and the layer."""
    return str(step.get("where") or f"{step['layer']}, {step['position']}")


def _answer_reading(info: dict[str, Any]) -> dict[str, Any]:
    """Return the figure of a run without steps: the answer, read before it is written."""
    reading = info.get("answer_reading")
    if reading is None:
        return _figure("thoughts read right, worst step", note=why_skipped(info, "decoders", "probe sweep"))
    beaten = {name: reading[name] for name in winning_controls(reading)}
    strongest = next(iter(beaten), "")
    return _reading(
        "answer read before it is written",
        reading,
        where=f"linear probe, {reading['where']}",
        beaten_by=beaten,
        note=_no_better(beaten, strongest, f"where the thoughts give {reading['probe_top1']:.3f}") if beaten else "",
    )


def _used(info: dict[str, Any]) -> dict[str, Any]:
    what = "edited thoughts change the answer as predicted"
    edits = info["interchange"]
    if edits and edits.get("follow_rate") is not None:
        beside = {
            "a donor with the same value changes": edits.get("same_value_change_rate"),
            "a random vector changes": edits.get("random_change_rate"),
        }
        return _figure(
            what,
            value=edits["follow_rate"],
            ci=edits["ci"],
            n=edits["n"],
            unit="edits",
            where=edits["site"],
            beside={name: value for name, value in beside.items() if value is not None},
            note=f"{edits['verdict']}: {edits['why']}" if edits.get("verdict") else "",
        )
    ablated = info.get("ablation")
    if ablated:
        return _figure(
            "answers change when the thoughts are another problem's",
            value=ablated["changed"],
            ci=ablated["ci"],
            n=ablated["n"],
            unit="problems",
            where=ablated["site"],
            beside={"its own thoughts, put back, change": ablated["own_changed"]},
            note=f"no edit of single steps: {why_skipped(info, 'interchange')}",
        )
    return _figure(what, note=why_skipped(info, "interchange", "ablation"))


def why_skipped(info: dict[str, Any], *stages: str) -> str:
    """Return why the first of these stages that was skipped could not be done."""
    reasons = {entry["stage"]: entry["why"] for entry in info.get("skipped", [])}
    return next((reasons[stage] for stage in stages if stage in reasons), "not measured in this run")


def sentence(figure: dict[str, Any]) -> str:
    """Return a figure in one line of plain text."""
    if figure["value"] is None:
        return f"not measured: {figure['note']}"
    text = f"{figure['value']:.3f} {interval(figure['ci'])} {figure['what']}".replace("  ", " ")
    if figure["where"]:
        text += f" ({location_in_words(figure['where'])})"
    beside = ", ".join(f"{palette.label(name)} {value:.3f}" for name, value in figure["beside"].items())
    return text + (f"; beside it: {beside}" if beside else "") + (f"; {figure['note']}" if figure["note"] else "")


def interval(pair: Any) -> str:
    """Return a 95 % interval in brackets, or an empty text."""
    return f"[{pair[0]:.3f}, {pair[1]:.3f}]" if pair and pair[0] is not None else ""
