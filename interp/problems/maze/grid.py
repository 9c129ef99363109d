"""A maze: square cells, the open sides between them, a start and a goal."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from interp.errors import UsageError

# x counts columns from the left and y rows from the top, so north is y - 1.
Cell = tuple[int, int]
DIRECTIONS: dict[str, Cell] = {"N": (0, -1), "E": (1, 0), "S": (0, 1), "W": (-1, 0)}
BITS = {name: 1 << k for k, name in enumerate(DIRECTIONS)}
OPPOSITE = {"N": "S", "E": "W", "S": "N", "W": "E"}


@dataclass(frozen=True)
class Maze:
    """A square maze.

    Attributes:
        size: Number of cells on one side.
        start: First cell of a path.
        goal: Last cell of a path.
        exits: For each cell, row by row, the bits (`BITS`) of its open sides.
        walls: Cells that are walls; none in a maze with thin walls between its cells.
    """

    size: int
    start: Cell
    goal: Cell
    exits: tuple[int, ...]
    walls: frozenset[Cell] = field(default=frozenset())

    @classmethod
    def of_walls(cls, size: int, walls: Iterable[Cell], start: Cell, goal: Cell) -> Maze:
        """Return a maze whose walls are cells, as in Searchformer and Beyond Semantics.

        Raises:
            UsageError: The start or the goal is a wall or lies outside.
        """
        solid = frozenset(walls)
        for what, cell in (("start", start), ("goal", goal)):
            if cell in solid or not _inside(size, cell):
                raise UsageError(f"expected the {what} of a maze to be a free cell of the {size}x{size}, got {cell}.")
        exits = [0] * size * size
        for y in range(size):
            for x in range(size):
                if (x, y) not in solid:
                    exits[y * size + x] = _open_sides(size, solid, (x, y))
        return cls(size, start, goal, tuple(exits), solid)

    def neighbours(self, cell: Cell) -> list[Cell]:
        """Return the cells that one move reaches, in the order N, E, S, W."""
        x, y = cell
        bits = self.exits[y * self.size + x]
        return [(x + dx, y + dy) for name, (dx, dy) in DIRECTIONS.items() if bits & BITS[name]]

    def holds(self, cell: Cell) -> bool:
        """Return whether the cell lies inside the maze."""
        return _inside(self.size, cell)

    @property
    def free(self) -> list[Cell]:
        """Every cell that is not a wall, row by row."""
        return [(x, y) for y in range(self.size) for x in range(self.size) if (x, y) not in self.walls]

    def distance(self, cell: Cell) -> int:
        """Return the Manhattan distance to the goal."""
        return abs(cell[0] - self.goal[0]) + abs(cell[1] - self.goal[1])


def _inside(size: int, cell: Cell) -> bool:
    return 0 <= cell[0] < size and 0 <= cell[1] < size


def _open_sides(size: int, walls: frozenset[Cell], cell: Cell) -> int:
    x, y = cell
    steps = ((BITS[name], (x + dx, y + dy)) for name, (dx, dy) in DIRECTIONS.items())
    return sum(bit for bit, other in steps if _inside(size, other) and other not in walls)


def shortest_path(maze: Maze) -> list[Cell] | None:
    """Return a shortest path from start to goal, both included; None where there is none.

    Of several, the one that breadth-first search finds with neighbours in the order N, E, S, W.
    """
    reached_from: dict[Cell, Cell | None] = {maze.start: None}
    queue = deque([maze.start])
    while queue:
        cell = queue.popleft()
        if cell == maze.goal:
            return path_back(reached_from, cell)
        for other in maze.neighbours(cell):
            if other not in reached_from:
                reached_from[other] = cell
                queue.append(other)
    return None


def path_back(reached_from: dict[Cell, Cell | None], cell: Cell) -> list[Cell]:
    """Return the path that ends in `cell`.

    Args:
        reached_from: For each cell the cell before it; None for the start.
        cell: The last cell of the path.
    """
    path: list[Cell] = []
    current: Cell | None = cell
    while current is not None:
        path.append(current)
        current = reached_from[current]
    return path[::-1]
