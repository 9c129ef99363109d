"""The two forms of a maze problem: A* in the papers' words, and a depth-first walk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Protocol

from interp.errors import UsageError, unknown
from interp.problems.base import Problem, Step
from interp.problems.maze.astar import astar
from interp.problems.maze.generators import OPEN, TREES, rooms_across, walls_of
from interp.problems.maze.grid import Cell, Maze
from interp.problems.maze.text import (
    END,
    OPERATIONS,
    PLAN,
    QUERY,
    REASONING,
    SOLUTION,
    cell_word,
    operation_text,
    plan_text,
    query_text,
    read_query,
    read_rooms,
    rooms_text,
    sides_word,
)
from interp.problems.maze.validate import Check, check_plan, check_trace
from interp.problems.maze.walk import check_walk, walk


@dataclass(frozen=True)
class SolvedMaze:
    """A maze with its question, its gold trace and its gold plan.

    Attributes:
        maze: The maze.
        question: The maze as words.
        steps: The gold trace.
        answer: The gold plan as words.
        path: The cells of the gold plan.
    """

    maze: Maze
    question: str
    steps: tuple[Step, ...]
    answer: str
    path: tuple[Cell, ...]


class Form(Protocol):
    """How a maze becomes a question, a trace and a plan, and how these are checked.

    Attributes:
        size: Number of cells on one side.
        facts: Name of each fact, and the number of cells that it is about.
        shortest: Fewest steps of a trace.
        longest: Most steps of a trace.
    """

    size: int
    facts: Mapping[str, int]
    shortest: int
    longest: int

    def layout(self, rng: Random) -> Maze:
        """Return a random maze whose start and goal are not placed yet."""
        ...

    def solve(self, maze: Maze) -> SolvedMaze | None:
        """Solve a maze; None where the goal cannot be reached."""
        ...

    def read(self, question: str) -> Maze:
        """Return the maze that a question describes."""
        ...

    def check_trace(self, maze: Maze, words: Sequence[str]) -> Check:
        """Check a written trace."""
        ...

    def check_plan(self, maze: Maze, words: Sequence[str]) -> Check:
        """Check a written plan."""
        ...

    def n_written(self, words: Sequence[str]) -> int:
        """Return the number of steps that `words` hold, a broken last one included."""
        ...

    def vocabulary(self) -> list[str]:
        """Return every word of questions, traces and plans."""
        ...

    def fact(self, problem: Problem, name: str, cell: str, step: int) -> bool | None:
        """Return a fact about a cell after `step` steps; None where it is not defined."""
        ...


class AStarForm:
    """The A* form: `query start x y goal x y wall x y ...`, then a `create` or `close` a step, then `plan x y` a cell."""

    facts: Mapping[str, int] = {"closed": 1, "open": 1, "on_path": 1}

    def __init__(self, size: int, generator: str) -> None:
        self.size, self.generator = size, generator
        # One create and one close for each move, and the start's close.
        self.shortest = 1 + 2 * (size if generator == "searchformer" else 1)
        rooms = rooms_across(size) ** 2
        self.longest = 4 * rooms - 3 if generator in TREES else 4 * size * size

    def layout(self, rng: Random) -> Maze:
        """Return a random maze whose start and goal are not placed yet."""
        walls = walls_of(self.generator, self.size, rng)
        first_free = next((x, y) for y in range(self.size) for x in range(self.size) if (x, y) not in walls)
        return Maze.of_walls(self.size, walls, first_free, first_free)

    def solve(self, maze: Maze) -> SolvedMaze | None:
        """Solve a maze; None where the goal cannot be reached."""
        search = astar(maze)
        if search.path is None:
            return None
        steps = tuple(Step(operation_text(done), cell_word(done.cell)) for done in search.operations)
        return SolvedMaze(maze, query_text(maze), steps, plan_text(search.path), search.path)

    def read(self, question: str) -> Maze:
        """Return the maze that a question describes."""
        return _read_query(question, self.size)

    def check_trace(self, maze: Maze, words: Sequence[str]) -> Check:
        """Check a written trace."""
        return check_trace(maze, words)

    def check_plan(self, maze: Maze, words: Sequence[str]) -> Check:
        """Check a written plan."""
        return check_plan(maze, words)

    def n_written(self, words: Sequence[str]) -> int:
        """Return the number of steps that `words` hold, a broken last one included."""
        return -(-len(words) // 5)

    def vocabulary(self) -> list[str]:
        """Return every word of questions, traces and plans."""
        numbers = [str(k) for k in range(self.size)]
        costs = [f"c{k}" for k in range(self.size * self.size)]
        return [QUERY, REASONING, SOLUTION, END, PLAN, "start", "goal", "wall", *OPERATIONS, *numbers, *costs]

    def fact(self, problem: Problem, name: str, cell: str, step: int) -> bool | None:
        """Return whether `cell` is `closed`, `open` or `on_path` after `step` steps."""
        if name == "on_path":
            return cell in _path_words(problem.answer, 3)
        operations = [gold.text.split()[0] for gold in problem.steps[:step] if gold.value == cell]
        closed = "close" in operations
        return closed if name == "closed" else bool(operations) and not closed


class WalkForm:
    """The walk form: start, goal and every cell's open sides, then a cell for each step of the walk, then the plan."""

    facts: Mapping[str, int] = {"visited": 1, "on_path": 1, "dead_end": 0}

    def __init__(self, size: int, generator: str) -> None:
        if generator in OPEN:
            raise UsageError(
                f"expected a generator with one path between any two cells for form walk ({', '.join(TREES)}), "
                f"got {generator!r}."
            )
        self.size, self.generator = size, generator
        self.shortest, self.longest = 2, 2 * size * size - 1

    def layout(self, rng: Random) -> Maze:
        """Return a random maze whose start and goal are not placed yet."""
        return Maze(self.size, (0, 0), (0, 0), tuple(TREES[self.generator](self.size, rng)))

    def solve(self, maze: Maze) -> SolvedMaze | None:
        """Solve a maze; None where the goal cannot be reached."""
        cells, path = walk(maze)
        words = [cell_word(cell) for cell in cells]
        answer = " ".join([PLAN, *map(cell_word, path)])
        return SolvedMaze(maze, rooms_text(maze), tuple(Step(word, word) for word in words), answer, tuple(path))

    def read(self, question: str) -> Maze:
        """Return the maze that a question describes."""
        return _read_rooms(question, self.size)

    def check_trace(self, maze: Maze, words: Sequence[str]) -> Check:
        """Check a written trace."""
        return check_walk(maze, words)

    def check_plan(self, maze: Maze, words: Sequence[str]) -> Check:
        """Check a written plan."""
        return check_plan(maze, words, pairs=False)

    def n_written(self, words: Sequence[str]) -> int:
        """Return the number of steps that `words` hold, a broken last one included."""
        return len(words)

    def vocabulary(self) -> list[str]:
        """Return every word of questions, traces and plans."""
        cells = [cell_word((x, y)) for y in range(self.size) for x in range(self.size)]
        return [PLAN, *cells, *(sides_word(bits) for bits in range(16))]

    def fact(self, problem: Problem, name: str, cell: str, step: int) -> bool | None:
        """Return whether `cell` is `visited` or `on_path`, or the current cell a `dead_end`, after `step` steps."""
        if name == "on_path":
            return cell in _path_words(problem.answer, 1)
        if name == "visited":
            return any(gold.value == cell for gold in problem.steps[:step])
        if not 1 <= step <= problem.n_steps:
            return None
        return problem.steps[step - 1].value not in _path_words(problem.answer, 1)


FORMS: dict[str, type[AStarForm] | type[WalkForm]] = {"astar": AStarForm, "walk": WalkForm}


def form_of(name: str, size: int, generator: str) -> Form:
    """Return the form of a name; raise `UsageError` on an unknown form or generator."""
    if name not in FORMS:
        raise unknown("form of task maze", name, FORMS)
    if generator not in (*TREES, *OPEN):
        raise unknown("generator of task maze", generator, (*TREES, *OPEN))
    return FORMS[name](size, generator)


@lru_cache(maxsize=4096)
def _read_query(question: str, size: int) -> Maze:
    return read_query(question, size)


@lru_cache(maxsize=4096)
def _read_rooms(question: str, size: int) -> Maze:
    return read_rooms(question, size)


@lru_cache(maxsize=4096)
def _path_words(answer: str, width: int) -> frozenset[str]:
    words = answer.split()
    if width == 1:
        return frozenset(words[1:])
    return frozenset(f"{words[k + 1]}-{words[k + 2]}" for k in range(0, len(words), width))
