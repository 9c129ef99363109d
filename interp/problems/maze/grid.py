"""A maze: square cells, what is open between them, a start and a goal."""

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
    """`size` x `size` cells. `exits` holds, row by row, the bits (`BITS`) of the sides that each cell is open to.

    `walls` are the cells that are walls themselves; a maze with thin walls between its cells has none.
    """

    size: int
    start: Cell
    goal: Cell
    exits: tuple[int, ...]
    walls: frozenset[Cell] = field(default=frozenset())

    @classmethod
    def of_walls(cls, size: int, walls: Iterable[Cell], start: Cell, goal: Cell) -> Maze:
        """A maze whose walls are cells, as in Searchformer and Beyond Semantics. Raises on a wall at either end."""
        solid = frozenset(walls)
        for what, cell in (("start", start), ("goal", goal)):
            if cell in solid or not _inside(size, cell):
                raise UsageError(f"the {what} of a maze must be a free cell of the {size}x{size}, but {cell} came.")
        exits = [0] * size * size
        for y in range(size):
            for x in range(size):
                if (x, y) not in solid:
                    exits[y * size + x] = _open_sides(size, solid, (x, y))
        return cls(size, start, goal, tuple(exits), solid)

    def neighbours(self, cell: Cell) -> list[Cell]:
        """The cells that one move reaches, in the order N, E, S, W."""
        x, y = cell
        bits = self.exits[y * self.size + x]
        return [(x + dx, y + dy) for name, (dx, dy) in DIRECTIONS.items() if bits & BITS[name]]

    def holds(self, cell: Cell) -> bool:
        return _inside(self.size, cell)

    @property
    def free(self) -> list[Cell]:
        """Every cell that is not a wall, row by row."""
        return [(x, y) for y in range(self.size) for x in range(self.size) if (x, y) not in self.walls]

    def distance(self, cell: Cell) -> int:
        """Manhattan distance to the goal."""
        return abs(cell[0] - self.goal[0]) + abs(cell[1] - self.goal[1])


def _inside(size: int, cell: Cell) -> bool:
    return 0 <= cell[0] < size and 0 <= cell[1] < size


def _open_sides(size: int, walls: frozenset[Cell], cell: Cell) -> int:
    x, y = cell
    steps = ((BITS[name], (x + dx, y + dy)) for name, (dx, dy) in DIRECTIONS.items())
    return sum(bit for bit, other in steps if _inside(size, other) and other not in walls)


def shortest_path(maze: Maze) -> list[Cell] | None:
    """The cells of a shortest way from start to goal, both included; None where there is none.

    Of several, the one that breadth-first search finds with neighbours in the order N, E, S, W.
    """
    came: dict[Cell, Cell | None] = {maze.start: None}
    waiting = deque([maze.start])
    while waiting:
        cell = waiting.popleft()
        if cell == maze.goal:
            return way_back(came, cell)
        for other in maze.neighbours(cell):
            if other not in came:
                came[other] = cell
                waiting.append(other)
    return None


def way_back(came: dict[Cell, Cell | None], cell: Cell) -> list[Cell]:
    """The path that ends in `cell`, where `came` says from where each cell was reached."""
    path: list[Cell] = []
    here: Cell | None = cell
    while here is not None:
        path.append(here)
        here = came[here]
    return path[::-1]
