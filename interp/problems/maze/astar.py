"""A* that records its operations, as in Searchformer (arXiv 2402.14083) and Beyond Semantics (arXiv 2505.13775).

Moves cost one, the heuristic is the Manhattan distance, and neighbours come in the order N, E, S, W. A `create` is
recorded where a cell that is neither closed nor a wall gets a strictly lower cost. A `close` is recorded when a cell
is taken from the open list: the lowest f = g + h first, then the lowest g, then the oldest. The start is closed
without being created, and the search stops when the goal is closed.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Literal

from interp.problems.maze.grid import Cell, Maze, path_back


@dataclass(frozen=True)
class Operation:
    """One line of a trace.

    Attributes:
        name: "create" or "close".
        cell: The cell.
        g: Cost of the way to the cell.
        h: Manhattan distance from the cell to the goal.
    """

    name: Literal["create", "close"]
    cell: Cell
    g: int
    h: int


@dataclass(frozen=True)
class Search:
    """The result of a search.

    Attributes:
        operations: Every create and close, in order.
        path: The path from start to goal, both included; None where the goal cannot be reached.
    """

    operations: tuple[Operation, ...]
    path: tuple[Cell, ...] | None


def astar(maze: Maze) -> Search:
    """Search `maze` and record every operation."""
    operations: list[Operation] = []
    reached_from: dict[Cell, Cell | None] = {maze.start: None}
    open_list = [(maze.distance(maze.start), 0, 0, maze.start)]
    while open_list:
        _, cost, _, cell = heapq.heappop(open_list)
        operations.append(Operation("close", cell, cost, maze.distance(cell)))
        if cell == maze.goal:
            return Search(tuple(operations), tuple(path_back(reached_from, cell)))
        for other in maze.neighbours(cell):
            # With unit costs, Manhattan h and ties to the lower g, the first way to a cell is a cheapest one. So a
            # strict improvement is a first visit, and no cell is created twice.
            if other in reached_from:
                continue
            reached_from[other] = cell
            h = maze.distance(other)
            heapq.heappush(open_list, (cost + 1 + h, cost + 1, len(reached_from), other))
            operations.append(Operation("create", other, cost + 1, h))
    return Search(tuple(operations), None)
