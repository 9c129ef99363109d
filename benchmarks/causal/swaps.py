"""Swaps in `bench causal`: interchange, content or compute, used maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from benchmarks.causal.run import SEED, Run, above_chance, worst
from interp.statistics.intervals import grouped_mean_interval

# Organisms whose continuous thoughts encode one step's value each. graph-coconut-breadth is measured but does not count
# towards the worst case: it was trained to encode the whole frontier, so donors of one node differ in the others.
CONTINUOUS = (
    "chain-coconut",
    "chain-coconut-hard",
    "graph-coconut",
    "concealed-trigger-coconut",
    "variables-coconut",
    "chain31-coconut",
)
BESIDE = ("graph-coconut-breadth",)
CONTENT = {
    "chain-coconut": "content",
    "chain-coconut-hard": "content",
    "graph-coconut": "content",
    "concealed-trigger-coconut": "content",
    "variables-coconut": "content",
    "chain-text": "content",
    "maze-swapped": "compute",  # trained with other mazes' traces, so the content of its trace cannot help
}
MAPPED = ("chain3-thinking-tokens", "chain3-staged-pauses", "variables-coconut")
N_READ, N_SWAPPED, N_BATTERY, N_MAZE, N_FEW, N_MANY = 300, 400, 150, 60, 150, 900
SOLVED = 0.5  # least accuracy at a number of steps; below it too few right answers are left to swap


def interchange(run: Run) -> dict[str, dict[str, Any]]:
    """Measure how often the answer follows a donor, and the rates of the same-value and wrong-site controls.

    Donors are chosen by the problems' gold values. They are chosen again by what a probe reads at the thought; then the
    probe's errors count as well.
    """
    from interp import causal

    rows = []
    for label, name, seed, reasoner in run.each([*CONTINUOUS, *BESIDE]):
        n = run.size(N_READ, seed) + run.size(N_SWAPPED, seed)
        traces = reasoner.think(reasoner.task.generate(n, seed=SEED, split="test"), batch_size=256)
        fit, test = causal.structure_disjoint_split(traces, run.size(N_READ, seed))
        values, right = causal.read_values(reasoner, fit, test)
        result = causal.interchange(reasoner, test, seed=SEED)
        donors = causal.donors_for(reasoner, test, values=values, seed=SEED)
        edits = ("other value", "same value")
        by_reading = causal.interchange(reasoner, test, edits=edits, values=values, donors=donors, seed=SEED)
        wrong = [above_chance(result.table(), edit) for edit in ("wrong site", "wrong step")]
        rows.append(
            {
                "organism": label,
                "name": name,
                "answers right": traces.accuracy,
                "read": right,
                "donors": result.donors,
                "follow": result.rate("other value").measure_or_none(),
                "same value changed": result.rate("same value", "changed").measure_or_none(),
                "follow, by reading": by_reading.rate("other value").measure_or_none(),
                "same value changed, by reading": by_reading.rate("same value", "changed").measure_or_none(),
                "wrong site above chance": wrong[0],
                "wrong step above chance": wrong[1],
                "random vector follows": result.rate("random vector").measure_or_none(),
                "contract": {name: figure.measure_or_none() for name, figure in result.contract().items()},
                "verdict": result.verdict().name,
            }
        )
    run.tables["interchange"] = pd.DataFrame(rows)
    counted = [row for row in rows if row["name"] in CONTINUOUS]
    if not counted:
        return {}
    note = "problems answered right; those of further training seeds on half the sample"
    read = [(row["follow, by reading"]["value"], row["same value changed, by reading"]["value"]) for row in counted]
    follow_rates, change_rates = ([x for x in rates if x is not None] for rates in zip(*read, strict=True))
    follow_note = f"; by what a probe reads at worst {min(follow_rates):.3f}" if follow_rates else ""
    same_note = f"; by what a probe reads at worst {max(change_rates):.3f}" if change_rates else ""
    sites = [(row, row[key]) for row in counted for key in ("wrong site above chance", "wrong step above chance")]
    return {
        "causal.follow_min": worst([(row, row["follow"]) for row in counted], min, note + follow_note),
        "causal.same_value_max": worst([(row, row["same value changed"]) for row in counted], max, note + same_note),
        "causal.wrong_site_max": worst(sites, max, note + "; the worse of wrong site and wrong step"),
    }


def content(run: Run) -> dict[str, dict[str, Any]]:
    """Compare each organism's content-or-compute verdict with what it was built for."""
    from interp import causal

    rows = []
    for label, name, seed, reasoner in run.each(tuple(CONTENT)):
        n = run.size(N_MAZE if name.startswith("maze") else N_BATTERY, seed)
        problems = reasoner.task.generate(n, seed=SEED + 1, split="test")
        battery = causal.ablate(reasoner, problems, arms=causal.NEEDED, seed=SEED)
        verdict = causal.content_or_compute(battery)
        rows.append({"organism": label, "built for": CONTENT[name], **verdict.to_dict()})
    run.tables["content or compute"] = pd.DataFrame(rows)
    right = [row["verdict"] == row["built for"] for row in rows]
    built = sorted({row["built for"] for row in rows})
    note = f"built for {' and '.join(built)}: " + ", ".join(row["organism"] for row in rows)
    if "compute" not in built or "content" not in built:
        return {"causal.content_verdicts_right": {"value": None, "note": f"both kinds are needed; {note}"}}
    return {"causal.content_verdicts_right": {"value": float(np.mean(right)), "n": len(right), "note": note}}


def used(run: Run) -> dict[str, dict[str, Any]]:
    """Compare verdicts of few swaps with exhaustive ones, over the cells whose value can be read or is used."""
    from interp import causal

    frames = []
    for label, _, seed, reasoner in run.each(MAPPED):
        accuracy = reasoner.think(
            reasoner.task.generate(run.size(300, seed), seed=SEED + 2, split="test"), batch_size=256
        )
        right = accuracy.table().groupby("n_steps")["correct"].mean()
        solved = right[right >= SOLVED].index
        many = run.size(N_MANY // 3 if reasoner.config.thoughts_per_step > 1 else N_MANY, seed)
        few_problems = reasoner.task.generate(run.size(N_FEW), seed=SEED + 3, split="test")
        many_problems = reasoner.task.generate(many, seed=SEED + 4, split="test")
        few = causal.used_map(causal.swap_each_thought(reasoner, few_problems, seed=SEED))
        exhaustive = causal.used_map(causal.swap_each_thought(reasoner, many_problems, seed=SEED + 1))
        read = causal.readable_map(reasoner, reasoner.task.generate(run.size(400, seed), seed=SEED + 5, split="test"))
        keys = ["n_steps", "step", "thought"]
        cells = few.merge(exhaustive, on=keys, suffixes=("", "_exhaustive")).merge(
            read, on=keys, suffixes=("", "_read")
        )
        cells = cells[cells["n_steps"].isin(solved)]
        truth = np.where(cells["follow_exhaustive"] > causal.THRESHOLD, "used", "unused")
        frames.append(cells.assign(organism=label, truth=truth, agrees=cells["verdict"] == truth))
        if len(solved) < len(right):
            left_out = sorted(set(right.index) - set(solved))
            run.notes.append(f"{label}: problems of {left_out} steps are left out, it answers too few of them")
    if not frames:
        return {}
    table = pd.concat(frames, ignore_index=True)
    run.tables["used maps"] = table
    counted = table[table["readable"] | (table["truth"] == "used") | (table["verdict"] == "used")]
    unused = int((counted["truth"] == "unused").sum())
    note = (
        f"{len(counted)} cells that can be read or are used ({unused} of them readable and unused), of "
        f"{', '.join(table['organism'].unique())}; {run.size(N_FEW)} problems against an exhaustive "
        f"{run.size(N_MANY)} (a third of that with five thoughts a step, half with further training seeds); undecided counts against"
    )
    low, high = grouped_mean_interval(counted["agrees"].to_numpy(float), np.arange(len(counted)).astype(str))
    value = float(counted["agrees"].mean())
    return {"causal.used_map_agreement": {"value": value, "ci": [low, high], "n": len(counted), "note": note}}
