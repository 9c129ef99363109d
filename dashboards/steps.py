"""The one source of what a run says of its steps: the probe where it was validated, and its controls at those rows.

A location is chosen on validation problems (`interp.decoders.locations`), the score is on held-out problems, and every
control is measured at the very rows that were read. The demo, the report, the dashboard and the JSON take their figures
from here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dashboards.headline import MIN_STRUCTURES
from interp.decoders.evaluation.read_outs import ReadOuts
from interp.errors import UsageError
from interp.statistics.intervals import matches_p_value, q_values
from probes.sweeps.at_rows import controls_at, rival_controls
from probes.sweeps.controls import description

if TYPE_CHECKING:
    from interp.activations import ActivationSource

READER = "probe"
# Controls take a fit each, so in long problems they are measured where the reading is worst.
MAX_CONTROLLED = 12


@dataclass(frozen=True)
class StepFigures:
    """What a run says of its steps.

    Attributes:
        steps: One entry for each step, as `run.json` keeps them.
        notes: `controls` (what each one is), `why_not` (why one is missing) and `splits`.
    """

    steps: list[dict[str, Any]]
    notes: dict[str, Any]


def step_figures(
    readouts: Sequence[ReadOuts], scores: pd.DataFrame, twin: ActivationSource | None = None
) -> StepFigures:
    """Return the figures of every step that the probe reads.

    Args:
        readouts: Read-outs with the method `probe`, one entry for each split.
        scores: Their held-out scores (`interp.decoders.evaluation.read_outs.pooled_scores`).
        twin: Activations of an untrained twin, for the control `random_init`.

    Returns:
        For each step: `where` and `address` (in the first split), `position` (the place, where it is the same in all
        traces), `probe_top1` with `ci` and `n`, `chance`, `q`, the controls, and the score, interval and location of
        every other decoder.
    """
    by_method = {str(method): part.set_index("step") for method, part in scores.groupby("method", sort=False)}
    probe = by_method.pop(READER)
    controlled = set(_most_in_need(probe))
    steps, p_values = [], []
    why_not: dict[str, set[str]] = {}
    for step in sorted(int(step) for step in probe.index):
        row = probe.loc[step]
        entry = {"step": step, **_location(readouts, step), "probe_top1": row["top1"]}
        entry |= {"ci": [row["ci_low"], row["ci_high"]], "n": int(row["n"]), "chance": row["chance"]}
        entry["other_problem"] = row["other_problem"]
        if step in controlled:
            controls, reasons = _controls(readouts, step, twin)
            entry |= controls
            for name, reason in reasons.items():
                why_not.setdefault(name, set()).add(reason)
        p_values.append(_p_value(readouts, step))
        for method, of_method in by_method.items():
            if step in of_method.index:
                other = of_method.loc[step]
                entry |= {f"{method}_top1": other["top1"], f"{method}_ci": [other["ci_low"], other["ci_high"]]}
                entry[f"{method}_where"] = other["site"]
        steps.append(entry)
    for entry, q in zip(steps, q_values(np.array(p_values)), strict=True):
        entry["q"] = float(q)
    names = ["other_problem", *rival_controls()]
    notes = {
        "controls": {name: description(name) for name in names},
        "why_not": {name: "; ".join(sorted(reasons)) for name, reasons in why_not.items()},
        "splits": [read.seed for read in readouts],
    }
    if len(controlled) < len(steps):
        notes["controlled"] = f"controls are measured at the {len(controlled)} steps that are read worst"
    return StepFigures(steps, notes)


def _most_in_need(probe: pd.DataFrame) -> list[int]:
    """Return the steps that controls are measured at: those that are read worst, of enough problems first."""
    order = probe.assign(few=probe["n"] < MIN_STRUCTURES).sort_values(["few", "top1"], kind="stable")
    return [int(step) for step in order.index[:MAX_CONTROLLED]]


def _location(readouts: Sequence[ReadOuts], step: int) -> dict[str, Any]:
    """Return where a step is read: in words for all splits, and as address and place in the first."""
    locations = [read.at(READER, step).location for read in readouts]
    counts = Counter(location.label for location in locations)
    words = next(iter(counts))
    if len(counts) > 1:
        words = "; ".join(f"{label} (in {n} of {len(locations)} splits)" for label, n in counts.items())
    first = readouts[0].inputs.step_rows(locations[0].offset)
    places = set(first.rows.loc[first.steps == step, "place"])
    position = places.pop() if len(places) == 1 else locations[0].label.rpartition(", ")[2]
    address = locations[0].address
    return {"where": words, "position": position, "layer": address.label, "address": address.name}


def _controls(
    readouts: Sequence[ReadOuts], step: int, twin: ActivationSource | None
) -> tuple[dict[str, float], dict[str, str]]:
    """Return each control's held-out accuracy, averaged over the splits, and why others are missing."""
    values: dict[str, list[float]] = {}
    why_not: dict[str, str] = {}
    for read in readouts:
        location = read.at(READER, step).location
        rows = read.inputs.step_rows(location.offset)
        of_step = rows.select(rows.steps == step)
        try:
            split = of_step.split()
        except UsageError as error:
            return {}, dict.fromkeys(rival_controls(), str(error))
        accuracies, reasons = controls_at(
            read.store, location.address, of_step.rows, of_step.values, split, seed=read.seed, twin=twin
        )
        for name, accuracy in accuracies.items():
            values.setdefault(name, []).append(accuracy)
        why_not |= reasons
    return {name: float(np.mean(measured)) for name, measured in values.items()}, why_not


def _p_value(readouts: Sequence[ReadOuts], step: int) -> float:
    """Return the p-value of a step's held-out readings, each problem structure counted once."""
    tables = [read.of(READER) for read in readouts]
    test = pd.concat([table[(table["step"] == step) & (table["split"] == "test")] for table in tables])
    once = test.drop_duplicates("structure")
    return matches_p_value(once["text"].to_numpy(str), once["gold"].to_numpy(str))
