"""Mazes, traces and plans as words, one word for each token.

The A* form is that of Beyond Semantics (arXiv 2505.13775): `query start 0 2 goal 1 0 wall 1 2 reasoning close 0 2
c0 c3 create 0 1 c1 c2 ... solution plan 0 2 plan 0 1 ... end`. The walk form is shorter: start and goal, the open
sides of every cell row by row, the cells of the walk, then `plan` and its cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from interp.errors import UsageError
from interp.problems.maze.astar import Operation
from interp.problems.maze.grid import BITS, Cell, Maze

QUERY, REASONING, SOLUTION, END, PLAN = "query", "reasoning", "solution", "end", "plan"
OPERATIONS = ("create", "close")


def cell_word(cell: Cell) -> str:
    """`3-1` is column 3 of row 1. No comma, so that a fact about a cell can be named."""
    return f"{cell[0]}-{cell[1]}"


def read_cell(word: str) -> Cell | None:
    """The cell that `cell_word` wrote, or None."""
    x, dash, y = word.partition("-")
    a, b = read_number(x), read_number(y)
    return (a, b) if dash and a is not None and b is not None else None


def read_number(word: str, prefix: str = "") -> int | None:
    """The number that `prefix` and plain digits write, as `c12` with prefix `c`; None for anything else."""
    digits = word.removeprefix(prefix)
    plain = word.startswith(prefix) and digits.isascii() and digits.isdigit() and len(digits) < 10
    return int(digits) if plain and digits == str(int(digits)) else None


def query_text(maze: Maze) -> str:
    """The question of the A* form; walls row by row."""
    walls = sorted(maze.walls, key=lambda cell: (cell[1], cell[0]))
    places = [("start", maze.start), ("goal", maze.goal), *(("wall", wall) for wall in walls)]
    return " ".join([QUERY, *(f"{name} {x} {y}" for name, (x, y) in places)])


def operation_text(done: Operation) -> str:
    return f"{done.name} {done.cell[0]} {done.cell[1]} c{done.g} c{done.h}"


def plan_text(path: Iterable[Cell]) -> str:
    """The answer of the A* form."""
    return " ".join(f"{PLAN} {x} {y}" for x, y in path)


def read_query(text: str, size: int) -> Maze:
    """The maze that `query_text` wrote. Raises `UsageError` that names the first word that does not fit."""
    words = text.split()
    if words[:1] != [QUERY]:
        raise UsageError(f"a maze's question starts with {QUERY!r}, but {' '.join(words[:1])!r} came.")
    places: dict[str, list[Cell]] = {"start": [], "goal": [], "wall": []}
    for k in range(1, len(words), 3):
        x, y = (read_number(word) for word in [*words[k + 1 : k + 3], "", ""][:2])
        if words[k] not in places or x is None or y is None:
            found = " ".join(words[k : k + 3])
            raise UsageError(f"word {k + 1} of a maze's question should be `start|goal|wall X Y`, but {found!r} came.")
        places[words[k]].append((x, y))
    for name in ("start", "goal"):
        if len(places[name]) != 1:
            raise UsageError(f"a maze's question names one {name}, but {len(places[name])} came.")
    return Maze.of_walls(size, places["wall"], places["start"][0], places["goal"][0])


def document(question: str, trace: str, plan: str) -> str:
    """A whole text of the A* form, as the papers' data sets hold them."""
    return " ".join(filter(None, [question, REASONING, trace, SOLUTION, plan, END]))


def read_document(text: str) -> tuple[str, str, str]:
    """Question, trace and plan of a whole text. Raises `UsageError` where a marker is missing or out of place."""
    words = text.split()
    at = []
    for marker in (REASONING, SOLUTION, END):
        if words.count(marker) != 1:
            raise UsageError(f"a maze's text holds {marker!r} once, but it came {words.count(marker)} times.")
        at.append(words.index(marker))
    if at != sorted(at):
        raise UsageError(f"a maze's text holds {REASONING!r}, {SOLUTION!r} and {END!r} in this order.")
    question, trace, plan = words[: at[0]], words[at[0] + 1 : at[1]], words[at[1] + 1 : at[2]]
    return " ".join(question), " ".join(trace), " ".join(plan)


def sides_word(bits: int) -> str:
    """The open sides of one cell: `NE`, or `none`."""
    return "".join(name for name, bit in BITS.items() if bits & bit) or "none"


def rooms_text(maze: Maze) -> str:
    """The question of the walk form."""
    return " ".join([cell_word(maze.start), cell_word(maze.goal), *map(sides_word, maze.exits)])


def read_rooms(text: str, size: int) -> Maze:
    """The maze that `rooms_text` wrote. Raises `UsageError` on anything else."""
    words = text.split()
    sides = {sides_word(bits): bits for bits in range(16)}
    start, goal = (read_cell(word) for word in [*words[:2], "", ""][:2])
    if start is None or goal is None:
        raise UsageError(f"a maze's question starts with two cells like 0-3 5-1, but {' '.join(words[:2])!r} came.")
    if len(words) != 2 + size * size:
        raise UsageError(f"a {size}x{size} maze's question has {2 + size * size} words, but {len(words)} came.")
    wrong = next((word for word in words[2:] if word not in sides), None)
    if wrong is not None:
        raise UsageError(f"the open sides of a cell are written like NES or none, but {wrong!r} came.")
    return Maze(size, start, goal, tuple(sides[word] for word in words[2:]))


def halves(text: str) -> tuple[list[str], list[str]]:
    """The words of a trace and of the plan after it; the plan begins at the first `plan`."""
    words = text.split()
    at = words.index(PLAN) if PLAN in words else len(words)
    return words[:at], words[at:]


def drawing(maze: Maze) -> str:
    """The maze for a person, one row after another: S, G, `#` a wall, `.` a free cell; thin walls as `|` and `_`."""
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
