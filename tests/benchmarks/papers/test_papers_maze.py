"""The section on Beyond Semantics: 2x2 tables, φ, bins, error shares, and judgement of texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.papers import maze
from benchmarks.papers.validity import by_length, error_shares, phi, trace_given_plan, two_by_two
from interp.problems.maze import MazeTask
from interp.traces import Trace

booleans = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def test_a_table_counts_every_text_once() -> None:
    table = two_by_two(np.array([1, 1, 0, 0, 1], bool), np.array([1, 0, 1, 0, 1], bool))
    assert table == {"both": 2, "trace only": 1, "plan only": 1, "neither": 1}
    assert trace_given_plan(table) == pytest.approx(2 / 3)
    assert trace_given_plan({"both": 0, "trace only": 3, "plan only": 0, "neither": 1}) is None


@given(booleans)
@settings(max_examples=100, deadline=None)
def test_phi_is_the_correlation_of_the_two(pairs: list[tuple[bool, bool]]) -> None:
    trace, plan = np.array(pairs).T
    result = phi(two_by_two(trace, plan))
    if trace.std() == 0 or plan.std() == 0:
        assert result is None
    else:
        assert result == pytest.approx(np.corrcoef(trace.astype(float), plan.astype(float))[0, 1])


def test_phi_of_tables_that_say_it_plainly() -> None:
    assert phi({"both": 5, "trace only": 0, "plan only": 0, "neither": 5}) == 1
    assert phi({"both": 0, "trace only": 5, "plan only": 5, "neither": 0}) == -1
    assert phi({"both": 4, "trace only": 4, "plan only": 4, "neither": 4}) == 0


@given(booleans, st.data())
@settings(max_examples=50, deadline=None)
def test_bins_share_the_texts_out(pairs: list[tuple[bool, bool]], data: st.DataObject) -> None:
    trace, plan = np.array(pairs).T
    lengths = np.array(data.draw(st.lists(st.integers(1, 40), min_size=len(pairs), max_size=len(pairs))))
    rows = by_length(trace, plan, lengths, (8, 16, 24))
    assert rows[0]["steps"] == "all" and rows[0]["n"] == len(pairs)
    assert sum(row["n"] for row in rows[1:]) == len(pairs)
    for name in ("both", "trace only", "plan only", "neither"):
        assert sum(row[name] for row in rows[1:]) == rows[0][name]


def test_bins_are_named_and_bounded() -> None:
    ones = np.ones(4, bool)
    rows = by_length(ones, ones, np.array([1, 8, 9, 30]), (8, 16, 24))
    assert [(row["steps"], row["n"]) for row in rows] == [("all", 4), ("1 to 8", 2), ("9 to 16", 1), ("25 or more", 1)]


def test_error_shares_are_of_the_texts_that_have_one() -> None:
    shares = error_shares(["a", None, "b", "a", None], ["a", "b", "c"])
    assert shares == {"a": pytest.approx(2 / 3), "b": pytest.approx(1 / 3), "c": 0}
    assert error_shares([None, None], ["a"]) == {"a": None}


@pytest.mark.parametrize("grid", maze.GRIDS, ids=[grid.prefix for grid in maze.GRIDS])
def test_texts_are_judged_by_trace_and_plan_apart(grid: maze.Grid, written_trace: Callable[..., Trace]) -> None:
    task = grid.of("wilson")
    assert isinstance(task, MazeTask)
    problems = task.generate(8, seed=0)
    steps = [" ".join(step.text for step in problem.steps) for problem in problems]

    def texts(traces: list[str], plans: list[str]) -> list[Trace]:
        return [
            dataclasses.replace(written_trace(problem), text=f"{trace} {plan}")
            for problem, trace, plan in zip(problems, traces, plans, strict=True)
        ]

    plans = [problem.answer for problem in problems]
    right = maze.judge("correct", maze.GREEDY, task, texts(steps, plans))
    assert right.plan_valid.all() and right.trace_valid is not None and right.trace_valid.all()
    assert right.faults == [None] * 8
    swapped = maze.judge("swapped", maze.GREEDY, task, texts([*steps[1:], steps[0]], plans))
    assert swapped.plan_valid.all() and swapped.trace_valid is not None and not swapped.trace_valid.any()
    assert set(swapped.faults) <= set(grid.errors)
    row = swapped.row()
    assert row["plans valid"] == 1 and row["traces valid"] == 0 and row["n"] == 8
    forced = dataclasses.replace(swapped, trace=maze.ANOTHER).row()
    assert forced["traces valid"] is None and forced["plans valid"] == 1
    assert maze.judge("solution-only", maze.NONE, task, texts([""] * 8, plans)).row()["traces valid"] is None


def test_a_difference_is_taken_problem_by_problem(written_trace: Callable[..., Trace]) -> None:
    problems = maze.GRIDS[0].of("wilson").generate(40, seed=0)
    base = maze.Run("a", maze.GREEDY, problems, np.arange(40) < 30, None, [None] * 40)
    other = dataclasses.replace(base, plan_valid=np.arange(40) < 10)
    gap = maze.difference(base, other)
    assert gap["value"] == pytest.approx(0.5) and gap["n"] == 40
    assert gap["ci"][0] < 0.5 < gap["ci"][1]
    assert maze.difference(other, base)["value"] == pytest.approx(-0.5)
