"""Five generators of mazes, as in Beyond Semantics (arXiv 2505.13775) and Searchformer (arXiv 2402.14083).

`wilson`, `kruskal` and `dfs` draw a spanning tree of a grid of rooms, so one path joins any two cells. They differ in
which trees are likely (Wilson's are uniform). `drunkard` and `searchformer` leave open areas. Walls are cells: rooms
lie at even coordinates, the cell between two joined rooms is free, all others are walls.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from interp.problems.maze.grid import BITS, DIRECTIONS, OPPOSITE, Cell

Exits = list[int]
COVERAGE = 0.5
WALL_SHARE = (0.3, 0.5)


def wilson(n: int, rng: Random) -> Exits:
    """Return a uniform spanning tree of n x n rooms, by loop-erased random walks (Wilson 1996)."""
    exits = [0] * n * n
    around = _around(n)
    order = list(range(n * n))
    rng.shuffle(order)
    inside = bytearray(n * n)
    inside[order[0]] = 1
    random = rng.random
    for first in order[1:]:
        # Keeping only the last way out of each room erases the loops.
        last_exit: dict[int, tuple[str, int]] = {}
        room = first
        while not inside[room]:
            ways = around[room]
            last_exit[room] = step = ways[int(random() * len(ways))]
            room = step[1]
        room = first
        while not inside[room]:
            inside[room] = 1
            name, other = last_exit[room]
            _join(exits, room, name, other)
            room = other
    return exits


def kruskal(n: int, rng: Random) -> Exits:
    """Return a spanning tree of n x n rooms: passages in random order, each kept where it joins two parts."""
    exits = [0] * n * n
    part = list(range(n * n))

    def root(room: int) -> int:
        while part[room] != room:
            part[room] = part[part[room]]
            room = part[room]
        return room

    passages = [(room, name, other) for room, ways in enumerate(_around(n)) for name, other in ways if other > room]
    rng.shuffle(passages)
    for room, name, other in passages:
        a, b = root(room), root(other)
        if a != b:
            part[a] = b
            _join(exits, room, name, other)
    return exits


def dfs(n: int, rng: Random) -> Exits:
    """Return a spanning tree of n x n rooms from a random depth-first walk: long corridors, few branches."""
    exits = [0] * n * n
    around = _around(n)
    stack = [rng.randrange(n * n)]
    seen = {stack[0]}
    while stack:
        ways = [way for way in around[stack[-1]] if way[1] not in seen]
        if not ways:
            stack.pop()
            continue
        name, other = rng.choice(ways)
        _join(exits, stack[-1], name, other)
        seen.add(other)
        stack.append(other)
    return exits


def drunkard(size: int, rng: Random) -> frozenset[Cell]:
    """Return the walls that a random walk leaves; it frees connected cells until half of all are free."""
    free = {(rng.randrange(size), rng.randrange(size))}
    x, y = next(iter(free))
    moves = list(DIRECTIONS.values())
    while len(free) < COVERAGE * size * size:
        dx, dy = moves[int(rng.random() * 4)]
        if 0 <= x + dx < size and 0 <= y + dy < size:
            x, y = x + dx, y + dy
            free.add((x, y))
    return _others(size, free)


def searchformer(size: int, rng: Random) -> frozenset[Cell]:
    """Return random walls, 30 to 50 % of the cells; free cells need not be connected."""
    cells = [(x, y) for y in range(size) for x in range(size)]
    share = rng.uniform(*WALL_SHARE)
    return frozenset(rng.sample(cells, round(share * len(cells))))


TREES: dict[str, Callable[[int, Random], Exits]] = {"wilson": wilson, "kruskal": kruskal, "dfs": dfs}
OPEN: dict[str, Callable[[int, Random], frozenset[Cell]]] = {"drunkard": drunkard, "searchformer": searchformer}
GENERATORS = (*TREES, *OPEN)


def walls_of(generator: str, size: int, rng: Random) -> frozenset[Cell]:
    """Return the walls of a `size` x `size` maze, as cells, from one of `GENERATORS`."""
    if generator in OPEN:
        return OPEN[generator](size, rng)
    rooms = rooms_across(size)
    return _as_cells(size, rooms, TREES[generator](rooms, rng))


def rooms_across(size: int) -> int:
    """Return the number of rooms on one side of a maze of `size` cells."""
    return (size + 1) // 2


def _as_cells(size: int, n: int, exits: Exits) -> frozenset[Cell]:
    free: set[Cell] = set()
    for room, bits in enumerate(exits):
        x, y = 2 * (room % n), 2 * (room // n)
        free.add((x, y))
        if bits & BITS["E"]:
            free.add((x + 1, y))
        if bits & BITS["S"]:
            free.add((x, y + 1))
    return _others(size, free)


def _others(size: int, free: set[Cell]) -> frozenset[Cell]:
    return frozenset((x, y) for y in range(size) for x in range(size) if (x, y) not in free)


_AROUND: dict[int, list[list[tuple[str, int]]]] = {}


def _around(n: int) -> list[list[tuple[str, int]]]:
    """Return for each room of n x n the sides that lead to another room, with that room."""
    if n not in _AROUND:
        _AROUND[n] = [
            [
                (name, (y + dy) * n + x + dx)
                for name, (dx, dy) in DIRECTIONS.items()
                if 0 <= x + dx < n and 0 <= y + dy < n
            ]
            for y in range(n)
            for x in range(n)
        ]
    return _AROUND[n]


def _join(exits: Exits, room: int, name: str, other: int) -> None:
    exits[room] |= BITS[name]
    exits[other] |= BITS[OPPOSITE[name]]
