"""Mazes: properties of the generators, and A* and its validator against a plain A*."""

from __future__ import annotations

import collections
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import UsageError
from interp.problems.maze.astar import astar
from interp.problems.maze.generators import GENERATORS, OPEN, TREES, rooms_across, walls_of
from interp.problems.maze.grid import Maze, shortest_path
from interp.problems.maze.text import operation_text, plan_text
from interp.problems.maze.validate import check_plan, check_trace
from interp.problems.maze.walk import walk

seeds = st.integers(0, 10**6)
sizes = st.integers(3, 10)


def reached_from(cell: tuple[int, int], size: int, walls: frozenset) -> set[tuple[int, int]]:
    """A flood fill on coordinates, without the package's own neighbours."""
    found, waiting = {cell}, [cell]
    while waiting:
        x, y = waiting.pop()
        for other in ((x, y - 1), (x + 1, y), (x, y + 1), (x - 1, y)):
            if max(other) < size and min(other) >= 0 and other not in walls and other not in found:
                found.add(other)
                waiting.append(other)
    return found


def free_cells(size: int, walls: frozenset) -> set[tuple[int, int]]:
    return {(x, y) for x in range(size) for y in range(size)} - walls


def drawn(generator: str, size: int, seed: int) -> Maze | None:
    """A maze whose goal can be reached from its start."""
    rng = random.Random(seed)
    walls = walls_of(generator, size, rng)
    free = sorted(free_cells(size, walls))
    start = rng.choice(free)
    others = sorted(reached_from(start, size, walls) - {start})
    return Maze.of_walls(size, walls, start, rng.choice(others)) if others else None


@pytest.mark.parametrize("generator", GENERATORS)
@given(size=sizes, seed=seeds)
@settings(max_examples=25, deadline=None)
def test_the_same_seed_draws_the_same_walls_inside_the_square(generator: str, size: int, seed: int) -> None:
    walls = walls_of(generator, size, random.Random(seed))
    assert walls == walls_of(generator, size, random.Random(seed))
    assert all(0 <= x < size and 0 <= y < size for x, y in walls)


@pytest.mark.parametrize("generator", [*TREES, "drunkard"])
@given(size=sizes, seed=seeds)
@settings(max_examples=25, deadline=None)
def test_trees_and_the_drunkard_leave_one_connected_part(generator: str, size: int, seed: int) -> None:
    walls = walls_of(generator, size, random.Random(seed))
    free = free_cells(size, walls)
    assert reached_from(min(free), size, walls) == free


@pytest.mark.parametrize("generator", TREES)
@given(n=st.integers(2, 8), seed=seeds)
@settings(max_examples=25, deadline=None)
def test_a_tree_joins_all_rooms_with_as_few_doors_as_can_be(generator: str, n: int, seed: int) -> None:
    exits = TREES[generator](n, random.Random(seed))
    maze = Maze(n, (0, 0), (0, 0), tuple(exits))
    cells = [(x, y) for x in range(n) for y in range(n)]
    doors = {frozenset({cell, other}) for cell in cells for other in maze.neighbours(cell)}
    assert all(cell in maze.neighbours(other) for cell in cells for other in maze.neighbours(cell))
    assert len(doors) == n * n - 1
    assert all(shortest_path(Maze(n, (0, 0), cell, tuple(exits))) for cell in cells)


@pytest.mark.parametrize("generator", TREES)
def test_as_cells_a_tree_has_its_rooms_doors_and_nothing_else(generator: str) -> None:
    for size in (5, 6, 9):
        n = rooms_across(size)
        assert len(free_cells(size, walls_of(generator, size, random.Random(3)))) == 2 * n * n - 1


def test_wilson_draws_every_tree_equally_often_and_the_others_do_not() -> None:
    unevenness, kinds = {}, {}
    for generator in TREES:
        rng = random.Random(7)
        counts = collections.Counter(tuple(TREES[generator](3, rng)) for _ in range(19_200))
        kinds[generator] = len(counts)
        unevenness[generator] = sum((n - 100) ** 2 / 100 for n in counts.values()) + 100 * (192 - len(counts))
    assert kinds["wilson"] == kinds["kruskal"] == 192, "Kirchhoff: the 3x3 grid has 192 spanning trees"
    assert kinds["dfs"] < 192, "not every tree is a depth-first tree"
    # Chi-square over 191 degrees of freedom for the uniform one.
    assert unevenness["wilson"] < 191 + 4 * (2 * 191) ** 0.5 < 400 < min(unevenness["kruskal"], unevenness["dfs"])


@given(size=sizes, seed=seeds)
@settings(max_examples=40, deadline=None)
def test_coverage_of_the_drunkard_and_walls_of_searchformer(size: int, seed: int) -> None:
    covered = len(free_cells(size, walls_of("drunkard", size, random.Random(seed))))
    assert covered == -(-size * size // 2)
    share = len(walls_of("searchformer", size, random.Random(seed))) / size**2
    assert 0.3 - 0.5 / size**2 <= share <= 0.5 + 0.5 / size**2


def plain_astar(size: int, walls: frozenset, start: tuple, goal: tuple) -> tuple[list[str], int | None]:
    """A slow A* on lists: the trace in words, and the number of moves of the way found."""
    h = lambda cell: abs(cell[0] - goal[0]) + abs(cell[1] - goal[1])  # noqa: E731
    waiting: list[tuple[tuple, int]] = [(start, 0)]  # in the order of creation, each cell once
    closed: list[tuple] = []
    words = []
    while waiting:
        cell, g = min(waiting, key=lambda entry: (entry[1] + h(entry[0]), entry[1]))  # min takes the oldest of equals
        waiting.remove((cell, g))
        closed.append(cell)
        words.append(f"close {cell[0]} {cell[1]} c{g} c{h(cell)}")
        if cell == goal:
            return words, g
        x, y = cell
        for other in ((x, y - 1), (x + 1, y), (x, y + 1), (x - 1, y)):
            if not (0 <= other[0] < size and 0 <= other[1] < size) or other in walls or other in closed:
                continue
            known = [cost for known_cell, cost in waiting if known_cell == other]
            if known and known[0] <= g + 1:
                continue
            waiting = [entry for entry in waiting if entry[0] != other] + [(other, g + 1)]
            words.append(f"create {other[0]} {other[1]} c{g + 1} c{h(other)}")
    return words, None


@pytest.mark.parametrize("generator", GENERATORS)
@given(size=sizes, seed=seeds)
@settings(max_examples=30, deadline=None)
def test_astar_writes_what_a_plain_astar_writes(generator: str, size: int, seed: int) -> None:
    maze = drawn(generator, size, seed)
    if maze is None:
        return
    words, moves = plain_astar(size, maze.walls, maze.start, maze.goal)
    search = astar(maze)
    assert [operation_text(done) for done in search.operations] == words
    assert search.path is not None and len(search.path) - 1 == moves
    shortest = shortest_path(maze)
    assert shortest is not None and len(shortest) == len(search.path)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("generator", GENERATORS)
@given(size=sizes, seed=seeds)
@settings(max_examples=20, deadline=None)
def test_the_validators_accept_every_right_trace_and_plan(generator: str, size: int, seed: int, strict: bool) -> None:
    maze = drawn(generator, size, seed)
    if maze is None:
        return
    search = astar(maze)
    trace = check_trace(maze, " ".join(map(operation_text, search.operations)).split(), strict=strict)
    assert trace.valid and trace.n_right == len(search.operations), trace.fault
    assert search.path is not None
    assert check_plan(maze, plan_text(search.path).split()).valid


@given(size=sizes, seed=seeds, drop=st.integers(1, 10**6))
@settings(max_examples=60, deadline=None)
def test_a_trace_that_lost_an_operation_is_never_strictly_valid(size: int, seed: int, drop: int) -> None:
    maze = drawn("wilson", size, seed)
    assert maze is not None
    operations = [operation_text(done) for done in astar(maze).operations]
    at = drop % len(operations)
    short = operations[:at] + operations[at + 1 :]
    assert not check_trace(maze, " ".join(short).split(), strict=True).valid
    assert plain_astar(size, maze.walls, maze.start, maze.goal)[0] != short


def test_no_cell_is_ever_created_twice() -> None:
    """Ties to the lower g see to it that the first way found to a cell is a cheapest one."""
    for seed in range(200):
        maze = drawn("searchformer", 10, seed)
        if maze is None:
            continue
        created = [done.cell for done in astar(maze).operations if done.name == "create"]
        assert len(created) == len(set(created))


def test_astar_says_where_no_way_leads() -> None:
    maze = Maze.of_walls(3, {(1, 0), (1, 1), (1, 2)}, (0, 0), (2, 2))
    search = astar(maze)
    assert search.path is None and shortest_path(maze) is None
    assert [done.cell for done in search.operations if done.name == "close"] == [(0, 0), (0, 1), (0, 2)]
    with pytest.raises(UsageError, match=r"expected a maze with a path from \(0, 0\) to \(2, 2\), got none"):
        walk(maze)


@given(n=st.integers(2, 8), seed=seeds)
@settings(max_examples=40, deadline=None)
def test_a_walk_is_a_depth_first_search_that_writes_its_path_back(n: int, seed: int) -> None:
    rng = random.Random(seed)
    exits = tuple(TREES["wilson"](n, rng))
    cells = [(x, y) for x in range(n) for y in range(n)]
    start, goal = rng.sample(cells, 2)
    maze = Maze(n, start, goal, exits)

    def search(cell: tuple, before: tuple | None) -> tuple[list, list | None]:
        """Recursive: what is walked from `cell` on, and the path to the goal if it is found."""
        if cell == goal:
            return [cell], [cell]
        walked = [cell]
        for other in maze.neighbours(cell):
            if other == before:
                continue
            further, path = search(other, cell)
            walked += further
            if path:
                return walked, [cell, *path]
            walked.append(cell)
        return walked, None

    assert walk(maze) == search(start, None)
    assert walk(maze)[1] == shortest_path(maze)


@pytest.mark.parametrize("name", ["start", "goal"])
@pytest.mark.parametrize("cell", [(1, 1), (3, 0), (0, -1)])
def test_a_maze_refuses_ends_in_a_wall_or_outside(name: str, cell: tuple) -> None:
    ends = {"start": (0, 0), "goal": (2, 2)} | {name: cell}
    with pytest.raises(UsageError, match=f"expected the {name} of a maze to be a free cell of the 3x3"):
        Maze.of_walls(3, {(1, 1)}, ends["start"], ends["goal"])


def test_open_generators_are_not_trees() -> None:
    for generator in OPEN:
        result = [walls_of(generator, 9, random.Random(seed)) for seed in range(50)]
        assert len(set(result)) == 50
