"""Task `maze`: both forms, conversion to text and back, exact verification, splits, facts and refusals."""

from __future__ import annotations

import collections
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import UsageError
from interp.problems import task
from interp.problems.base import SPLITS, Problem, Task, split_of
from interp.problems.maze import Maze, MazeTask
from interp.problems.maze.generators import GENERATORS
from interp.problems.maze.grid import shortest_path
from interp.problems.maze.text import (
    document,
    draw_maze,
    query_text,
    read_document,
    read_query,
    read_rooms,
    rooms_text,
)

SPECS = [*(f"maze:generator={name}" for name in GENERATORS[1:]), "maze", "maze:form=walk,size=6", "maze:size=7"]
ASTAR = MazeTask()
WALK = MazeTask(form="walk", size=6)
FORTY = {maze_task.spec: maze_task.generate(40, seed=5) for maze_task in (ASTAR, WALK)}


def gold(problem: Problem) -> str:
    return " ".join([*(step.text for step in problem.steps), problem.answer])


def made(spec: str) -> MazeTask:
    result = task(spec)
    assert isinstance(result, MazeTask) and isinstance(result, Task)
    return result


@pytest.mark.parametrize("spec", SPECS)
def test_every_problem_is_solved_by_its_own_text(spec: str) -> None:
    maze_task = made(spec)
    assert maze_task.spec == spec
    for problem in maze_task.generate(60, seed=0):
        verdict = maze_task.verify(problem, gold(problem))
        assert verdict.answer and verdict.first_error is None
        assert verdict.steps == (True,) * problem.n_steps
        assert maze_task.min_steps <= problem.n_steps <= maze_task.max_steps
        maze = maze_task.maze(problem)
        assert maze.start != maze.goal
        assert len(shortest_path(maze) or []) == problem.meta["path"]


@pytest.mark.parametrize("spec", SPECS)
def test_every_word_is_in_the_vocabulary_and_every_value_a_cell(spec: str) -> None:
    maze_task = made(spec)
    known = set(maze_task.vocabulary())
    assert len(known) == len(maze_task.vocabulary())
    for problem in maze_task.generate(60, seed=1):
        assert set(f"{problem.question} {gold(problem)}".split()) <= known
        assert {step.value for step in problem.steps} <= set(maze_task.values)


@pytest.mark.parametrize("spec", ["maze", "maze:form=walk,size=6"])
def test_no_structure_appears_in_two_splits_and_a_seed_decides_everything(spec: str) -> None:
    maze_task = made(spec)
    result = {split: maze_task.generate(200, 3, split) for split in SPLITS}
    for split, problems in result.items():
        assert {p.split for p in problems} == {split_of(p.structure) for p in problems} == {split}
        assert maze_task.generate(50, 3, split) == problems[:50]
        assert len({p.question for p in problems}) == len({p.structure for p in problems}) == 200
    assert not {p.structure for p in result["train"]} & {p.structure for p in result["test"]}
    assert result["test"] != maze_task.generate(200, 4, "test")


def test_structures_stay_what_they_were_when_the_shipped_organisms_were_trained() -> None:
    """Another hash would put problems that they were trained on among the held-out ones."""
    assert ASTAR.generate(1, seed=0)[0].structure == "361fd9b93c131c46"
    assert WALK.generate(1, seed=0)[0].structure == "5432bc52c8383dcf"


def test_the_same_maze_is_another_structure_with_other_ends() -> None:
    problems = ASTAR.generate(1500, seed=0)
    assert len({tuple(sorted(ASTAR.maze(p).walls)) for p in problems}) == 192
    assert len({p.structure for p in problems}) == 1500


@pytest.mark.parametrize(
    ("spec", "mean", "longest"),
    [
        ("maze", 6.0, 17),
        ("maze:generator=kruskal", 6.0, 17),
        ("maze:generator=dfs", 6.6, 17),
        ("maze:generator=drunkard", 3.9, 13),
        ("maze:generator=searchformer", 7.0, 17),
        ("maze:form=walk,size=6", 11.5, 20),
    ],
)
def test_how_long_the_paths_are(spec: str, mean: float, longest: int) -> None:
    lengths = collections.Counter(p.meta["path"] for p in made(spec).generate(800, seed=0, split="train"))
    assert sum(k * n for k, n in lengths.items()) / 800 == pytest.approx(mean, abs=0.4)
    assert max(lengths) <= longest
    assert min(lengths) == {"maze:generator=searchformer": 6, "maze:form=walk,size=6": 8}.get(spec, 2)


def test_path_bounds_are_kept() -> None:
    assert {p.meta["path"] for p in MazeTask(path="5").generate(50, seed=0)} == {5}
    assert {p.meta["path"] for p in MazeTask(form="walk", path="3-4").generate(80, seed=0)} == {3, 4}


def test_draws_of_one_number_of_steps() -> None:
    stream = WALK.draws(Random(0), "train", n_steps=20)
    assert {next(stream).n_steps for _ in range(5)} == {20}


@given(seed=st.integers(0, 10**6), generator=st.sampled_from(GENERATORS), size=st.integers(3, 8))
@settings(max_examples=40, deadline=None)
def test_an_astar_maze_survives_its_text(seed: int, generator: str, size: int) -> None:
    problem = next(MazeTask(size=size, generator=generator).draws(Random(seed), "train"))
    maze = read_query(problem.question, size)
    assert query_text(maze) == problem.question
    trace = " ".join(step.text for step in problem.steps)
    whole = document(problem.question, trace, problem.answer)
    assert whole.split()[0] == "query" and whole.split()[-1] == "end"
    assert read_document(whole) == (problem.question, trace, problem.answer)


@given(seed=st.integers(0, 10**6), size=st.integers(4, 8))
@settings(max_examples=20, deadline=None)
def test_a_walk_maze_survives_its_text(seed: int, size: int) -> None:
    problem = next(MazeTask(form="walk", size=size).draws(Random(seed), "train"))
    maze = read_rooms(problem.question, size)
    assert rooms_text(maze) == problem.question
    assert len(problem.question.split()) == 2 + size * size
    assert all(cell in maze.neighbours(other) for cell in maze.free for other in maze.neighbours(cell))


def test_a_problem_survives_json_and_says_itself_to_a_person() -> None:
    for maze_task in (ASTAR, WALK):
        problem = maze_task.generate(1, seed=0)[0]
        assert Problem.from_json(problem.to_json()) == problem
        picture = problem.readable.split("\n", 1)[1]
        assert picture.count("S") == picture.count("G") == 1
        assert picture.count("#") == len(maze_task.maze(problem).walls)


def test_the_drawings() -> None:
    assert draw_maze(Maze.of_walls(3, {(1, 0), (1, 1)}, (0, 0), (2, 0))) == "S#G\n.#.\n..."
    assert draw_maze(Maze(2, (0, 0), (0, 1), (2, 12, 2, 9))) == "S .\n_  \nG ."


def test_a_plan_that_is_legal_but_not_the_gold_one_is_right() -> None:
    maze_task = MazeTask(generator="drunkard")
    problem = next(p for p in maze_task.generate(50, 0) if p.meta["path"] == 2)
    there, back = problem.answer.split()[:3], problem.answer.split()[3:]
    detour = " ".join([*there, *back, *there, *back])
    assert maze_task.verify(problem, detour).answer
    assert maze_task.verify(problem, detour).steps == (None,) * problem.n_steps
    assert not maze_task.verify(problem, " ".join([*there, *back, *there])).answer


@pytest.mark.parametrize("maze_task", [ASTAR, WALK], ids=["astar", "walk"])
@given(k=st.integers(0, 39), at=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_steps_are_right_up_to_the_first_error_and_wrong_after_it(maze_task: MazeTask, k: int, at: int) -> None:
    problem = FORTY[maze_task.spec][k]
    at = at % problem.n_steps
    width = len(problem.steps[0].text.split())
    steps = [step.text for step in problem.steps]
    steps[at] = " ".join(["plum"] * width)
    verdict = maze_task.verify(problem, " ".join([*steps, problem.answer]))
    assert verdict.answer, "the plan stands on its own"
    assert verdict.steps == tuple(step < at for step in range(problem.n_steps))
    assert verdict.first_error == at + 1


@pytest.mark.parametrize("maze_task", [ASTAR, WALK], ids=["astar", "walk"])
def test_a_trace_that_stops_early_is_wrong_where_it_stops(maze_task: MazeTask) -> None:
    problem = next(p for p in maze_task.generate(50, seed=2) if p.n_steps > 5)
    short = " ".join([*(step.text for step in problem.steps[:3]), problem.answer])
    verdict = maze_task.verify(problem, short)
    assert verdict.answer and verdict.first_error == 4
    assert verdict.steps == (True, True, True, False, *[None] * (problem.n_steps - 4))


@pytest.mark.parametrize("maze_task", [ASTAR, WALK], ids=["astar", "walk"])
def test_another_problems_trace_and_plan_are_wrong(maze_task: MazeTask) -> None:
    problems = maze_task.generate(40, seed=8)
    for problem, other in zip(problems, [*problems[1:], problems[0]], strict=True):
        verdict = maze_task.verify(problem, gold(other))
        assert not verdict.answer and verdict.first_error is not None
        assert maze_task.check_plan(problem, gold(problem)).valid
        assert not maze_task.check_trace(problem, gold(other)).valid


@pytest.mark.parametrize("maze_task", [ASTAR, WALK], ids=["astar", "walk"])
@given(text=st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_verify_never_fails_and_never_praises_garbage(maze_task: MazeTask, text: str) -> None:
    problem = maze_task.generate(1, seed=0)[0]
    verdict = maze_task.verify(problem, text)
    assert not verdict.answer and not any(verdict.steps)
    assert (verdict.first_error is None) == (not text.split("plan")[0].split())


def test_facts_of_astar_follow_its_lists() -> None:
    for problem in ASTAR.generate(10, seed=0):
        cells = ASTAR.entities(problem)
        assert len(cells) == 17
        seen: dict[str, str] = {}
        for step in range(problem.n_steps + 1):
            if step:
                name, x, y, *_ = problem.steps[step - 1].text.split()
                seen[f"{x}-{y}"] = {"create": "open", "close": "closed"}[name]
            for cell in cells:
                for name in ("open", "closed"):
                    assert ASTAR.fact(problem, name, (cell,), step) == ("yes" if seen.get(cell) == name else "no")
        words = problem.answer.split()
        path = {f"{x}-{y}" for x, y in zip(words[1::3], words[2::3], strict=True)}
        assert {cell for cell in cells if ASTAR.fact(problem, "on_path", (cell,), 0) == "yes"} == path


def test_facts_of_a_walk_say_where_it_has_been_and_that_it_will_have_to_go_back() -> None:
    dead_ends = 0
    for problem in WALK.generate(20, seed=0):
        assert len(WALK.entities(problem)) == 36
        path = problem.answer.split()[1:]
        assert WALK.fact(problem, "dead_end", (), 0) is None
        for step, done in enumerate(problem.steps, 1):
            assert WALK.fact(problem, "visited", (done.value,), step) == "yes"
            doomed = WALK.fact(problem, "dead_end", (), step) == "yes"
            assert doomed == (done.value not in path)
            dead_ends += doomed
        assert WALK.fact(problem, "visited", (problem.steps[-1].value,), problem.n_steps - 1) == "no"
    assert dead_ends > 50


def test_counterfactual_refuses_and_says_what_to_do_instead() -> None:
    problem = ASTAR.generate(1, seed=0)[0]
    with pytest.raises(
        UsageError, match=r"got maze: its plan follows from the maze.*interp\.causal\.visible_text\.forcing"
    ):
        ASTAR.counterfactual(problem, 1, "0-0")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("maze:form=breadth", "expected a known form of task maze, got 'breadth'.*astar, walk"),
        ("maze:generator=wilsen", "expected a known generator of task maze, got 'wilsen'; did you mean 'wilson'"),
        ("maze:size=2", "size of task maze to be a whole number of at least 3, got '2'"),
        ("maze:size=31", "expected size of task maze to be at most 30, got '31'"),
        ("maze:path=long", "expected path of task maze like 8-20 or 8, got 'long'"),
        ("maze:path=9-4", "expected path of task maze of at least 2 cells, the smaller number first, got '9-4'"),
        ("maze:path=1", "expected path of task maze of at least 2 cells"),
        (
            "maze:form=walk,generator=drunkard",
            "expected a generator with one path .* for form walk \\(wilson, .*got 'drunkard'",
        ),
        ("maze:sise=5", "expected a known option of task maze, got 'sise'; did you mean 'size'"),
    ],
)
def test_bad_options_are_refused_by_name(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        task(spec)


def test_a_maze_that_cannot_be_drawn_is_refused_with_what_was_asked() -> None:
    with pytest.raises(
        UsageError, match=r"expected mazes of the test split of 'maze:size=3,path=9' .* got none in 20000 draws"
    ):
        MazeTask(size=3, path="9").generate(1, seed=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("maze start 0 0", "to start with 'query', got 'maze'"),
        ("query start 0 0 goal 1 x", r"expected `start\|goal\|wall X Y` at word 5 .*, got 'goal 1 x'"),
        ("query start 0 0 goal 1", "word 5 .*, got 'goal 1'"),
        ("query start 0 0 start 0 1 goal 1 1", "expected one start in a maze's question, got 2"),
        ("query start 0 0 wall 1 0", "expected one goal in a maze's question, got 0"),
        ("query start 0 0 goal 9 9", r"expected the goal of a maze to be a free cell of the 5x5, got \(9, 9\)"),
    ],
)
def test_a_question_that_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_query(text, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0-0 there", "to start with two cells like 0-3 5-1, got '0-0 there'"),
        ("0-0 1-1 E W", "expected 6 words in a 2x2 maze's question, got 4"),
        ("0-0 1-1 E W UP N", "expected the open sides of a cell like NES or none, got 'UP'"),
    ],
)
def test_rooms_that_cannot_be_read_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_rooms(text, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query reasoning solution", "expected 'end' once in a maze's text, got it 0 times"),
        ("query reasoning reasoning solution end", "expected 'reasoning' once in a maze's text, got it 2 times"),
        ("query solution reasoning end", "in this order"),
    ],
)
def test_a_document_without_its_markers_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_document(text)
