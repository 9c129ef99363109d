"""Mazes, traces and plans as words, one word a token.

The A* form is that of Beyond Semantics (arXiv 2505.13775): `query start 0 2 goal 1 0 wall 1 2 reasoning close 0 2
c0 c3 create 0 1 c1 c2 ... solution plan 0 2 plan 0 1 ... end`. The walk form holds start and goal, the open sides of
every cell row by row, the cells of the walk, then `plan` and its cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from interp.errors import UsageError
from interp.problems.maze.astar import Operation
from interp.problems.maze.grid import BITS, Cell, Maze

QUERY, REASONING, SOLUTION, END, PLAN = "query", "reasoning", "solution", "end", "plan"
OPERATIONS = ("create", "close")


def cell_word(cell: Cell) -> str:
    """Return a cell as `3-1`: column 3 of row 1. No comma, because facts list their entities with commas."""
    return f"{cell[0]}-{cell[1]}"


def read_cell(word: str) -> Cell | None:
    """Return the cell that `cell_word` wrote; None for any other word."""
    x, dash, y = word.partition("-")
    a, b = read_number(x), read_number(y)
    return (a, b) if dash and a is not None and b is not None else None


def read_number(word: str, prefix: str = "") -> int | None:
    """Return the number after `prefix`, such as 12 for `c12` with prefix `c`; None for any other word."""
    digits = word.removeprefix(prefix)
    is_number = word.startswith(prefix) and digits.isascii() and digits.isdigit() and len(digits) < 10
    return int(digits) if is_number and digits == str(int(digits)) else None


def query_text(maze: Maze) -> str:
    """Return the question of the A* form; walls row by row."""
    walls = sorted(maze.walls, key=lambda cell: (cell[1], cell[0]))
    named_cells = [("start", maze.start), ("goal", maze.goal), *(("wall", wall) for wall in walls)]
    return " ".join([QUERY, *(f"{name} {x} {y}" for name, (x, y) in named_cells)])


def operation_text(operation: Operation) -> str:
    """Return the words of one operation of an A* trace."""
    x, y = operation.cell
    return f"{operation.name} {x} {y} c{operation.g} c{operation.h}"


def plan_text(path: Iterable[Cell]) -> str:
    """Return the answer of the A* form."""
    return " ".join(f"{PLAN} {x} {y}" for x, y in path)


def read_query(text: str, size: int) -> Maze:
    """Return the maze that `query_text` wrote.

    Raises:
        UsageError: The text is no such question; the message names the first wrong word.
    """
    words = text.split()
    if words[:1] != [QUERY]:
        raise UsageError(f"expected a maze's question to start with {QUERY!r}, got {' '.join(words[:1])!r}.")
    cells: dict[str, list[Cell]] = {"start": [], "goal": [], "wall": []}
    for k in range(1, len(words), 3):
        x, y = (read_number(word) for word in [*words[k + 1 : k + 3], "", ""][:2])
        if words[k] not in cells or x is None or y is None:
            text = " ".join(words[k : k + 3])
            raise UsageError(f"expected `start|goal|wall X Y` at word {k + 1} of a maze's question, got {text!r}.")
        cells[words[k]].append((x, y))
    for name in ("start", "goal"):
        if len(cells[name]) != 1:
            raise UsageError(f"expected one {name} in a maze's question, got {len(cells[name])}.")
    return Maze.of_walls(size, cells["wall"], cells["start"][0], cells["goal"][0])


def document(question: str, trace: str, plan: str) -> str:
    """Return a whole text of the A* form, as in the papers' data sets."""
    return " ".join(filter(None, [question, REASONING, trace, SOLUTION, plan, END]))


def read_document(text: str) -> tuple[str, str, str]:
    """Return the question, trace and plan of a whole text.

    Raises:
        UsageError: A marker is missing, repeated or out of order.
    """
    words = text.split()
    indices = []
    for marker in (REASONING, SOLUTION, END):
        if words.count(marker) != 1:
            raise UsageError(f"expected {marker!r} once in a maze's text, got it {words.count(marker)} times.")
        indices.append(words.index(marker))
    if indices != sorted(indices):
        raise UsageError(f"expected {REASONING!r}, {SOLUTION!r} and {END!r} in this order, got another order.")
    first, second, last = indices
    question, trace, plan = words[:first], words[first + 1 : second], words[second + 1 : last]
    return " ".join(question), " ".join(trace), " ".join(plan)


def sides_word(bits: int) -> str:
    """Return the open sides of one cell: `NE`, or `none`."""
    return "".join(name for name, bit in BITS.items() if bits & bit) or "none"


def rooms_text(maze: Maze) -> str:
    """Return the question of the walk form."""
    return " ".join([cell_word(maze.start), cell_word(maze.goal), *map(sides_word, maze.exits)])


def read_rooms(text: str, size: int) -> Maze:
    """Return the maze that `rooms_text` wrote.

    Raises:
        UsageError: The text is no such question.
    """
    words = text.split()
    sides = {sides_word(bits): bits for bits in range(16)}
    start, goal = (read_cell(word) for word in [*words[:2], "", ""][:2])
    if start is None or goal is None:
        raise UsageError(
            f"expected a maze's question to start with two cells like 0-3 5-1, got {' '.join(words[:2])!r}."
        )
    if len(words) != 2 + size * size:
        raise UsageError(f"expected {2 + size * size} words in a {size}x{size} maze's question, got {len(words)}.")
    wrong = next((word for word in words[2:] if word not in sides), None)
    if wrong is not None:
        raise UsageError(f"expected the open sides of a cell like NES or none, got {wrong!r}.")
    return Maze(size, start, goal, tuple(sides[word] for word in words[2:]))


def split_plan(text: str) -> tuple[list[str], list[str]]:
    """Return the words of a trace and of the plan after it; the plan begins at the first `plan`."""
    words = text.split()
    start = words.index(PLAN) if PLAN in words else len(words)
    return words[:start], words[start:]


def draw_maze(maze: Maze) -> str:
    """Return the maze as text: S and G, `#` for a wall, `.` for a free cell, `|` and `_` for thin walls."""
    rows = []
    for y in range(maze.size):
        row = ""
        for x in range(maze.size):
            row += _sign(maze, (x, y))
            if not maze.walls and x + 1 < maze.size:
                row += " " if maze.exits[y * maze.size + x] & BITS["E"] else "|"
        rows.append(row)
        if not maze.walls and y + 1 < maze.size:
            below: Sequence[int] = maze.exits[y * maze.size : (y + 1) * maze.size]
            rows.append(" ".join(" " if bits & BITS["S"] else "_" for bits in below))
    return "\n".join(rows)


def _sign(maze: Maze, cell: Cell) -> str:
    if cell == maze.start:
        return "S"
    if cell == maze.goal:
        return "G"
    return "#" if cell in maze.walls else "."
