"""Beyond Semantics (arXiv 2505.13775): do valid plans need valid traces?

Three organisms on each of two kinds of maze: trained on correct traces, on traces of other problems, and on none. 5x5
mazes with A* traces can be solved almost without them; 6x6 mazes with depth-first walks cannot. Traces are written
greedily or sampled at temperature 1; plans are always greedy. The causal check forces a trace: the problem's own or
another problem's.
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
    """One kind of maze.

    Attributes:
        title: Name in captions.
        prefix: Prefix of its organisms' names.
        task: Its task, without a generator.
        edges: Greatest trace length of each bin but the last.
        errors: Kinds of trace error.
        generators: Generators that no organism was trained on.
        more_generators: Further ones for a full run.
    """

    title: str
    prefix: str
    task: str
    edges: tuple[int, ...]
    errors: tuple[str, ...]
    generators: tuple[str, ...]
    more_generators: tuple[str, ...]

    def organism(self, arm: str) -> str:
        """Return the name of the organism of one arm."""
        return f"{self.prefix}-{arm}"

    def of(self, generator: str) -> MazeTask:
        """Return the task with one generator."""
        task = make_task(self.task, generator=generator)
        assert isinstance(task, MazeTask)
        return task


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
    """The checked texts of one organism on the held-out problems.

    Attributes:
        arm: What the organism was trained on.
        trace: How its traces came about: `GREEDY`, `SAMPLED`, `OWN`, `ANOTHER` or `NONE`.
        problems: The problems.
        plan_valid: Which plans are valid.
        trace_valid: Which traces are valid, or None without traces.
        faults: The first error of each trace, or None.
    """

    arm: str
    trace: str
    problems: Sequence[Problem]
    plan_valid: np.ndarray
    trace_valid: np.ndarray | None
    faults: list[str | None]

    @cached_property
    def groups(self) -> np.ndarray:
        """Structures of the problems."""
        return np.array([problem.structure for problem in self.problems])

    def row(self) -> dict[str, Any]:
        """Return the run as a row of a table, without the validity of forced traces, which were not written."""
        shown: dict[str, Any] = {
            "trained on": self.arm,
            "trace": self.trace,
            **_share("plans valid", self.plan_valid, self.groups),
        }
        written = self.trace_valid if self.trace in (GREEDY, SAMPLED) else None
        shown |= _share("traces valid", written, self.groups)
        return shown | {"n": len(self.problems)}


def _share(name: str, right: np.ndarray | None, groups: np.ndarray) -> dict[str, Any]:
    """Return a fraction and its 95 % interval as columns."""
    if right is None:
        return {name: None, f"{name}, 95 %": None}
    return {name: float(right.mean()), f"{name}, 95 %": list(grouped_mean_interval(right, groups))}


def judge(arm: str, how: str, task: MazeTask, traces: Sequence[Trace]) -> Run:
    """Check every trace and every plan."""
    problems = [trace.problem for trace in traces]
    plans = np.array([task.check_plan(trace.problem, trace.text).valid for trace in traces])
    if how == NONE:
        return Run(arm, how, problems, plans, None, [None] * len(problems))
    checks = [task.check_trace(trace.problem, trace.text) for trace in traces]
    faults = [check.fault.name if check.fault else None for check in checks]
    return Run(arm, how, problems, plans, np.array([check.valid for check in checks]), faults)


def run(reasoner: Reasoner, arm: str, how: str, task: MazeTask, problems: Sequence[Problem]) -> Run:
    """Solve problems with traces written or forced as `how` says (`GREEDY`, `SAMPLED`, `OWN`, `ANOTHER`, `NONE`)."""
    from interp.causal.visible_text.forcing import force, gold_thought, thought_ids

    if how in (GREEDY, NONE):
        return judge(arm, how, task, reasoner.think(problems, batch_size=256))
    if how == SAMPLED:
        thoughts: list[Any] = [
            thought_ids(trace) for trace in reasoner.think(problems, batch_size=256, temperature=1.0)
        ]
    else:
        donors = problems if how == OWN else [*problems[1:], problems[0]]
        thoughts = [gold_thought(problem) for problem in donors]
    return judge(arm, how, task, force(reasoner, problems, thoughts, batch_size=256))


# (grid prefix, generator, arm, how its traces came about) -> run.
Runs = dict[tuple[str, str, str, str], Run]


def measure(progress: Progress, full: bool, organisms: Organisms) -> Section:
    """Measure plan and trace validity, forced traces, and mazes of generators that no organism was trained on."""
    n = N_FULL if full else N
    section = Section("maze", "Beyond Semantics: traces that may mean nothing", paper=PAPER)
    grids = [g for g in GRIDS if all(organisms.load_or_note(g.organism(arm), section) for arm in ARMS)]
    plans = [(grid, plan) for grid in grids for plan in _plan(grid, full)]
    runs: Runs = {}
    for k, (grid, (generator, arm, how)) in enumerate(plans):
        task = grid.of(generator)
        problems = task.generate(n if generator == "wilson" else n // 2, seed=SEED, split="test")
        reasoner = organisms.load(grid.organism(arm))
        runs[grid.prefix, generator, arm, how] = run(reasoner, arm, how, task, problems)
        progress(k + 1, len(plans))
    for grid in grids:
        of_grid = {key[1:]: result for key, result in runs.items() if key[0] == grid.prefix}
        _add_tables(section, grid, of_grid)
        section.notes += _notes(grid, {key[1:]: result for key, result in of_grid.items() if key[0] == "wilson"})
        section.measures |= _MEASURES[grid.prefix](runs)
    return section


def _plan(grid: Grid, full: bool) -> list[tuple[str, str, str]]:
    """Return the (generator, arm, how) of all runs on a grid."""
    on_wilson = [("correct", GREEDY), ("correct", SAMPLED), ("correct", OWN), ("correct", ANOTHER)]
    on_wilson += [("swapped", GREEDY), ("swapped", SAMPLED), ("swapped", OWN), ("swapped", ANOTHER)]
    on_others = [("correct", GREEDY), ("swapped", SAMPLED)]
    others = grid.generators + (grid.more_generators if full else ())
    plans = [("wilson", *pair) for pair in [*on_wilson, ("solution-only", NONE)]]
    return plans + [(other, *pair) for other in others for pair in [*on_others, ("solution-only", NONE)]]


def _add_tables(section: Section, grid: Grid, runs: dict[tuple[str, str, str], Run]) -> None:
    """Add the tables of one grid."""
    on_wilson = [result for (generator, _, _), result in runs.items() if generator == "wilson"]
    section.tables[f"{grid.title}: held-out mazes (Wilson)"] = pd.DataFrame([result.row() for result in on_wilson])
    on_others = [(generator, result) for (generator, _, _), result in runs.items() if generator != "wilson"]
    section.tables[f"{grid.title}: mazes of generators that no organism was trained on"] = pd.DataFrame(
        [{"generator": generator, **result.row()} for generator, result in on_others]
    )
    written = [result for result in on_wilson if result.trace in (GREEDY, SAMPLED)]
    lengths = np.array([problem.n_steps for problem in on_wilson[0].problems])
    binned = [
        {"trained on": result.arm, "trace": result.trace, **row}
        for result in written
        if result.trace_valid is not None
        for row in by_length(result.trace_valid, result.plan_valid, lengths, grid.edges)
    ]
    section.tables[f"{grid.title}: trace valid against plan valid, by steps of the gold trace"] = pd.DataFrame(binned)
    errors = [
        {"trained on": result.arm, "trace": result.trace, "invalid": sum(kind is not None for kind in result.faults)}
        | error_shares(result.faults, grid.errors)
        for result in written
    ]
    section.tables[f"{grid.title}: first error of invalid traces, shares"] = pd.DataFrame(errors)


def difference(one: Run, other: Run) -> dict[str, Any]:
    """Return the fraction of valid plans of one run minus that of another on the same problems, with a paired interval."""
    gaps = one.plan_valid.astype(float) - other.plan_valid
    return {"value": float(gaps.mean()), "ci": list(grouped_mean_interval(gaps, one.groups)), "n": len(gaps)}


def _measure_5x5(runs: Runs) -> dict[str, dict[str, Any]]:
    """Return the measures of 5x5 mazes."""

    def at(arm: str, how: str) -> Run:
        return runs["maze", "wilson", arm, how]

    def rate(result: Run, right: Any, note: str) -> dict[str, Any]:
        interval = list(grouped_mean_interval(right, result.groups))
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


def _measure_6x6(runs: Runs) -> dict[str, dict[str, Any]]:
    """Return the measures of 6x6 mazes."""

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


_MEASURES = {"maze": _measure_5x5, "maze6": _measure_6x6}


def _notes(grid: Grid, runs: dict[tuple[str, str], Run]) -> list[str]:
    def plan(arm: str, how: str) -> float:
        return float(runs[arm, how].plan_valid.mean())

    gain = difference(runs["correct", GREEDY], runs["solution-only", NONE])
    low, high = gain["ci"]
    verdict = "a small" if high < 0.1 else ("a large" if low > 0.1 else "at most a moderate")
    return [
        f"{grid.title}: plans valid {plan('correct', GREEDY):.3f} with correct traces, {plan('swapped', SAMPLED):.3f} with "
        f"swapped ones (sampled; {plan('swapped', GREEDY):.3f} greedy), {plan('solution-only', NONE):.3f} with none. "
        f"Correct traces have {verdict} effect: {gain['value']:+.3f} [{low:+.3f}, {high:+.3f}] over no trace.",
        f"{grid.title}, forced traces: plans valid with the problem's own trace and with another problem's: "
        f"{plan('correct', OWN):.3f} and {plan('correct', ANOTHER):.3f} after training on correct traces, "
        f"{plan('swapped', OWN):.3f} and {plan('swapped', ANOTHER):.3f} after training on swapped traces.",
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
