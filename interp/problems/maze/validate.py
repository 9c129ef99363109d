"""Validators of written plans and written A* traces.

A plan is valid when it is a legal path from start to goal. A trace is valid when A* can write it. The trace validator
replays the open and closed lists, as in Beyond Semantics (arXiv 2505.13775); the start is on the open list from the
beginning, because it is closed without being created. Both validators stop at the first error. The strict trace
validator also requires every neighbour that should be created, in the order N, E, S, W, and ties broken by lower g.
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
    "invalid-neighbour": "create of a cell that is not a free, unclosed neighbour of the last closed cell",
    "no-improvement": "create of a cell that is already open at that cost or less",
    "wrong-cost": "g or h is not the search's value for the cell",
    "closed-twice": "close of a cell that is closed already",
    "not-open": "close of a cell that was never created",
    "lower-f-open": "close while an open cell has a lower f",
    "after-goal": "an operation after the goal was closed",
    "goal-not-closed": "the trace ends before the goal is closed",
}
STRICT_ERRORS = {
    "missing-create": "close before every neighbour was created",
    "neighbour-order": "a neighbour created before one that comes earlier in N, E, S, W",
    "tie": "close while an open cell has the same f and a lower g",
}


@dataclass(frozen=True)
class Fault:
    """The first error of a plan or trace.

    Attributes:
        name: Name of the error, a key of `PLAN_ERRORS`, `TRACE_ERRORS` or `STRICT_ERRORS`.
        number: Number of the wrong operation or cell, from 1.
        message: What is wrong.
    """

    name: str
    number: int
    message: str


@dataclass(frozen=True)
class Check:
    """The result of a validator.

    Attributes:
        n_right: Number of operations or cells before the first error.
        fault: The first error; None if there is none.
    """

    n_right: int
    fault: Fault | None

    @property
    def valid(self) -> bool:
        """Whether there is no error."""
        return self.fault is None


def check_plan(maze: Maze, words: Sequence[str], *, pairs: bool = True) -> Check:
    """Check that a plan is a legal path from start to goal, the shortest or not.

    Args:
        maze: The maze.
        words: The plan, as `plan x y plan x y`, or as `plan x-y x-y` without `pairs`.
        pairs: Whether a cell is written as two words.
    """
    cells = _plan_cells(words) if pairs else _plan_cells_in_one_word(words)
    if not cells:
        return Check(0, Fault("empty", 1, PLAN_ERRORS["empty"]))
    before: Cell | None = None
    for k, cell in enumerate(cells, 1):
        error = _plan_error(maze, before, cell)
        if error:
            return Check(k - 1, Fault(error, k, f"{cell}: {PLAN_ERRORS[error]}"))
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
    """Return the operation that five words write; None where they write none."""
    if len(words) != 5 or words[0] not in OPERATIONS:
        return None
    x, y = map(read_number, words[1:3])
    g, h = (read_number(word, "c") for word in words[3:5])
    if x is None or y is None or g is None or h is None:
        return None
    return Operation(words[0], (x, y), g, h)  # type: ignore[arg-type]


def check_trace(maze: Maze, words: Sequence[str], *, strict: bool = False) -> Check:
    """Check that a trace is one that A* can write: every operation legal, up to the close of the goal.

    Args:
        maze: The maze.
        words: The trace, five words an operation.
        strict: Whether neighbours must be complete and in order, and ties broken by lower g.
    """
    replay = _Replay(maze, strict)
    n_right = 0
    for k in range(0, len(words), 5):
        operation = parse_operation(words[k : k + 5])
        error = "unparseable" if operation is None or not maze.holds(operation.cell) else replay.apply(operation)
        if error:
            return Check(n_right, _fault(error, n_right + 1, " ".join(words[k : k + 5])))
        n_right += 1
    if not replay.done:
        return Check(n_right, _fault("goal-not-closed", n_right + 1, "the end"))
    return Check(n_right, None)


def _fault(error: str, number: int, text: str) -> Fault:
    return Fault(error, number, f"{text}: {(TRACE_ERRORS | STRICT_ERRORS)[error]}")


@dataclass
class _Replay:
    """The open and closed lists of a search that is replayed operation by operation."""

    maze: Maze
    strict: bool
    open: dict[Cell, int] = field(default_factory=dict)
    closed: set[Cell] = field(default_factory=set)
    last_closed: Cell | None = None
    last_g: int = 0
    pending: list[Cell] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open[self.maze.start] = 0

    @property
    def done(self) -> bool:
        """Whether the goal is closed."""
        return self.maze.goal in self.closed

    def apply(self, operation: Operation) -> str | None:
        """Apply one operation; return the name of its error instead where it is illegal."""
        if self.done:
            return "after-goal"
        return self._create(operation) if operation.name == "create" else self._close(operation)

    def _create(self, operation: Operation) -> str | None:
        cell = operation.cell
        if self.last_closed is None or cell in self.closed or cell not in self.maze.neighbours(self.last_closed):
            return "invalid-neighbour"
        if operation.g != self.last_g + 1 or operation.h != self.maze.distance(cell):
            return "wrong-cost"
        if self.open.get(cell, operation.g + 1) <= operation.g:
            return "no-improvement"
        if self.strict and self.pending[0] != cell:
            return "neighbour-order"
        self.pending.remove(cell)
        self.open[cell] = operation.g
        return None

    def _close(self, operation: Operation) -> str | None:
        cell = operation.cell
        if cell in self.closed:
            return "closed-twice"
        if cell not in self.open:
            return "not-open"
        if operation.g != self.open[cell] or operation.h != self.maze.distance(cell):
            return "wrong-cost"
        if self.strict and self.pending:
            return "missing-create"
        f = operation.g + operation.h
        others = [(g + self.maze.distance(other), g) for other, g in self.open.items()]
        if min(others)[0] < f:
            return "lower-f-open"
        if self.strict and min(others)[1] < operation.g:
            return "tie"
        self.closed.add(cell)
        del self.open[cell]
        self.last_closed, self.last_g = cell, operation.g
        self.pending = [n for n in self.maze.neighbours(cell) if self._improves(n, operation.g + 1)]
        return None

    def _improves(self, cell: Cell, g: int) -> bool:
        return cell not in self.closed and self.open.get(cell, g + 1) > g
