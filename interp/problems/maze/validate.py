"""Whether a written plan is a legal way, and whether a written A* trace is one that the algorithm can write.

The trace validator replays the open and closed lists, as in Beyond Semantics (arXiv 2505.13775): the start is on
the open list from the beginning, since it is closed without being created. Both validators stop at the first
error, name its kind, and say where it is. The strict form of the trace validator also wants every neighbour that
should be created, in the order N, E, S, W, and ties broken by the lower g.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from interp.problems.maze.astar import Operation
from interp.problems.maze.grid import Cell, Maze
from interp.problems.maze.text import OPERATIONS, PLAN, read_cell, read_number

PLAN_ERRORS = {
    "empty": "there is no plan",
    "unparseable": "a word does not belong in a plan",
    "wrong-start": "the plan does not begin at the start",
    "through-wall": "two cells are next to each other, but a wall is between them or one of them is a wall",
    "jump": "two cells that follow each other are not next to each other",
    "goal-not-reached": "the plan does not end at the goal",
}
TRACE_ERRORS = {
    "unparseable": "a word does not belong in a trace",
    "invalid-neighbour": "create of a cell that is not a free, unclosed neighbour of the cell closed last",
    "no-improvement": "create of a cell that is already open at that cost or less",
    "wrong-cost": "g or h is not what the search has come to",
    "closed-twice": "close of a cell that is closed already",
    "not-open": "close of a cell that was never created",
    "lower-f-open": "close while an open cell has a lower f",
    "after-goal": "an operation after the goal was closed",
    "goal-not-closed": "the trace ends before the goal is closed",
}
STRICT_ERRORS = {
    "missing-create": "close before every neighbour that should be created was",
    "neighbour-order": "a neighbour created before one that comes earlier in N, E, S, W",
    "tie": "close while an open cell has the same f and a lower g",
}


@dataclass(frozen=True)
class Fault:
    """The first error: its kind, the number of the operation or cell (from 1) where it is, and what was found."""

    kind: str
    at: int
    says: str


@dataclass(frozen=True)
class Check:
    """How many operations (or cells) were right before the first error, and that error, None where all is well."""

    n_right: int
    fault: Fault | None

    @property
    def valid(self) -> bool:
        return self.fault is None


def check_plan(maze: Maze, words: Sequence[str], *, pairs: bool = True) -> Check:
    """Whether `words` are a legal way from start to goal: `plan x y plan x y`, or `plan x-y x-y` without `pairs`.

    Any legal way is right, not only the shortest.
    """
    cells = _plan_cells(words) if pairs else _plan_cells_in_one_word(words)
    if not cells:
        return Check(0, Fault("empty", 1, PLAN_ERRORS["empty"]))
    before: Cell | None = None
    for k, cell in enumerate(cells, 1):
        kind = _plan_error(maze, before, cell)
        if kind:
            return Check(k - 1, Fault(kind, k, f"{cell}: {PLAN_ERRORS[kind]}"))
        before = cell
    if before != maze.goal:
        return Check(len(cells), Fault("goal-not-reached", len(cells), f"{before}: {PLAN_ERRORS['goal-not-reached']}"))
    return Check(len(cells), None)


def _plan_error(maze: Maze, before: Cell | None, cell: Cell | None) -> str | None:
    if cell is None or not maze.holds(cell):
        return "unparseable"
    if before is None:
        return None if cell == maze.start else "wrong-start"
    if cell in maze.neighbours(before):
        return None
    near = abs(cell[0] - before[0]) + abs(cell[1] - before[1]) == 1
    return "through-wall" if near else "jump"


def _plan_cells(words: Sequence[str]) -> list[Cell | None]:
    cells: list[Cell | None] = []
    for k in range(0, len(words), 3):
        x, y = (read_number(word) for word in [*words[k + 1 : k + 3], "", ""][:2])
        cells.append((x, y) if words[k] == PLAN and x is not None and y is not None else None)
    return cells


def _plan_cells_in_one_word(words: Sequence[str]) -> list[Cell | None]:
    if words and words[0] != PLAN:
        return [None]
    return [read_cell(word) for word in words[1:]]


def parse_operation(words: Sequence[str]) -> Operation | None:
    """The operation that five words write, or None."""
    if len(words) != 5 or words[0] not in OPERATIONS:
        return None
    x, y = map(read_number, words[1:3])
    g, h = (read_number(word, "c") for word in words[3:5])
    if x is None or y is None or g is None or h is None:
        return None
    return Operation(words[0], (x, y), g, h)  # type: ignore[arg-type]


def check_trace(maze: Maze, words: Sequence[str], *, strict: bool = False) -> Check:
    """Whether `words` are a trace that A* can write on `maze`: every operation legal, up to the goal's close."""
    replay = _Replay(maze, strict)
    n_right = 0
    for k in range(0, len(words), 5):
        found = parse_operation(words[k : k + 5])
        kind = "unparseable" if found is None or not maze.holds(found.cell) else replay.take(found)
        if kind:
            return Check(n_right, _fault(kind, n_right + 1, " ".join(words[k : k + 5])))
        n_right += 1
    if not replay.done:
        return Check(n_right, _fault("goal-not-closed", n_right + 1, "the end"))
    return Check(n_right, None)


def _fault(kind: str, at: int, found: str) -> Fault:
    return Fault(kind, at, f"{found}: {(TRACE_ERRORS | STRICT_ERRORS)[kind]}")


@dataclass
class _Replay:
    """The open and closed lists so far; `take` says what is wrong with one more operation, or takes it."""

    maze: Maze
    strict: bool
    open: dict[Cell, int] = field(default_factory=dict)
    closed: set[Cell] = field(default_factory=set)
    now: Cell | None = None
    g_now: int = 0
    due: list[Cell] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open[self.maze.start] = 0

    @property
    def done(self) -> bool:
        return self.maze.goal in self.closed

    def take(self, found: Operation) -> str | None:
        if self.done:
            return "after-goal"
        return self._create(found) if found.name == "create" else self._close(found)

    def _create(self, found: Operation) -> str | None:
        cell = found.cell
        if self.now is None or cell in self.closed or cell not in self.maze.neighbours(self.now):
            return "invalid-neighbour"
        if found.g != self.g_now + 1 or found.h != self.maze.distance(cell):
            return "wrong-cost"
        if self.open.get(cell, found.g + 1) <= found.g:
            return "no-improvement"
        if self.strict and self.due[0] != cell:
            return "neighbour-order"
        self.due.remove(cell)
        self.open[cell] = found.g
        return None

    def _close(self, found: Operation) -> str | None:
        cell = found.cell
        if cell in self.closed:
            return "closed-twice"
        if cell not in self.open:
            return "not-open"
        if found.g != self.open[cell] or found.h != self.maze.distance(cell):
            return "wrong-cost"
        if self.strict and self.due:
            return "missing-create"
        f = found.g + found.h
        others = [(g + self.maze.distance(other), g) for other, g in self.open.items()]
        if min(others)[0] < f:
            return "lower-f-open"
        if self.strict and min(others)[1] < found.g:
            return "tie"
        self.closed.add(cell)
        del self.open[cell]
        self.now, self.g_now = cell, found.g
        self.due = [n for n in self.maze.neighbours(cell) if self._improves(n, found.g + 1)]
        return None

    def _improves(self, cell: Cell, g: int) -> bool:
        return cell not in self.closed and self.open.get(cell, g + 1) > g
