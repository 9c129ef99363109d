"""A* that writes down what it does, as in Searchformer (arXiv 2402.14083) and Beyond Semantics (arXiv 2505.13775).

Moves cost one, the heuristic is the Manhattan distance, neighbours come in the order N, E, S, W. A `create` is
written only where a cell that is neither closed nor a wall gets a strictly lower cost; a `close` when a cell is
taken from the open list, the lowest f = g + h first, then the lowest g, then the oldest. The start is closed
without ever being created, and the search stops when the goal is closed.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Literal

from interp.problems.maze.grid import Cell, Maze, way_back


@dataclass(frozen=True)
class Operation:
    """One line of a trace: `create` or `close` a cell, with its cost so far (g) and its distance to the goal (h)."""

    name: Literal["create", "close"]
    cell: Cell
    g: int
    h: int


@dataclass(frozen=True)
class Search:
    """What A* did, and the path that it found, start and goal included; None where the goal cannot be reached."""

    operations: tuple[Operation, ...]
    path: tuple[Cell, ...] | None


def astar(maze: Maze) -> Search:
    """Search `maze` and record every operation."""
    done: list[Operation] = []
    came: dict[Cell, Cell | None] = {maze.start: None}
    waiting = [(maze.distance(maze.start), 0, 0, maze.start)]
    while waiting:
        _, cost, _, cell = heapq.heappop(waiting)
        done.append(Operation("close", cell, cost, maze.distance(cell)))
        if cell == maze.goal:
            return Search(tuple(done), tuple(way_back(came, cell)))
        for other in maze.neighbours(cell):
            # With unit costs, Manhattan h and ties to the lower g, the first way found to a cell is a cheapest
            # one: a strict improvement is a first visit, so nothing is created twice.
            if other in came:
                continue
            came[other] = cell
            h = maze.distance(other)
            heapq.heappush(waiting, (cost + 1 + h, cost + 1, len(came), other))
            done.append(Operation("create", other, cost + 1, h))
    return Search(tuple(done), None)
