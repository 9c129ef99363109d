"""Beyond Semantics (arXiv 2505.13775): do the intermediate tokens have to mean anything?

Three organisms on each of two mazes: trained on right traces, on the traces of other problems, and on no traces.
5x5 mazes with A* traces hardly need them; 6x6 mazes with depth-first walks do. Traces are written greedily or sampled
at temperature 1, plans always greedily. The causal check forces a trace: the problem's own, or another problem's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.papers.base import Organisms, PaperFigure, Section
from benchmarks.papers.validity import by_length, error_shares
from interp.problems import task as make_task
from interp.problems.base import Problem
from interp.problems.maze import MazeTask
from interp.problems.maze.validate import TRACE_ERRORS
from interp.problems.maze.walk import WALK_ERRORS
from interp.runtime.progress import Progress
from interp.statistics.intervals import grouped_mean_interval
from interp.traces import Trace

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

SEED = 31
N, N_FULL = 400, 2000
GREEDY, SAMPLED, OWN, ANOTHER, NONE = "greedy", "sampled", "forced, its own", "forced, another problem's", "none"


@dataclass(frozen=True)
class Grid:
    """One kind of maze: its organisms' names, its task without a generator, and how its traces are grouped by length."""

    title: str
    prefix: str
    task: str
    edges: tuple[int, ...]
    errors: tuple[str, ...]
    generators: tuple[str, ...]
    more_generators: tuple[str, ...]

    def organism(self, arm: str) -> str:
        return f"{self.prefix}-{arm}"

    def of(self, generator: str) -> MazeTask:
        found = make_task(self.task, generator=generator)
        assert isinstance(found, MazeTask)
        return found


GRIDS = (
    Grid(
        "5x5, A* traces",
        "maze",
        "maze",
        (8, 16, 24),
        tuple(TRACE_ERRORS),
        ("dfs", "drunkard"),
        ("kruskal", "searchformer"),
    ),
    Grid(
        "6x6, depth-first walks",
        "maze6",
        "maze:form=walk,size=6",
        (16, 32, 48),
        tuple(WALK_ERRORS),
        ("dfs",),
        ("kruskal",),
    ),
)
ARMS = ("correct", "swapped", "solution-only")


@dataclass(frozen=True)
class Run:
    """What one organism wrote on each of the same problems, judged."""

    arm: str
    trace: str
    problems: Sequence[Problem]
    plan_valid: np.ndarray
    trace_valid: np.ndarray | None
    faults: list[str | None]

    @cached_property
    def groups(self) -> np.ndarray:
        return np.array([problem.structure for problem in self.problems])

    def row(self) -> dict[str, Any]:
        """The run as a row of a table; the validity of a forced trace is given by who forced it, so it is left out."""
        shown: dict[str, Any] = {
            "trained on": self.arm,
            "trace": self.trace,
            **_share("plans valid", self.plan_valid, self.groups),
        }
        written = self.trace_valid if self.trace in (GREEDY, SAMPLED) else None
        shown |= _share("traces valid", written, self.groups)
        return shown | {"n": len(self.problems)}


def _share(name: str, right: np.ndarray | None, groups: np.ndarray) -> dict[str, Any]:
    if right is None:
        return {name: None, f"{name}, 95 %": None}
    return {name: float(right.mean()), f"{name}, 95 %": list(grouped_mean_interval(right, groups))}


def judged(arm: str, how: str, task: MazeTask, traces: Sequence[Trace]) -> Run:
    """Check every trace and every plan."""
    problems = [trace.problem for trace in traces]
    plans = np.array([task.check_plan(trace.problem, trace.text).valid for trace in traces])
    if how == NONE:
        return Run(arm, how, problems, plans, None, [None] * len(problems))
    checks = [task.check_trace(trace.problem, trace.text) for trace in traces]
    faults = [check.fault.name if check.fault else None for check in checks]
    return Run(arm, how, problems, plans, np.array([check.valid for check in checks]), faults)


def run(reasoner: Reasoner, arm: str, how: str, task: MazeTask, problems: Sequence[Problem]) -> Run:
    """Let `reasoner` solve `problems` in one of the ways `GREEDY`, `SAMPLED`, `OWN`, `ANOTHER`, `NONE`."""
    from interp.causal.forcing import force, gold_thought, thought_ids

    if how in (GREEDY, NONE):
        return judged(arm, how, task, reasoner.think(problems, batch_size=256))
    if how == SAMPLED:
        thoughts: list[Any] = [
            thought_ids(trace) for trace in reasoner.think(problems, batch_size=256, temperature=1.0)
        ]
    else:
        donors = problems if how == OWN else [*problems[1:], problems[0]]
        thoughts = [gold_thought(problem) for problem in donors]
    return judged(arm, how, task, force(reasoner, problems, thoughts, batch_size=256))


# By grid, generator, arm, and how its trace came about.
Runs = dict[tuple[str, str, str, str], Run]


def measure(progress: Progress, full: bool, organisms: Organisms) -> Section:
    """Both ends of the paper's question, the causal check, and mazes that no organism was trained on."""
    n = N_FULL if full else N
    section = Section("maze", "Beyond Semantics: traces that may mean nothing", paper=PAPER)
    there = [g for g in GRIDS if all(organisms.load_or_note(g.organism(arm), section) for arm in ARMS)]
    plans = [(grid, plan) for grid in there for plan in _plan(grid, full)]
    runs: Runs = {}
    for k, (grid, (generator, arm, how)) in enumerate(plans):
        task = grid.of(generator)
        problems = task.generate(n if generator == "wilson" else n // 2, seed=SEED, split="test")
        reasoner = organisms.load(grid.organism(arm))
        runs[grid.prefix, generator, arm, how] = run(reasoner, arm, how, task, problems)
        progress(k + 1, len(plans))
    for grid in there:
        mine = {key[1:]: each for key, each in runs.items() if key[0] == grid.prefix}
        _add_tables(section, grid, mine)
        section.notes += _notes(grid, {key[1:]: each for key, each in mine.items() if key[0] == "wilson"})
        section.measures |= _MEASURES[grid.prefix](runs)
    return section


def _plan(grid: Grid, full: bool) -> list[tuple[str, str, str]]:
    at_home = [("correct", GREEDY), ("correct", SAMPLED), ("correct", OWN), ("correct", ANOTHER)]
    at_home += [("swapped", GREEDY), ("swapped", SAMPLED), ("swapped", OWN), ("swapped", ANOTHER)]
    away = [("correct", GREEDY), ("swapped", SAMPLED)]
    others = grid.generators + (grid.more_generators if full else ())
    found = [("wilson", *each) for each in [*at_home, ("solution-only", NONE)]]
    return found + [(other, *each) for other in others for each in [*away, ("solution-only", NONE)]]


def _add_tables(section: Section, grid: Grid, runs: dict[tuple[str, str, str], Run]) -> None:
    home = [each for (generator, _, _), each in runs.items() if generator == "wilson"]
    section.tables[f"{grid.title}: held-out mazes (Wilson)"] = pd.DataFrame([each.row() for each in home])
    away = [(generator, each) for (generator, _, _), each in runs.items() if generator != "wilson"]
    section.tables[f"{grid.title}: mazes of generators that no organism was trained on"] = pd.DataFrame(
        [{"generator": generator, **each.row()} for generator, each in away]
    )
    written = [each for each in home if each.trace in (GREEDY, SAMPLED)]
    lengths = np.array([problem.n_steps for problem in home[0].problems])
    binned = [
        {"trained on": each.arm, "trace": each.trace, **row}
        for each in written
        if each.trace_valid is not None
        for row in by_length(each.trace_valid, each.plan_valid, lengths, grid.edges)
    ]
    section.tables[f"{grid.title}: trace valid against plan valid, by steps of the gold trace"] = pd.DataFrame(binned)
    errors = [
        {"trained on": each.arm, "trace": each.trace, "invalid": sum(kind is not None for kind in each.faults)}
        | error_shares(each.faults, grid.errors)
        for each in written
    ]
    section.tables[f"{grid.title}: first error of invalid traces, shares"] = pd.DataFrame(errors)


def difference(one: Run, other: Run) -> dict[str, Any]:
    """Plans valid of one run minus those of another on the same problems, with an interval over the pairs."""
    gaps = one.plan_valid.astype(float) - other.plan_valid
    return {"value": float(gaps.mean()), "ci": list(grouped_mean_interval(gaps, one.groups)), "n": len(gaps)}


def _of_astar(runs: Runs) -> dict[str, dict[str, Any]]:
    """The measures of 5x5 mazes, which hardly need their traces."""

    def at(arm: str, how: str) -> Run:
        return runs["maze", "wilson", arm, how]

    def rate(each: Run, right: Any, note: str) -> dict[str, Any]:
        interval = list(grouped_mean_interval(right, each.groups))
        return {"value": float(right.mean()), "ci": interval, "n": len(right), "note": note}

    correct, sampled = at("correct", GREEDY), at("correct", SAMPLED)
    swapped, greedy = at("swapped", SAMPLED), at("swapped", GREEDY)
    alone = at("solution-only", NONE).plan_valid.mean()
    return {
        "papers.maze.correct_plan_valid": rate(correct, correct.plan_valid, f"solution-only {alone:.3f}"),
        "papers.maze.swapped_plan_valid": rate(
            swapped,
            swapped.plan_valid,
            f"traces sampled at T = 1; greedy {greedy.plan_valid.mean():.3f}, solution-only {alone:.3f}",
        ),
        "papers.maze.correct_trace_valid": rate(
            correct, correct.trace_valid, f"sampled at T = 1: {_mean(sampled.trace_valid):.3f}"
        ),
        "papers.maze.swapped_trace_valid": rate(
            swapped, swapped.trace_valid, f"traces sampled at T = 1; greedy {_mean(greedy.trace_valid):.3f}"
        ),
    }


def _of_walks(runs: Runs) -> dict[str, dict[str, Any]]:
    """The measures of 6x6 mazes, which need their walks."""

    def at(arm: str, how: str) -> Run:
        return runs["maze6", "wilson", arm, how]

    def against(one: Run, other: Run) -> str:
        return f"{one.plan_valid.mean():.3f} against {other.plan_valid.mean():.3f}"

    correct, sampled = at("correct", GREEDY), at("correct", SAMPLED)
    swapped, alone = at("swapped", SAMPLED), at("solution-only", NONE)
    greedy = at("swapped", GREEDY).plan_valid.mean()
    return {
        "papers.maze6.correct_above_solution_only": difference(correct, alone) | {"note": against(correct, alone)},
        "papers.maze6.swapped_below_correct": difference(sampled, swapped)
        | {"note": f"{against(sampled, swapped)}, both sampled at T = 1; swapped greedy {greedy:.3f}"},
    }


def _mean(right: np.ndarray | None) -> float:
    return float("nan") if right is None else float(right.mean())


_MEASURES = {"maze": _of_astar, "maze6": _of_walks}


def _notes(grid: Grid, runs: dict[tuple[str, str], Run]) -> list[str]:
    def plan(arm: str, how: str) -> float:
        return float(runs[arm, how].plan_valid.mean())

    gain = difference(runs["correct", GREEDY], runs["solution-only", NONE])
    low, high = gain["ci"]
    matters = "hardly matters" if high < 0.1 else ("matters" if low > 0.1 else "matters a little at most")
    return [
        f"{grid.title}: plans valid {plan('correct', GREEDY):.3f} with right traces, {plan('swapped', SAMPLED):.3f} with "
        f"swapped ones (sampled; {plan('swapped', GREEDY):.3f} greedy), {plan('solution-only', NONE):.3f} with none. What "
        f"the trace says {matters} here: {gain['value']:+.3f} [{low:+.3f}, {high:+.3f}] over no trace.",
        f"{grid.title}, forced traces: another problem's trace takes the model trained on right traces from "
        f"{plan('correct', OWN):.3f} to {plan('correct', ANOTHER):.3f}, and the one trained on swapped traces from "
        f"{plan('swapped', OWN):.3f} to {plan('swapped', ANOTHER):.3f}.",
    ]


PAPER = [
    PaperFigure(
        "plans valid, 30x30 Wilson mazes, trained on right / swapped traces", "79.9 % / 83.3 %", "arXiv 2505.13775 v3"
    ),
    PaperFigure("traces valid, trained on swapped traces", "0 %", "arXiv 2505.13775 v3"),
    PaperFigure(
        "trace valid given plan valid, texts of up to 1k tokens / 4k to 4.5k tokens",
        "93.2 % / 51.8 %",
        "arXiv 2505.13775 v3",
    ),
]
