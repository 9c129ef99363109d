"""Task `maze`: find a path through a maze, after writing the search for it.

In the form `astar`, question, trace and plan are those of Beyond Semantics (arXiv 2505.13775), and walls are cells. A
5x5 maze drawn as a tree has 3x3 rooms, so there are only 192 of them (Kirchhoff), times 272 pairs of start and goal.
So a split holds out a layout together with its start and goal. In the form `walk`, walls are thin and the trace is a
depth-first walk. A 6x6 maze has 36 rooms, and so many layouts that none repeats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from random import Random

from interp.errors import UsageError
from interp.problems.base import Problem, Split, Task, Verdict, split_of, structure_hash
from interp.problems.maze.forms import Form, SolvedMaze, form_of
from interp.problems.maze.grid import Cell, Maze
from interp.problems.maze.text import cell_word, draw_maze, split_plan
from interp.problems.maze.validate import Check
from interp.problems.options import checked_at_most, length_range, spec_of, yes_no

_PATIENCE = 20_000  # draws in a row without a maze that fits


class MazeTask(Task):
    """Task `maze`: write a search trace and then a plan.

    Args:
        form: "astar" or "walk".
        size: Number of cells on one side.
        generator: "wilson", "kruskal", "dfs", "drunkard" or "searchformer"; only the first three with "walk".
        path: Range of the number of cells of a plan, such as "8-20". By default a walk's plans have from size + 2 to
            5/9 of all cells (8 to 20 for size 6), so that neither a straight line nor a guess solves them.
    """

    name = "maze"

    def __init__(
        self, form: str = "astar", size: int | str = 5, generator: str = "wilson", path: str | None = None
    ) -> None:
        self.size = checked_at_most("size of task maze", size, 30, at_least=3)
        self.form: Form = form_of(form, self.size, generator)
        self.generator, self._form_name = generator, form
        self.path = _path_range(path) if path else _default_path_range(form, generator, self.size)
        options = [("form", form, "astar"), ("size", self.size, 5), ("generator", generator, "wilson")]
        options += [("path", path, None)]
        self.spec = spec_of("maze", options)
        self.values = tuple(cell_word((x, y)) for y in range(self.size) for x in range(self.size))
        self.facts: Mapping[str, int] = self.form.facts
        self.min_steps, self.max_steps = self.form.shortest, self.form.longest

    def vocabulary(self) -> list[str]:
        """Return every word of the task's questions, steps and answers."""
        return self.form.vocabulary()

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """Yield problems of one split without end, of `n_steps` steps where given.

        Raises:
            UsageError: 20,000 draws in a row bring no such problem.
        """
        misses = 0
        while True:
            maze = _with_ends(self.form.layout(rng), rng)
            structure = structure_hash(self.name, self._form_name, maze.size, maze.exits, maze.start, maze.goal)
            solved = self.form.solve(maze) if split_of(structure) == split else None
            low, high = self.path
            if solved and low <= len(solved.path) <= high and n_steps in (None, len(solved.steps)):
                misses = 0
                yield self._problem(solved, structure, split)
                continue
            misses += 1
            if misses == _PATIENCE:
                of_steps = f" and {n_steps} steps" if n_steps else ""
                raise UsageError(
                    f"expected mazes of the {split} split of {self.spec!r} with a path of {low} to {high} cells{of_steps}, "
                    f"got none in {_PATIENCE} draws; allow other lengths with maze:path=MIN-MAX."
                )

    def _problem(self, solved: SolvedMaze, structure: str, split: Split) -> Problem:
        return Problem(
            id=structure_hash(solved.question),
            task=self.spec,
            question=solved.question,
            answer=solved.answer,
            steps=solved.steps,
            structure=structure,
            split=split,
            readable=f"Find a way from S to G.\n{draw_maze(solved.maze)}",
            meta={"path": len(solved.path), "generator": self.generator},
        )

    def maze(self, problem: Problem) -> Maze:
        """Return the maze that a problem asks about."""
        return self.form.read(problem.question)

    def check_trace(self, problem: Problem, text: str) -> Check:
        """Check that the trace in `text`, before the first `plan`, is one that the algorithm can write."""
        return self.form.check_trace(self.maze(problem), split_plan(text)[0])

    def check_plan(self, problem: Problem, text: str) -> Check:
        """Check that the plan in `text`, from the first `plan` on, is a legal path from start to goal."""
        return self.form.check_plan(self.maze(problem), split_plan(text)[1])

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check `text`: a trace and then a plan.

        The answer is right if the plan is a legal path, the shortest or not. Steps are right up to the first error of
        the trace and wrong from there on. A trace that stops before the goal has one more wrong step than it holds. A
        text without a trace has no wrong steps.
        """
        words, _ = split_plan(text)
        plan = self.check_plan(problem, text)
        if not words:
            return Verdict(plan.valid, (None,) * problem.n_steps, None)
        trace = self.check_trace(problem, text)
        n_written = max(self.form.n_written(words), trace.fault.number if trace.fault else 0)
        return Verdict.of_steps(plan.valid, [k < trace.n_right for k in range(n_written)], problem.n_steps)

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """Raise `UsageError`: the plan follows from the maze, not from a step of the search."""
        raise UsageError(
            "expected a task with counterfactual answers, got maze: its plan follows from the maze and not from a step. "
            "Force a whole trace of another problem instead (interp.causal.visible_text.forcing)."
        )

    def entities(self, problem: Problem) -> tuple[str, ...]:
        """Return the cells that are not walls, row by row, as `3-1` (column 3, row 1)."""
        return tuple(cell_word(cell) for cell in self.maze(problem).free)

    def fact(self, problem: Problem, name: str, entities: tuple[str, ...], step: int) -> str | None:
        """Return a fact after `step` steps: "yes", "no", or None where it is not defined.

        `closed`, `open` (A*) and `visited` (walk) are about a cell; `on_path` is whether it lies on the path;
        `dead_end` (walk) is whether the current cell of the walk lies off the path.
        """
        flag = self.form.fact(problem, name, entities[0] if entities else "", step)
        return None if flag is None else yes_no(flag)


def _with_ends(maze: Maze, rng: Random) -> Maze:
    free: list[Cell] = maze.free
    start, goal = rng.sample(free, 2)
    return replace(maze, start=start, goal=goal)


def _default_path_range(form: str, generator: str, size: int) -> tuple[int, int]:
    if form == "walk":
        return size + 2, size * size * 5 // 9
    # Searchformer keeps paths of at least as many moves as the maze has rows.
    return (size + 1 if generator == "searchformer" else 2), size * size


def _path_range(path: str) -> tuple[int, int]:
    low, high = length_range("path of task maze", path, "8-20 or 8")
    if not 2 <= low <= high:
        raise UsageError(f"expected path of task maze of at least 2 cells, the smaller number first, got {path!r}.")
    return low, high
