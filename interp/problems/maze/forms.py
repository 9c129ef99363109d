"""The two forms in which a maze is asked, searched and answered: A* in the papers' words, and a depth-first walk."""

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
class Worked:
    """A maze with its question, its gold trace and its gold plan."""

    maze: Maze
    question: str
    steps: tuple[Step, ...]
    answer: str
    path: tuple[Cell, ...]


class Form(Protocol):
    """How a maze becomes a question, a trace and a plan, and how these are checked."""

    size: int
    facts: Mapping[str, int]
    shortest: int
    longest: int

    def layout(self, rng: Random) -> Maze:
        """A maze whose start and goal are still to be placed."""
        ...

    def work(self, maze: Maze) -> Worked | None:
        """The maze solved; None where the goal cannot be reached."""
        ...

    def read(self, question: str) -> Maze: ...

    def check_trace(self, maze: Maze, words: Sequence[str]) -> Check: ...

    def check_plan(self, maze: Maze, words: Sequence[str]) -> Check: ...

    def written(self, words: Sequence[str]) -> int:
        """How many steps `words` hold, a broken last one included."""
        ...

    def vocabulary(self) -> list[str]: ...

    def fact(self, problem: Problem, name: str, cell: str, step: int) -> bool | None: ...


class AStarForm:
    """`query start x y goal x y wall x y ...`, then one `create` or `close` for each step, then `plan x y` for each cell."""

    facts: Mapping[str, int] = {"closed": 1, "open": 1, "on_path": 1}

    def __init__(self, size: int, generator: str) -> None:
        self.size, self.generator = size, generator
        # One create and one close for each move, and the start's close.
        self.shortest = 1 + 2 * (size if generator == "searchformer" else 1)
        rooms = rooms_across(size) ** 2
        self.longest = 4 * rooms - 3 if generator in TREES else 4 * size * size

    def layout(self, rng: Random) -> Maze:
        walls = walls_of(self.generator, self.size, rng)
        anywhere = next((x, y) for y in range(self.size) for x in range(self.size) if (x, y) not in walls)
        return Maze.of_walls(self.size, walls, anywhere, anywhere)

    def work(self, maze: Maze) -> Worked | None:
        found = astar(maze)
        if found.path is None:
            return None
        steps = tuple(Step(operation_text(done), cell_word(done.cell)) for done in found.operations)
        return Worked(maze, query_text(maze), steps, plan_text(found.path), found.path)

    def read(self, question: str) -> Maze:
        return _read_query(question, self.size)

    def check_trace(self, maze: Maze, words: Sequence[str]) -> Check:
        return check_trace(maze, words)

    def check_plan(self, maze: Maze, words: Sequence[str]) -> Check:
        return check_plan(maze, words)

    def written(self, words: Sequence[str]) -> int:
        return -(-len(words) // 5)

    def vocabulary(self) -> list[str]:
        numbers = [str(k) for k in range(self.size)]
        costs = [f"c{k}" for k in range(self.size * self.size)]
        return [QUERY, REASONING, SOLUTION, END, PLAN, "start", "goal", "wall", *OPERATIONS, *numbers, *costs]

    def fact(self, problem: Problem, name: str, cell: str, step: int) -> bool | None:
        if name == "on_path":
            return cell in _path_words(problem.answer, 3)
        done = [each.text.split()[0] for each in problem.steps[:step] if each.value == cell]
        closed = "close" in done
        return closed if name == "closed" else bool(done) and not closed


class WalkForm:
    """Start, goal and every cell's open sides; then one cell for each step of the walk, then the plan's cells."""

    facts: Mapping[str, int] = {"visited": 1, "on_path": 1, "dead_end": 0}

    def __init__(self, size: int, generator: str) -> None:
        if generator in OPEN:
            raise UsageError(f"a walk needs a maze with one way between any two cells: {', '.join(TREES)}.")
        self.size, self.generator = size, generator
        self.shortest, self.longest = 2, 2 * size * size - 1

    def layout(self, rng: Random) -> Maze:
        return Maze(self.size, (0, 0), (0, 0), tuple(TREES[self.generator](self.size, rng)))

    def work(self, maze: Maze) -> Worked | None:
        done, path = walk(maze)
        words = [cell_word(cell) for cell in done]
        answer = " ".join([PLAN, *map(cell_word, path)])
        return Worked(maze, rooms_text(maze), tuple(Step(word, word) for word in words), answer, tuple(path))

    def read(self, question: str) -> Maze:
        return _read_rooms(question, self.size)

    def check_trace(self, maze: Maze, words: Sequence[str]) -> Check:
        return check_walk(maze, words)

    def check_plan(self, maze: Maze, words: Sequence[str]) -> Check:
        return check_plan(maze, words, pairs=False)

    def written(self, words: Sequence[str]) -> int:
        return len(words)

    def vocabulary(self) -> list[str]:
        cells = [cell_word((x, y)) for y in range(self.size) for x in range(self.size)]
        return [PLAN, *cells, *(sides_word(bits) for bits in range(16))]

    def fact(self, problem: Problem, name: str, cell: str, step: int) -> bool | None:
        if name == "on_path":
            return cell in _path_words(problem.answer, 1)
        if name == "visited":
            return any(each.value == cell for each in problem.steps[:step])
        if not 1 <= step <= problem.n_steps:
            return None
        return problem.steps[step - 1].value not in _path_words(problem.answer, 1)


FORMS: dict[str, type[AStarForm] | type[WalkForm]] = {"astar": AStarForm, "walk": WalkForm}


def form_of(name: str, size: int, generator: str) -> Form:
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
