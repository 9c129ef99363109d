"""Task `maze`: find a way, and write the search down first.

In the form `astar` question, trace and plan are those of Beyond Semantics (arXiv 2505.13775), walls being cells. A
5x5 maze drawn as a tree has 3x3 rooms, so there are only 192 of them (Kirchhoff), times 272 pairs of start and goal:
what is held out is a layout together with its two ends. In the form `walk` walls are thin, a 6x6 maze has 36 rooms
and so many layouts that none comes twice, and the trace is a depth-first walk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from random import Random

from interp.errors import UsageError, checked_count
from interp.problems.base import (
    Problem,
    Split,
    Verdict,
    split_of,
    structure_hash,
)
from interp.problems.drawn import DrawnTask, length_range, spec_of
from interp.problems.maze.forms import Form, Worked, form_of
from interp.problems.maze.grid import Cell, Maze
from interp.problems.maze.text import cell_word, drawing, halves
from interp.problems.maze.validate import Check

_DRAWS = 20_000  # in a row without a maze that fits


class MazeTask(DrawnTask):
    """`maze`: `form` astar (or walk), `size` 5, `generator` wilson, `path` the least and most cells of a plan.

    A walk's plans have from size + 2 to 5/9 of all cells (8 to 20 for size 6) unless `path` says otherwise, so that
    neither a straight look nor luck finds them.
    """

    name = "maze"

    def __init__(
        self, form: str = "astar", size: int | str = 5, generator: str = "wilson", path: str | None = None
    ) -> None:
        self.size = checked_count("size of task maze", size, at_least=3)
        if self.size > 30:
            raise UsageError(f"size of task maze must be at most 30, but {size!r} came.")
        self.form: Form = form_of(form, self.size, generator)
        self.generator, self._form = generator, form
        self.path = _bounds(path) if path else _usual_bounds(form, generator, self.size)
        options = [("form", form, "astar"), ("size", self.size, 5), ("generator", generator, "wilson")]
        options += [("path", path, None)]
        self.spec = spec_of("maze", options)
        self.values = tuple(cell_word((x, y)) for y in range(self.size) for x in range(self.size))
        self.facts: Mapping[str, int] = self.form.facts
        self.min_steps, self.max_steps = self.form.shortest, self.form.longest

    def vocabulary(self) -> list[str]:
        return self.form.vocabulary()

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """An endless stream of problems of one split, of `n_steps` steps where given.

        Raises `UsageError` when a long search brings none.
        """
        misses = 0
        while True:
            maze = _placed(self.form.layout(rng), rng)
            structure = structure_hash(self.name, self._form, maze.size, maze.exits, maze.start, maze.goal)
            worked = self.form.work(maze) if split_of(structure) == split else None
            low, high = self.path
            if worked and low <= len(worked.path) <= high and n_steps in (None, len(worked.steps)):
                misses = 0
                yield self._problem(worked, structure, split)
                continue
            misses += 1
            if misses == _DRAWS:
                wanted = f" and {n_steps} steps" if n_steps else ""
                raise UsageError(
                    f"{_DRAWS} draws of {self.spec!r} brought no maze of the {split} split with a path of {low} to {high} "
                    f"cells{wanted}. Allow other lengths: maze:path=MIN-MAX."
                )

    def _problem(self, worked: Worked, structure: str, split: Split) -> Problem:
        return Problem(
            id=structure_hash(worked.question),
            task=self.spec,
            question=worked.question,
            answer=worked.answer,
            steps=worked.steps,
            structure=structure,
            split=split,
            readable=f"Find a way from S to G.\n{drawing(worked.maze)}",
            meta={"path": len(worked.path), "generator": self.generator},
        )

    def maze(self, problem: Problem) -> Maze:
        """The maze that a problem asks about."""
        return self.form.read(problem.question)

    def check_trace(self, problem: Problem, text: str) -> Check:
        """Whether the trace in `text` (what comes before the first `plan`) is one that the algorithm can write."""
        return self.form.check_trace(self.maze(problem), halves(text)[0])

    def check_plan(self, problem: Problem, text: str) -> Check:
        """Whether the plan in `text` (from the first `plan` on) is a legal way from start to goal."""
        return self.form.check_plan(self.maze(problem), halves(text)[1])

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check `text`, a trace and then a plan.

        The answer is right if the plan is a legal way, the shortest or not. Steps are right up to the first error of
        the trace and wrong from there on, for what follows continues a search that has gone wrong. A trace that
        stops before its goal has one wrong step more than it holds; a text without any trace has no wrong steps.
        """
        words, _ = halves(text)
        plan = self.check_plan(problem, text)
        if not words:
            return Verdict(plan.valid, (None,) * problem.n_steps, None)
        trace = self.check_trace(problem, text)
        n_written = max(self.form.written(words), trace.fault.at if trace.fault else 0)
        steps: list[bool | None] = [k < trace.n_right for k in range(n_written)]
        steps += [None] * (problem.n_steps - n_written)
        return Verdict(plan.valid, tuple(steps), trace.fault.at if trace.fault else None)

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """Refused: a search does not go on from a cell that it could not have been at."""
        raise UsageError(
            "a step of a maze's trace cannot be set to another cell, because the plan follows from the maze and not "
            "from the step; force a whole trace of another problem instead (interp.causal.forcing)."
        )

    def entities(self, problem: Problem) -> tuple[str, ...]:
        """The cells that are not walls, row by row, as `3-1` (column 3, row 1)."""
        return tuple(cell_word(cell) for cell in self.maze(problem).free)

    def fact(self, problem: Problem, name: str, entities: tuple[str, ...], step: int) -> str | None:
        """`closed`, `open` (A*), `visited` (walk): a cell's state after `step` steps; `on_path`: is it on the path.

        `dead_end` (walk) is whether the cell that the walk stands on after `step` steps is off the path.
        """
        found = self.form.fact(problem, name, entities[0] if entities else "", step)
        return None if found is None else ("yes" if found else "no")


def _placed(maze: Maze, rng: Random) -> Maze:
    free: list[Cell] = maze.free
    start, goal = rng.sample(free, 2)
    return replace(maze, start=start, goal=goal)


def _usual_bounds(form: str, generator: str, size: int) -> tuple[int, int]:
    if form == "walk":
        return size + 2, size * size * 5 // 9
    # Searchformer keeps paths of at least as many moves as the maze has rows.
    return (size + 1 if generator == "searchformer" else 2), size * size


def _bounds(path: str) -> tuple[int, int]:
    found = length_range("path of task maze", path, "8-20 or 8")
    if not 2 <= found[0] <= found[1]:
        raise UsageError(f"path of task maze must hold at least 2 cells, the least first, but {path!r} came.")
    return found
