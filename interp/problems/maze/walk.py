"""The depth-first walk: one cell after another through a maze with thin walls, backtracking written out.

From each cell the walk goes to the first neighbour (N, E, S, W) that it has not been to, and back to where it came
from when there is none; it stops at the goal. In a maze with one way between any two cells each walk has exactly
one right text, so its validator needs no lists: the next cell is right, or it is named why not.
"""

from __future__ import annotations

from collections.abc import Sequence

from interp.errors import UsageError
from interp.problems.maze.grid import Cell, Maze
from interp.problems.maze.text import read_cell
from interp.problems.maze.validate import Check, Fault

WALK_ERRORS = {
    "unparseable": "a word is not a cell of the maze",
    "wrong-start": "the walk does not begin at the start",
    "through-wall": "a wall is between this cell and the one before, or they are not next to each other",
    "against-order": "a legal move, but not the one of the depth-first walk",
    "after-goal": "a cell after the goal was reached",
    "goal-not-reached": "the walk ends before the goal",
}


def walk(maze: Maze) -> tuple[list[Cell], list[Cell]]:
    """The cells of the walk in order, start and goal included, and those of the path that it ends with.

    Raises `UsageError` where no way leads to the goal.
    """
    done, path, seen = [maze.start], [maze.start], {maze.start}
    while path[-1] != maze.goal:
        ahead = next((other for other in maze.neighbours(path[-1]) if other not in seen), None)
        if ahead is None:
            path.pop()
            if not path:
                raise UsageError(f"no way leads from {maze.start} to {maze.goal} in this maze, so it has no walk.")
        else:
            seen.add(ahead)
            path.append(ahead)
        done.append(path[-1])
    return done, path


def check_walk(maze: Maze, words: Sequence[str]) -> Check:
    """Whether `words` are the depth-first walk from start to goal, one cell in each word."""
    right, _ = walk(maze)
    for k, word in enumerate(words):
        kind = _error(maze, right, k, read_cell(word))
        if kind:
            return Check(k, Fault(kind, k + 1, f"{word}: {WALK_ERRORS[kind]}"))
    if len(words) < len(right):
        return Check(len(words), Fault("goal-not-reached", len(words) + 1, WALK_ERRORS["goal-not-reached"]))
    return Check(len(words), None)


def _error(maze: Maze, right: list[Cell], k: int, cell: Cell | None) -> str | None:
    if cell is None or not maze.holds(cell):
        return "unparseable"
    if k >= len(right):
        return "after-goal"
    if cell == right[k]:
        return None
    if k == 0:
        return "wrong-start"
    return "against-order" if cell in maze.neighbours(right[k - 1]) else "through-wall"
