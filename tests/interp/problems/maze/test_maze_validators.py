"""The validators name every kind of error and the position of the first one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.problems.maze.astar import Operation, astar
from interp.problems.maze.generators import walls_of
from interp.problems.maze.grid import Maze
from interp.problems.maze.text import operation_text
from interp.problems.maze.validate import (
    PLAN_ERRORS,
    STRICT_ERRORS,
    TRACE_ERRORS,
    check_plan,
    check_trace,
    parse_operation,
)
from interp.problems.maze.walk import WALK_ERRORS, check_walk, walk

# S . .
# . # .
# . . G   two ways round a wall
MAZE = Maze.of_walls(3, {(1, 1)}, (0, 0), (2, 2))
TRACE = [
    "close 0 0 c0 c4",
    "create 1 0 c1 c3",
    "create 0 1 c1 c3",
    "close 1 0 c1 c3",
    "create 2 0 c2 c2",
    "close 0 1 c1 c3",
    "create 0 2 c2 c2",
    "close 2 0 c2 c2",
    "create 2 1 c3 c1",
    "close 0 2 c2 c2",
    "create 1 2 c3 c1",
    "close 2 1 c3 c1",
    "create 2 2 c4 c0",
    "close 1 2 c3 c1",
    "close 2 2 c4 c0",
]
PLAN = ["plan 0 0", "plan 1 0", "plan 2 0", "plan 2 1", "plan 2 2"]

# A corridor with a dead end beside it, so that f differs between open cells.
# S . G
# . # #
# . # #
BENT = Maze.of_walls(3, {(1, 1), (2, 1), (1, 2), (2, 2)}, (0, 0), (2, 0))


def words(lines: list[str]) -> list[str]:
    return " ".join(lines).split()


def changed(at: int, line: str | None) -> list[str]:
    """The right trace with one operation (from 1) replaced, or left out."""
    return [*TRACE[: at - 1], *([line] if line else []), *TRACE[at:]]


def test_the_example_is_what_astar_writes() -> None:
    assert [operation_text(done) for done in astar(MAZE).operations] == TRACE
    assert check_trace(MAZE, words(TRACE), strict=True).valid


@pytest.mark.parametrize(
    ("lines", "kind", "at"),
    [
        (changed(3, "create 0 one c1 c3"), "unparseable", 3),
        (changed(3, "make 0 1 c1 c3"), "unparseable", 3),
        (changed(3, "create 0 1 1 c3"), "unparseable", 3),
        (changed(3, "create 0 01 c1 c3"), "unparseable", 3),
        (changed(3, "create 0 3 c1 c3"), "unparseable", 3),
        ([*TRACE[:4], "create 2 0"], "unparseable", 5),
        (changed(1, "create 1 0 c1 c3"), "invalid-neighbour", 1),
        (changed(5, "create 1 1 c2 c2"), "invalid-neighbour", 5),
        (changed(5, "create 2 1 c2 c1"), "invalid-neighbour", 5),
        (changed(5, "create 0 0 c2 c4"), "invalid-neighbour", 5),
        ([*TRACE[:3], "create 1 0 c1 c3", *TRACE[3:]], "no-improvement", 4),
        (changed(5, "create 2 0 c3 c2"), "wrong-cost", 5),
        (changed(5, "create 2 0 c2 c3"), "wrong-cost", 5),
        (changed(6, "close 0 1 c2 c3"), "wrong-cost", 6),
        (changed(6, "close 0 1 c1 c2"), "wrong-cost", 6),
        ([*TRACE[:6], "close 1 0 c1 c3", *TRACE[6:]], "closed-twice", 7),
        (changed(4, "close 2 0 c2 c2"), "not-open", 4),
        (changed(1, "close 0 1 c1 c3"), "not-open", 1),
        ([*TRACE, "close 1 0 c1 c3"], "after-goal", 16),
        (TRACE[:-1], "goal-not-closed", 15),
        ([], "goal-not-closed", 1),
    ],
)
def test_a_corrupted_trace_is_named_and_placed(lines: list[str], kind: str, at: int) -> None:
    check = check_trace(MAZE, words(lines))
    assert not check.valid and check.fault is not None
    assert (check.fault.name, check.fault.number, check.n_right) == (kind, at, at - 1)
    assert TRACE_ERRORS[kind] in check.fault.message


def test_a_close_while_an_open_cell_has_a_lower_f() -> None:
    right = [operation_text(done) for done in astar(BENT).operations]
    assert right[1:3] == ["create 1 0 c1 c1", "create 0 1 c1 c3"]
    check = check_trace(BENT, words([*right[:3], "close 0 1 c1 c3"]))
    assert check.fault is not None and (check.fault.name, check.fault.number) == ("lower-f-open", 4)
    assert "close 0 1 c1 c3" in check.fault.message


@pytest.mark.parametrize(
    ("lines", "kind", "at"),
    [
        (changed(3, None), "missing-create", 3),
        ([TRACE[0], TRACE[2], TRACE[1], *TRACE[3:]], "neighbour-order", 2),
        ([*TRACE[:5], "close 2 0 c2 c2"], "tie", 6),
    ],
)
def test_the_strict_form_wants_all_neighbours_in_order_and_ties_by_g(lines: list[str], kind: str, at: int) -> None:
    check = check_trace(MAZE, words(lines), strict=True)
    assert check.fault is not None and (check.fault.name, check.fault.number) == (kind, at)
    assert STRICT_ERRORS[kind] in check.fault.message
    loose = check_trace(MAZE, words(lines))
    assert loose.fault is None or loose.fault.name not in STRICT_ERRORS


def test_every_kind_of_trace_error_is_met_above() -> None:
    marks = test_a_corrupted_trace_is_named_and_placed.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {kind for _, kind, _ in marks} | {"lower-f-open"} == set(TRACE_ERRORS)


def judged_slowly(maze: Maze, operations: list[Operation]) -> bool:
    """Validity by the definition: each operation against lists that are rebuilt from the start every time."""
    for k, done in enumerate(operations):
        before = operations[:k]
        closes = [each for each in before if each.name == "close"]
        closed = {each.cell for each in closes}
        cost = {maze.start: 0} | {each.cell: each.g for each in before if each.name == "create"}
        waiting = {cell: g for cell, g in cost.items() if cell not in closed}
        if maze.goal in closed or done.h != maze.distance(done.cell):
            return False
        if done.name == "close":
            f = {cell: g + maze.distance(cell) for cell, g in waiting.items()}
            if waiting.get(done.cell) != done.g or min(f.values()) < f[done.cell]:
                return False
        else:
            near = closes and done.cell in maze.neighbours(closes[-1].cell)
            if not near or done.cell in closed or done.g != closes[-1].g + 1:
                return False
            if done.cell in waiting and waiting[done.cell] <= done.g:
                return False
    return maze.goal in {each.cell for each in operations if each.name == "close"}


@given(
    seed=st.integers(0, 10**6),
    generator=st.sampled_from(["wilson", "drunkard"]),
    edits=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 10**6), st.integers(0, 10**6)), max_size=3),
)
@settings(max_examples=150, deadline=None)
def test_the_validator_judges_edited_traces_as_the_definition_does(seed: int, generator: str, edits: list) -> None:
    rng = random.Random(seed)
    walls = walls_of(generator, 5, rng)
    free = [(x, y) for x in range(5) for y in range(5) if (x, y) not in walls]
    maze = Maze.of_walls(5, walls, *rng.sample(free, 2))
    operations = list(astar(maze).operations)
    for what, a, b in edits:
        if not operations:
            break
        k, m = a % len(operations), b % len(operations)
        done = operations[k]
        if what == 0:
            del operations[k]
        elif what == 1:
            operations.insert(k, operations[m])
        elif what == 2:
            operations[k], operations[m] = operations[m], operations[k]
        elif what == 3:
            operations[k] = Operation(done.name, done.cell, done.g + b % 2, done.h + b // 2 % 2)
        else:
            operations[k] = Operation(done.name, free[b % len(free)], done.g, done.h)
    text = words([operation_text(done) for done in operations])
    assert check_trace(maze, text).valid == judged_slowly(maze, operations)


@pytest.mark.parametrize(
    ("lines", "kind", "at"),
    [
        ([], "empty", 1),
        (["plan 0 0", "plan 1"], "unparseable", 2),
        (["plan 0 0", "go 1 0"], "unparseable", 2),
        (["plan 0 0", "plan 0 9"], "unparseable", 2),
        (PLAN[1:], "wrong-start", 1),
        (["plan 0 0", "plan 1 0", "plan 1 1", "plan 2 1", "plan 2 2"], "through-wall", 3),
        (["plan 0 0", "plan 2 0", "plan 2 1", "plan 2 2"], "jump", 2),
        (["plan 0 0", "plan 0 0", *PLAN[1:]], "jump", 2),
        (PLAN[:-1], "goal-not-reached", 4),
    ],
)
def test_a_corrupted_plan_is_named_and_placed(lines: list[str], kind: str, at: int) -> None:
    check = check_plan(MAZE, words(lines))
    assert check.fault is not None and (check.fault.name, check.fault.number) == (kind, at)
    assert PLAN_ERRORS[kind] in check.fault.message


@pytest.mark.parametrize(
    "lines",
    [
        PLAN,
        ["plan 0 0", "plan 0 1", "plan 0 2", "plan 1 2", "plan 2 2"],
        ["plan 0 0", "plan 0 1", "plan 0 0", *PLAN[1:]],
    ],
)
def test_any_legal_way_is_a_valid_plan(lines: list[str]) -> None:
    assert check_plan(MAZE, words(lines)).valid


# S . .     three rooms in a row and one below the middle one; the walk looks east before it goes south
#   G
ROOMS = Maze(3, (0, 0), (1, 1), (2, 14, 8, 0, 1, 0, 0, 0, 0))


def test_the_walk_of_the_example() -> None:
    done, path = walk(ROOMS)
    assert [f"{x}-{y}" for x, y in done] == ["0-0", "1-0", "2-0", "1-0", "1-1"]
    assert path == [(0, 0), (1, 0), (1, 1)]


@pytest.mark.parametrize(
    ("text", "kind", "at"),
    [
        ("0-0 1-0 2-0 north", "unparseable", 4),
        ("0-0 1-0 2-0 3-0", "unparseable", 4),
        ("1-0 2-0 1-0 1-1", "wrong-start", 1),
        ("0-0 1-0 2-0 2-1", "through-wall", 4),
        ("0-0 1-1", "through-wall", 2),
        ("0-0 1-0 1-1", "against-order", 3),
        ("0-0 1-0 0-0", "against-order", 3),
        ("0-0 1-0 2-0 1-0 1-1 1-0", "after-goal", 6),
        ("0-0 1-0 2-0", "goal-not-reached", 4),
        ("", "goal-not-reached", 1),
    ],
)
def test_a_corrupted_walk_is_named_and_placed(text: str, kind: str, at: int) -> None:
    assert check_walk(ROOMS, ["0-0", "1-0", "2-0", "1-0", "1-1"]).valid
    check = check_walk(ROOMS, text.split())
    assert check.fault is not None and (check.fault.name, check.fault.number, check.n_right) == (kind, at, at - 1)
    assert WALK_ERRORS[kind] in check.fault.message


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_no_text_breaks_a_validator(text: str) -> None:
    assert not check_trace(MAZE, text.split()).valid
    assert not check_walk(ROOMS, text.split()).valid
    assert not check_plan(MAZE, text.split()).valid
    assert not check_plan(MAZE, text.split(), pairs=False).valid


@pytest.mark.parametrize("line", ["", "create 1 2 c3", "close 1 2 c3 c4 c5", "close 1 2 c3 4", "close -1 2 c3 c4"])
def test_what_is_not_an_operation_is_none(line: str) -> None:
    assert parse_operation(line.split()) is None
    assert parse_operation(["close", "1", "2", "c3", "c4"]) == Operation("close", (1, 2), 3, 4)
