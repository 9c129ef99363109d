"""The depth-first walk through a maze with thin walls, backtracking included.

From each cell the walk goes to the first unvisited neighbour (N, E, S, W), or back to the cell before when there is
none. It stops at the goal. In a maze with one path between any two cells a walk has exactly one right text, so its
validator compares cell by cell.
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
    """Walk from start to goal.

    Returns:
        The cells of the walk in order, and the cells of the path that it finds; both with start and goal.

    Raises:
        UsageError: The goal cannot be reached.
    """
    cells, path, visited = [maze.start], [maze.start], {maze.start}
    while path[-1] != maze.goal:
        ahead = next((other for other in maze.neighbours(path[-1]) if other not in visited), None)
        if ahead is None:
            path.pop()
            if not path:
                raise UsageError(
                    f"expected a maze with a path from {maze.start} to {maze.goal}, got none; take another maze."
                )
        else:
            visited.add(ahead)
            path.append(ahead)
        cells.append(path[-1])
    return cells, path


def check_walk(maze: Maze, words: Sequence[str]) -> Check:
    """Check that `words` are the depth-first walk from start to goal, one cell a word."""
    right, _ = walk(maze)
    for k, word in enumerate(words):
        error = _error(maze, right, k, read_cell(word))
        if error:
            return Check(k, Fault(error, k + 1, f"{word}: {WALK_ERRORS[error]}"))
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
