"""Task `prosqa`: graphs as English sentences, and files that are written as they were read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interp.errors import StoreError, UsageError
from interp.problems import Problem, task
from interp.problems.graph import GraphTask
from interp.problems.prosqa import ProsQATask, prosqa_record, read_prosqa, write_prosqa

# A small problem with every field of the format: node 2 leads to 3 and 4, Max to the other candidate.
GOOD: dict[str, Any] = {
    "question": "Every lempus is a impus. Ann is a lempus. Every lempus is a wumpus. Max is a yumpus. "
    "Every impus is a zumpus. Is Ann a yumpus or zumpus?",
    "answer": "Ann is a zumpus.",
    "steps": ["Ann is a lempus.", "Every lempus is a impus.", "Every impus is a zumpus."],
    "idx_to_symbol": ["Ann", "Max", "lempus", "impus", "wumpus", "zumpus", "yumpus"],
    "edges": [[0, 2], [2, 3], [2, 4], [3, 5], [1, 6]],
    "root": 0,
    "target": 5,
    "neg_target": 6,
}
PROSQA = ProsQATask()


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    def write(*objects: Any, text: str | None = None) -> Path:
        path = tmp_path / "prosqa.json"
        path.write_text(json.dumps(list(objects)) if text is None else text, encoding="utf-8")
        return path

    return write


def test_a_file_is_read_into_problems(file: Callable[..., Path]) -> None:
    (problem,) = read_prosqa(file(GOOD))
    assert problem.question == problem.readable == GOOD["question"]
    assert problem.answer == "Ann is a zumpus."
    assert [step.text for step in problem.steps] == GOOD["steps"]
    assert [step.value for step in problem.steps] == ["lempus", "impus", "zumpus"]
    assert problem.meta["candidates"] == ["yumpus", "zumpus"] and problem.meta["root"] == "Ann"
    assert ["Max", "yumpus"] in problem.meta["edges"] and len(problem.meta["edges"]) == 5


@pytest.mark.parametrize("extra", [{}, {"source": "mine"}])
def test_what_was_read_is_written_as_it_was(file: Callable[..., Path], tmp_path: Path, extra: dict) -> None:
    objects = [{**GOOD, **extra}, {key: value for key, value in GOOD.items() if key != "idx_to_symbol"}]
    problems = read_prosqa(file(*objects))
    write_prosqa(problems, tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text(encoding="utf-8")) == objects
    assert read_prosqa(tmp_path / "again.json") == problems
    assert [Problem.from_json(p.to_json()) for p in problems] == problems


def test_a_file_may_hold_one_object_to_a_line(file: Callable[..., Path]) -> None:
    lines = "\n\n".join(json.dumps(GOOD) for _ in range(3)) + "\n"
    assert read_prosqa(file(text=lines)) == read_prosqa(file(GOOD, GOOD, GOOD))


def test_a_structure_is_the_same_whatever_the_names_and_the_order(file: Callable[..., Path]) -> None:
    renamed = json.loads(json.dumps(GOOD).replace("lempus", "rompus").replace("Ann", "Eva"))
    *told, asked = [part.strip() for part in renamed["question"].replace(". ", ".|").split("|")]
    reordered = {**renamed, "question": " ".join([*reversed(told), asked])}
    other = json.loads(json.dumps(GOOD).replace("Max is a yumpus", "Max is a zumpus"))
    other = {
        **other,
        "question": other["question"].replace("Is Ann a yumpus", "Is Ann a yumpus"),
        "edges": [*GOOD["edges"][:4], [1, 5]],
    }
    one, two, three = read_prosqa(file(GOOD, reordered, other))
    assert one.structure == two.structure != three.structure
    assert one.split == two.split


def without(*names: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key not in names}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (without("steps"), "problem 2: it has no 'steps'"),
        ({**GOOD, "root": "0"}, 'expected its root to be a int, got "0"'),
        ({**GOOD, "root": True}, "expected its root to be a int, got true"),
        ({**GOOD, "steps": [3]}, "expected its steps to be sentences, got 3"),
        ({**GOOD, "edges": [[0, 1, 2]]}, r"expected its edges to be pairs of numbers, got \[0, 1, 2\]"),
        ({**GOOD, "question": "Is it?"}, "to end like 'Is Sally a hilpus or sterpus\\?', got 'Is it\\?'"),
        (
            {**GOOD, "question": "All is well. " + GOOD["question"]},
            "expected a sentence like 'Every gerpus .*', got 'All is well.'",
        ),
        ({**GOOD, "answer": "Ann is a yumpus."}, "its answer says 'yumpus', but zumpus can be reached"),
        ({**GOOD, "steps": GOOD["steps"][1:]}, "its step 1 goes from 'lempus' to 'impus', which is no edge from 'Ann'"),
        ({**GOOD, "steps": GOOD["steps"][:2]}, "its steps end at 'impus', its answer at 'zumpus'"),
        ({**GOOD, "edges": GOOD["edges"][1:]}, "it has 4 edges, but its question has 5"),
        ({**GOOD, "edges": [*GOOD["edges"][:4], [1, 5]]}, "its edge from 'Max' to 'zumpus' is not in its question"),
        ({**GOOD, "edges": [*GOOD["edges"][:4], [1, 7]]}, "expected its numbers to lie between 0 and 6, got 7"),
        ({**GOOD, "target": 4}, "its target is 'wumpus', but its question and answer say 'zumpus'"),
        ({**GOOD, "neg_target": 4}, "its neg_target is 'wumpus', but .* say 'yumpus'"),
        ({**GOOD, "root": 1}, "its root is 'Max', but .* say 'Ann'"),
        ({**GOOD, "idx_to_symbol": "Ann"}, "expected its idx_to_symbol to be a list of names"),
        (["a list"], r"expected an object, got \[\"a list\"\]"),
    ],
)
def test_a_broken_problem_is_named_with_what_is_wrong(file: Callable[..., Path], wrong: Any, message: str) -> None:
    with pytest.raises(
        StoreError,
        match=f"expected only ProsQA problems in .*prosqa.json, got problem 2: .*{message.split(': ', 1)[-1]}",
    ):
        read_prosqa(file(GOOD, wrong))


def test_broken_lines_are_counted_and_the_first_of_them_shown(file: Callable[..., Path]) -> None:
    lines = [json.dumps(GOOD), "{oops", "", *["{}"] * 6]
    with pytest.raises(StoreError, match=r"line 2: it is not JSON .*line 4: it has no 'question'.*; and 2 more\."):
        read_prosqa(file(text="\n".join(lines)))


@pytest.mark.parametrize(("text", "message"), [("[1, ", "expected JSON"), ("", "got none"), ("[]", "got none")])
def test_a_file_that_is_none_is_refused(file: Callable[..., Path], text: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        read_prosqa(file(text=text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"expected a readable ProsQA file at .*nowhere.json"):
        read_prosqa(tmp_path / "nowhere.json")
    with pytest.raises(StoreError, match=r"nowhere\.json"):
        task("prosqa", path=tmp_path / "nowhere.json")


def test_other_tasks_make_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected problems of prosqa or graph for a ProsQA file, got one of 'chain'"):
        write_prosqa(task("chain").generate(1, 0), tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()


def test_a_graph_problem_is_told_in_english(tmp_path: Path) -> None:
    graphs = GraphTask().generate(40, seed=0)
    write_prosqa(graphs, tmp_path / "graphs.json")
    for graph, problem in zip(graphs, read_prosqa(tmp_path / "graphs.json"), strict=True):
        assert problem.n_steps == graph.n_steps
        assert len(problem.meta["edges"]) == len(graph.meta["edges"])
        raw = prosqa_record(problem)
        names = {raw["idx_to_symbol"][raw["root"]]} | {
            raw["idx_to_symbol"][n] for n in range(13) if all(e[1] != n for e in raw["edges"])
        }
        assert all(name[0].isupper() for name in names), "what nothing is a kind of has a person's name"
    write_prosqa(graphs, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text(encoding="utf-8") == (tmp_path / "graphs.json").read_text(
        encoding="utf-8"
    )


# --- as a task --------------------------------------------------------------------------------------------


def test_it_generates_problems_of_its_own_in_the_format(tmp_path: Path) -> None:
    problems = PROSQA.generate(60, seed=1)
    assert PROSQA.generate(30, seed=1) == problems[:30]
    assert {p.split for p in problems} == {"test"} and {p.n_steps for p in problems} == {3, 4}
    write_prosqa(problems, tmp_path / "made.json")
    assert read_prosqa(tmp_path / "made.json") == problems
    words = set(PROSQA.vocabulary())
    for problem in problems:
        assert {w for text in (problem.question, problem.answer) for w in text.split()} <= words
    first = [p.meta["candidates"][0] in p.answer for p in PROSQA.generate(400, seed=2)]
    assert sum(first) / 400 == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize(
    ("text", "answer", "steps", "first"),
    [
        (
            "Ann is a lempus. Every lempus is a impus. Every impus is a zumpus. Ann is a zumpus.",
            True,
            (True,) * 3,
            None,
        ),
        ("Ann is a zumpus.", True, (None,) * 3, None),
        ("Ann is a yumpus.", False, (None,) * 3, None),
        ("Max is a zumpus.", False, (None,) * 3, None),
        ("Ann is a lempus. Every impus is a zumpus. Ann is a zumpus", True, (True, False, None), 2),
        ("Ann is a lempus. So what. Every impus is a zumpus. Ann is a zumpus.", True, (True, False, False), 2),
        ("Ann is a lempus. " * 4 + "Ann is a zumpus.", True, (True, False, False, False), 2),
        ("", False, (None,) * 3, None),
    ],
)
def test_verify(file: Callable[..., Path], text: str, answer: bool, steps: tuple, first: int | None) -> None:
    (problem,) = read_prosqa(file(GOOD))
    verdict = PROSQA.verify(problem, text)
    assert (verdict.answer, verdict.steps, verdict.first_error) == (answer, steps, first)


def test_counterfactuals_and_facts(file: Callable[..., Path]) -> None:
    (problem,) = read_prosqa(file(GOOD))
    assert PROSQA.counterfactual(problem, 2, "impus") == "Ann is a zumpus."
    assert PROSQA.counterfactual(problem, 2, "Max") == "Ann is a yumpus."
    with pytest.raises(UsageError, match="expected 'wumpus' to lead to one candidate"):
        PROSQA.counterfactual(problem, 2, "wumpus")
    with pytest.raises(UsageError, match="expected a step between 1 and 3"):
        PROSQA.counterfactual(problem, 0, "impus")
    assert set(PROSQA.entities(problem)) == set(GOOD["idx_to_symbol"])
    assert PROSQA.fact(problem, "distance", ("zumpus",), 0) == "3"
    assert PROSQA.fact(problem, "frontier", ("wumpus",), 2) == "yes"
    assert PROSQA.fact(problem, "path", ("wumpus",), 2) == PROSQA.fact(problem, "reachable", ("Max",), 0) == "no"


def test_the_problems_of_a_file_are_a_task(tmp_path: Path) -> None:
    path = tmp_path / "many.json"
    written = [p for split in ("train", "test") for p in PROSQA.generate(25, 3, split)]  # type: ignore[arg-type]
    write_prosqa(written, path)
    made = task("prosqa", path=path)
    assert made.spec == f"prosqa:path={path}"
    test = made.generate(25, seed=0, split="test")
    assert {p.id for p in test} == {p.id for p in written if p.split == "test"}
    assert made.generate(10, seed=0, split="test") == test[:10] != made.generate(10, seed=1, split="test")
    from random import Random

    assert next(made.draws(Random(0), "train", 4)).n_steps == 4
    with pytest.raises(UsageError, match=r"expected 26 problems in the test split of .*many.json, got 25"):
        made.generate(26, seed=0, split="test")
    with pytest.raises(UsageError, match=r"expected problems of 7 steps in the train split of .*many.json, got none"):
        next(made.draws(Random(0), "train", 7))
    # A file that has changed is read again.
    write_prosqa(written[25:26], path)
    assert task("prosqa", path=path).generate(1, 0, "test") == written[25:26]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes": 40, "edges": 40}, "expected nodes of task prosqa to be at most 38, got 40"),
        ({"hops": "x"}, "expected hops of task graph like"),
        ({"colour": 1}, "expected a known option of task prosqa, got 'colour'"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        task("prosqa", **options)
