"""Causal tests on the organisms: interchange, content or compute, used maps, steering and attribution graphs.

Sites and doses are chosen on other problems than those that are reported; all are held-out structures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.harness import keep
from benchmarks.papers.base import Organisms
from interp.console import Bars, plain
from interp.errors import CotlensError
from interp.measures import report
from interp.stats import grouped_mean_interval

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

SEED = 91
# Continuous thoughts that stand for one step's value each. graph-coconut-breadth is left out of the worst case and
# shown beside it: it was trained to hold the whole frontier, so donors of one node differ in the others.
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
    "maze-swapped": "compute",  # trained with another maze's trace, so what its trace says cannot help
}
MAPPED = ("chain3-thinking-tokens", "chain3-staged-pauses", "variables-coconut")
STEERED = ("chain-coconut", "concealed-trigger-coconut", "chain-coconut-hard")
TRACED = "chain-text"
N_READ, N_SWAPPED, N_BATTERY, N_MAZE, N_FEW, N_MANY, N_STEERED, N_TRACED = 300, 150, 150, 60, 150, 900, 500, 40
SOLVED = 0.5  # a number of steps that an organism does not solve has too few right answers to swap


def bench(bars: Bars, *, folder: Path | None = None, seed: int = 0, scale: float = 1.0) -> dict[str, Any]:
    """Every measure of group `causal`, its tables, and notes on what could not be measured.

    `scale` multiplies every sample size; anything but 1 is a trial, which is not kept.
    """
    run = _Run(Organisms(folder, seed), scale)
    taken: dict[str, dict[str, Any]] = {}
    parts: list[tuple[str, Callable[[], dict[str, dict[str, Any]]]]] = [
        ("interchange", run.interchange),
        ("content or compute", run.content),
        ("used maps", run.used),
        ("steering", run.steering),
        ("attribution graphs", run.graphs),
        ("commitment", run.commitment),
    ]
    for title, part in parts:
        with bars.stage(title):
            try:
                taken |= part()
            except CotlensError as error:
                run.notes.append(f"{title}: {error}")
    measures = report("causal", taken)
    tables = {name: table.to_dict("records") for name, table in run.tables.items()}
    more = plain({"seed": SEED, "organisms_seed": seed, "notes": run.notes, "tables": tables})
    if scale != 1 or folder is not None:
        return {"name": "causal", "measures": plain({"m": measures})["m"], **more}
    return keep("causal", plain({"m": measures})["m"], **more)


class _Run:
    def __init__(self, organisms: Organisms, scale: float) -> None:
        self.organisms, self.scale = organisms, scale
        self.tables: dict[str, pd.DataFrame] = {}
        self.notes: list[str] = []

    def size(self, n: int) -> int:
        return max(20, round(n * self.scale))

    def loaded(self, names: Sequence[str]) -> dict[str, Reasoner]:
        found = {}
        for name in names:
            try:
                found[name] = self.organisms.load(name)
            except CotlensError as error:
                self.notes.append(f"{name} was not measured: {error}")
        return found

    def interchange(self) -> dict[str, dict[str, Any]]:
        """Follow, same-value and wrong-site rates at the thought that carries a value.

        Donors go by the problems' own values; beside them by what a probe reads there, whose errors then count too.
        """
        from interp import causal

        rows = []
        for name, reasoner in self.loaded([*CONTINUOUS, *BESIDE]).items():
            n = self.size(N_READ) + self.size(N_SWAPPED)
            traces = reasoner.think(reasoner.task.generate(n, seed=SEED, split="test"), batch_size=256)
            learn, test = causal.separated(traces, self.size(N_READ))
            values, right = causal.read_values(reasoner, learn, test)
            found = causal.interchange_at(reasoner, test, seed=SEED)
            donors = causal.donors_for(reasoner, test, values=values, seed=SEED)
            kinds = ("other value", "same value")
            by_reading = causal.interchange_at(reasoner, test, kinds=kinds, values=values, donors=donors, seed=SEED)
            wrong = [_above_chance(found.table(), kind) for kind in ("wrong site", "wrong step")]
            rows.append(
                {
                    "organism": name,
                    "answers right": traces.accuracy,
                    "read": right,
                    "donors": found.donors,
                    "follow": found.rates("other value"),
                    "same value changed": found.rates("same value", "changed"),
                    "follow, by reading": by_reading.rates("other value"),
                    "same value changed, by reading": by_reading.rates("same value", "changed"),
                    "wrong site above chance": wrong[0],
                    "wrong step above chance": wrong[1],
                    "random vector follows": found.rates("random vector"),
                    "contract": found.contract(),
                    "verdict": causal.verdict(found)[0],
                }
            )
        self.tables["interchange"] = pd.DataFrame(rows)
        judged = [row for row in rows if row["organism"] in CONTINUOUS]
        if not judged:
            return {}
        note = "worst of " + ", ".join(row["organism"] for row in judged) + "; problems answered right"
        read = [(row["follow, by reading"]["value"], row["same value changed, by reading"]["value"]) for row in judged]
        follows, changes = ([x for x in each if x is not None] for each in zip(*read, strict=True))
        told = f"; by what a probe reads at worst {min(follows):.3f}" if follows else ""
        told_same = f"; by what a probe reads at worst {max(changes):.3f}" if changes else ""
        sites = [(row, row[key]) for row in judged for key in ("wrong site above chance", "wrong step above chance")]
        return {
            "causal.follow_min": _worst([(row, row["follow"]) for row in judged], min, note + told),
            "causal.same_value_max": _worst(
                [(row, row["same value changed"]) for row in judged], max, note + told_same
            ),
            "causal.wrong_site_max": _worst(sites, max, note + "; the worse of wrong site and wrong step"),
        }

    def content(self) -> dict[str, dict[str, Any]]:
        """Whether each organism's content-or-compute verdict is what it was built for."""
        from interp import causal

        rows = []
        for name, reasoner in self.loaded(tuple(CONTENT)).items():
            n = self.size(N_MAZE if name.startswith("maze") else N_BATTERY)
            problems = reasoner.task.generate(n, seed=SEED + 1, split="test")
            battery = causal.ablate(reasoner, problems, arms=causal.NEEDED, seed=SEED)
            said = causal.content_or_compute(battery)
            rows.append({"organism": name, "built for": CONTENT[name], **said.__dict__})
        self.tables["content or compute"] = pd.DataFrame(rows)
        right = [row["verdict"] == row["built for"] for row in rows]
        built = sorted({row["built for"] for row in rows})
        note = f"built for {' and '.join(built)}: " + ", ".join(row["organism"] for row in rows)
        if "compute" not in built or "content" not in built:
            return {"causal.content_verdicts_right": {"value": None, "note": f"both kinds are needed; {note}"}}
        return {"causal.content_verdicts_right": {"value": float(np.mean(right)), "n": len(right), "note": note}}

    def used(self) -> dict[str, dict[str, Any]]:
        """Verdicts of few swaps against exhaustive ones, over the cells whose value can be read or is used."""
        from interp import causal

        frames = []
        for name, reasoner in self.loaded(MAPPED).items():
            accuracy = reasoner.think(
                reasoner.task.generate(self.size(300), seed=SEED + 2, split="test"), batch_size=256
            )
            right = accuracy.table().groupby("n_steps")["correct"].mean()
            solved = right[right >= SOLVED].index
            many = self.size(N_MANY // 3 if reasoner.config.thoughts_per_step > 1 else N_MANY)
            few_problems = reasoner.task.generate(self.size(N_FEW), seed=SEED + 3, split="test")
            many_problems = reasoner.task.generate(many, seed=SEED + 4, split="test")
            few = causal.used_map(causal.swap_each_thought(reasoner, few_problems, seed=SEED))
            every = causal.used_map(causal.swap_each_thought(reasoner, many_problems, seed=SEED + 1))
            read = causal.readable_map(reasoner, reasoner.task.generate(self.size(400), seed=SEED + 5, split="test"))
            keys = ["n_steps", "step", "thought"]
            cells = few.merge(every, on=keys, suffixes=("", "_exhaustive")).merge(read, on=keys, suffixes=("", "_read"))
            cells = cells[cells["n_steps"].isin(solved)]
            truth = np.where(cells["follow_exhaustive"] > causal.THRESHOLD, "used", "unused")
            frames.append(cells.assign(organism=name, truth=truth, agrees=cells["verdict"] == truth))
            if len(solved) < len(right):
                left = sorted(set(right.index) - set(solved))
                self.notes.append(f"{name}: problems of {left} steps are left out, it answers too few of them")
        if not frames:
            return {}
        table = pd.concat(frames, ignore_index=True)
        self.tables["used maps"] = table
        judged = table[table["readable"] | (table["truth"] == "used") | (table["verdict"] == "used")]
        unused = int((judged["truth"] == "unused").sum())
        note = (
            f"{len(judged)} cells that can be read or are used ({unused} of them readable and unused), of "
            f"{', '.join(table['organism'].unique())}; {self.size(N_FEW)} problems against an exhaustive "
            f"{self.size(N_MANY)} (a third of that with five thoughts a step); undecided counts against"
        )
        low, high = grouped_mean_interval(judged["agrees"].to_numpy(float), np.arange(len(judged)).astype(str))
        value = float(judged["agrees"].mean())
        return {"causal.used_map_agreement": {"value": value, "ci": [low, high], "n": len(judged), "note": note}}

    def steering(self) -> dict[str, dict[str, Any]]:
        """Success, collateral and random directions at the dose chosen on other problems."""
        from interp import causal

        rows = []
        for name, reasoner in self.loaded(STEERED).items():
            n = self.size(N_STEERED)
            traces = reasoner.think(reasoner.task.generate(n, seed=SEED + 6, split="test"), batch_size=256)
            learn, rest = causal.separated(traces, int(n * 0.7))
            val, test = causal.separated(rest, len(rest) // 3)
            directions = causal.Directions.fit(reasoner, learn)
            for mode in ("set", "add"):
                done = causal.steer(reasoner, val, test, directions, doses=(0.5, 1.0, 2.0, 4.0), mode=mode, seed=SEED)
                rows.append(
                    {
                        "organism": name,
                        "mode": mode,
                        "dose": done.best,
                        "success": done.rate("steer", "followed"),
                        "collateral": done.collateral(),
                        "random direction": done.rate("random direction", "followed"),
                        "doses": done.summary().to_dict("records"),
                    }
                )
        self.tables["steering"] = pd.DataFrame(rows)
        ours = next((row for row in rows if (row["organism"], row["mode"]) == ("chain-coconut", "set")), None)
        if ours is None:
            return {}
        others = "; ".join(
            f"{row['organism']} {row['mode']} {row['success']['value']:.3f} (collateral {row['collateral']['value']:.3f})"
            for row in rows
            if row is not ours
        )
        random = ours["random direction"]["value"]
        note = f"chain-coconut, the value set at the thought, dose {ours['dose']:g}; random direction {random:.3f}; {others}"
        return {
            "causal.steer_success": {**ours["success"], "note": note},
            "causal.steer_collateral": {
                **ours["collateral"],
                "note": "the larger of changed where already there, malformed",
            },
        }

    def graphs(self) -> dict[str, dict[str, Any]]:
        """The replacement model's agreement, and paths of attribution graphs confirmed by intervention."""
        from interp import causal

        reasoner = self.loaded([TRACED]).get(TRACED)
        if reasoner is None:
            return {}
        learn = reasoner.think(reasoner.task.generate(self.size(1500), seed=SEED + 7, split="train"), batch_size=256)
        test = reasoner.think(reasoner.task.generate(self.size(300), seed=SEED + 8, split="test"), batch_size=256)
        transcoders = causal.transcoders_of(reasoner, learn, sparsity=1.5e-2, updates=max(200, int(800 * self.scale)))
        self.tables["transcoders"] = causal.quality(reasoner, test, transcoders)
        agrees, silenced = (causal.agreement(reasoner, test, each) for each in (transcoders, None))
        few = type(test)(list(test)[: self.size(N_TRACED)])
        prompts, paths = causal.trace_prompts(reasoner, few, transcoders, seed=SEED)
        self.tables["attribution graphs"] = prompts
        confirmed, random, logit = (paths[paths["kind"] == kind] for kind in ("path", "random", "logit"))
        hits = int(prompts["satisfying"].sum())
        note = (
            f"{TRACED}, next tokens at thoughts and answers; every MLP silenced {silenced['agrees'].mean():.3f}; satisfying "
            f"graphs {hits} of {len(prompts)} prompts; completeness {prompts['completeness'].mean():.3f}"
        )
        said = (
            f"the later feature moves as predicted; random features of the layer {random['confirmed'].mean():.3f}; "
            f"the logit moves as predicted after a single feature {logit['confirmed'].mean():.3f}"
        )
        return {
            "causal.replacement_agreement": {**_mean(agrees, "agrees"), "note": note},
            "causal.paths_confirmed": {**_mean(confirmed, "confirmed"), "note": said},
        }

    def commitment(self) -> dict[str, dict[str, Any]]:
        """As the commitment function of subtext measures it."""
        from probes.commitment import commitment_exact

        found = commitment_exact(n=self.size(560), seed=SEED)
        return {"causal.commitment_exact": {key: found.get(key) for key in ("value", "ci", "n", "note")}}


def _mean(frame: pd.DataFrame, column: str) -> dict[str, Any]:
    ci = grouped_mean_interval(frame[column].to_numpy(float), frame["structure"].to_numpy())
    return {"value": float(frame[column].mean()), "ci": list(ci), "n": len(frame)}


def _above_chance(table: pd.DataFrame, kind: str) -> dict[str, Any]:
    """How much oftener than by luck the answer follows the step's value after an edit elsewhere."""
    from interp.causal.ablation import difference_interval

    part = table[table["kind"] == kind]
    if part.empty:
        return {"value": None, "ci": None, "n": 0}
    above = part["followed"].to_numpy(float) - part["chance"].to_numpy()
    ci = difference_interval(above, part["structure"].to_numpy())
    return {"value": float(above.mean()), "ci": list(ci), "n": len(part)}


def _worst(found: list[tuple[Any, dict[str, Any]]], choose: Any, note: str) -> dict[str, Any]:
    known = [(row, each) for row, each in found if each["value"] is not None]
    row, each = choose(known, key=lambda pair: pair[1]["value"])
    return {**each, "note": f"{row['organism']} is the {note}"}
