"""Task `questions`: valid files, refused lines, and comparison of answers."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import StoreError, UsageError
from interp.problems import task
from interp.problems.answers import answer_is_right, final_answer, number_of, numbers_in
from interp.problems.base import SPLITS, Problem, Step, Task
from interp.problems.questions import QuestionsTask, read_questions

GSM = (
    "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n"
    "Natalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.\n#### 72"
)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def lines(rows: Sequence[Any], name: str = "mine.jsonl") -> Path:
        path = tmp_path / name
        path.write_text(
            "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n", encoding="utf-8"
        )
        return path

    return lines


@pytest.fixture
def many(write: Callable[..., Path]) -> QuestionsTask:
    """Two hundred questions with zero to three steps each."""
    rows = [{"question": f"what is {k} + {k % 7}?", "answer": k, "values": list(range(k % 4))} for k in range(200)]
    return QuestionsTask(write(rows))


def only(path: Path) -> Problem:
    (problem,), broken = read_questions(path)
    assert not broken
    return problem


def test_a_gsm8k_line_is_taken_apart(write: Callable[..., Path]) -> None:
    problem = only(write([{"question": "How many clips?", "answer": GSM}]))
    assert problem.answer == "72"
    assert problem.steps == (
        Step("Natalia sold 48/2 = 24 clips in May.", "24"),
        Step("Natalia sold 48+24 = 72 clips altogether in April and May.", "72"),
    )


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"answer": "#### 1,234"}, "1234"),
        ({"answer": "so\n#### $5.50."}, "5.50"),
        ({"answer": "#### -3"}, "-3"),
        ({"answer": 42}, "42"),
        ({"answer": 0.5}, "0.5"),
        ({"answer": "Paris, of course."}, "Paris, of course."),
        ({"answer": "1, 2 and 3"}, "1, 2 and 3"),
    ],
)
def test_answers_of_many_forms(write: Callable[..., Path], raw: dict, expected: str) -> None:
    assert only(write([{"question": "q", **raw}])).answer == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({}, ()),
        ({"steps": ["2 + 3 = 5", "5 times 2.5 is 12.5 in all"]}, (("2 + 3 = 5", "5"), ("5 times 2.5 is 12.5 in all", "12.5"))),
        ({"steps": ["first", "then"], "values": [7, "8"]}, (("first", "7"), ("then", "8"))),
        ({"steps": [{"text": "add", "value": 7}, {"text": "so 9"}]}, (("add", "7"), ("so 9", "9"))),
        ({"values": ["3", "1,000"]}, (("3", "3"), ("1,000", "1000"))),
        ({"steps": [{"value": 3}, {"value": "4"}]}, (("3", "3"), ("4", "4"))),
        ({"steps": ["the cat sat"]}, (("the cat sat", "the cat sat"),)),
        ({"steps": ["<<2*3=6>>"]}, (("2*3=6", "6"),)),
    ],
)  # fmt: skip
def test_steps_of_many_forms(write: Callable[..., Path], raw: dict, expected: tuple) -> None:
    problem = only(write([{"question": "q", "answer": "1", **raw}]))
    assert tuple((step.text, step.value) for step in problem.steps) == expected


def test_steps_that_are_given_count_before_those_of_the_answer(write: Callable[..., Path]) -> None:
    problem = only(write([{"question": "q", "answer": GSM, "steps": ["mine 1"]}]))
    assert [step.text for step in problem.steps] == ["mine 1"] and problem.answer == "72"


BROKEN = [
    ("{not json", "it is not JSON"),
    ("[1, 2]", "expected an object, got list"),
    ({"answer": "1"}, "it has no 'question'"),
    ({"question": "q"}, "it has no 'answer'"),
    ({"question": "  ", "answer": "1"}, "its question is empty"),
    ({"question": "q", "answer": ["1"]}, r"expected its answer to be a text or a number, got \[\"1\"\]"),
    ({"question": "q", "answer": True}, "expected its answer to be a text or a number, got true"),
    ({"question": "q", "answer": "because\n#### "}, "nothing follows the '####'"),
    ({"question": "q", "answer": "1", "steps": "one"}, "expected its steps to be a list"),
    ({"question": "q", "answer": "1", "steps": [{"said": 3}]}, "its step 1 has neither 'text' nor 'value'"),
    ({"question": "q", "answer": "1", "steps": ["a", ""]}, "its step 2 is empty"),
    ({"question": "q", "answer": "1", "steps": ["a", "b"], "values": [1]}, "it has 2 steps but 1 value"),
    ({"question": "q", "answer": "1", "values": {"a": 1}}, "expected its values to be a list"),
    ('{"question": "\\ud800", "answer": "1"}', "its question holds half of a surrogate pair"),
    ({"question": " first  one ", "answer": "1"}, "the same question as line 1"),
]


@pytest.mark.parametrize(("row", "why"), BROKEN, ids=[why[:30] for _, why in BROKEN])
def test_a_broken_line_is_named_and_the_others_go_on(write: Callable[..., Path], row: Any, why: str) -> None:
    path = write([{"question": "first one", "answer": "1"}, "", row, {"question": "last", "answer": "2"}])
    problems, broken = read_questions(path)
    assert [p.question for p in problems] == ["first one", "last"]
    assert [each.line for each in broken] == [3]
    assert re.match(f"line 3: {why}", str(broken[0]))


def test_bytes_that_are_no_text_break_only_their_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"question": "a", "answer": 1}\r\n{"question": "caf\xe9", "answer": 2}\n')
    problems, broken = read_questions(path)
    assert [p.question for p in problems] == ["a"] and str(
        broken[0]
    ) == "line 2: it is not UTF-8; save the file as UTF-8"


@given(st.lists(st.binary(max_size=30), max_size=6))
@settings(max_examples=60, deadline=None)
def test_no_file_makes_reading_fail(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("any") / "x.jsonl"
    path.write_bytes(b"\n".join(lines))
    problems, broken = read_questions(path)
    assert len(problems) + len(broken) <= sum(1 + line.count(b"\n") for line in lines)


def test_it_is_usable_wherever_a_task_is(many: QuestionsTask) -> None:
    again = task(many.spec)
    assert isinstance(again, Task) and again.spec == many.spec
    assert again.generate(5, seed=1) == many.generate(5, seed=1)
    assert (many.min_steps, many.max_steps) == (0, 3) and many.values == ("0", "1", "2")
    known = set(many.vocabulary())
    assert all({*p.question.split(), p.answer} <= known for p in many.problems)


def test_every_question_is_in_one_split_by_its_words(many: QuestionsTask, write: Callable[..., Path]) -> None:
    by_split = {split: {p.question for p in many.problems if p.split == split} for split in SPLITS}
    assert sum(map(len, by_split.values())) == 200 and all(by_split.values())
    rows = [{"question": f"  What is {k}  + {k % 7} ", "answer": 0} for k in range(200)]
    other = QuestionsTask(write(rows, "other.jsonl"))
    assert [p.split for p in other.problems] == [p.split for p in many.problems]


def test_generation_is_deterministic_and_extends(many: QuestionsTask) -> None:
    assert many.generate(20, seed=2)[:8] == many.generate(8, seed=2)
    assert many.generate(8, seed=2) != many.generate(8, seed=3)
    assert {p.split for p in many.generate(10, seed=0, split="train")} == {"train"}


def test_draws_go_round_and_keep_to_the_steps(many: QuestionsTask) -> None:
    stream = many.draws(random.Random(0), "val", n_steps=2)
    seen = [next(stream) for _ in range(60)]
    assert {p.n_steps for p in seen} == {2} and {p.split for p in seen} == {"val"}
    assert len({p.question for p in seen}) < 60
    with pytest.raises(UsageError, match=r"expected problems with 9 steps in the val split of .*, got none"):
        many.draws(random.Random(0), "val", n_steps=9)


def test_too_many_are_refused_with_the_number_there_is(many: QuestionsTask) -> None:
    there = sum(p.split == "test" for p in many.problems)
    with pytest.raises(
        UsageError, match=rf"expected 500 problems in the test split.*got {there} \(200 in all splits\); ask for fewer"
    ):
        many.generate(500, seed=0)


def test_generate_warns_of_lines_that_were_left_out(write: Callable[..., Path]) -> None:
    rows: list[Any] = [{"question": f"q{k}", "answer": k} for k in range(30)]
    made = QuestionsTask(write([*rows, "nonsense", {"question": "q"}]))
    assert [each.line for each in made.broken] == [31, 32]
    with pytest.warns(UserWarning, match=r"2 lines of .*mine.jsonl left out: line 31: .*; line 32: it has no 'ans"):
        made.generate(1, seed=0)


def test_a_file_that_is_not_there_or_has_nothing(tmp_path: Path, write: Callable[..., Path]) -> None:
    gone = QuestionsTask(tmp_path / "gone.jsonl")
    with pytest.raises(StoreError, match=r"expected a JSONL file at .*gone.jsonl"):
        gone.generate(1, seed=0)
    empty = QuestionsTask(write(["", '{"question": 1}']))
    with pytest.raises(UsageError, match="got no line that can be used: line 2: it has no 'answer'"):
        empty.generate(1, seed=0)
    with pytest.raises(UsageError, match=r"without a comma for a question file, got 'a,b.jsonl'; rename it"):
        task("questions", path="a,b.jsonl")


def test_a_changed_file_is_read_again(write: Callable[..., Path]) -> None:
    path = write([{"question": "one", "answer": 1}])
    assert len(QuestionsTask(path).problems) == 1
    write([{"question": "one", "answer": 1}, {"question": "two", "answer": 2}])
    assert len(QuestionsTask(path).problems) == 2


def test_traces_can_be_checked_where_the_file_is_not(write: Callable[..., Path]) -> None:
    path = write([{"question": "one", "answer": 1}])
    problem = only(path)
    path.unlink()
    assert task(problem.task).verify(problem, "so 1").answer


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        ("#### 42", "42", True),
        ("it is 7\n#### 42", "7", False),
        (r"so \boxed{42}", "42", True),
        (r"so \boxed{\frac{1}{2}}.", "0.5", True),
        (r"hence $\boxed{x = 5}$ and we are done after 9 lines", "5", True),
        ("The answer is 42.", "42", True),
        ("The answer is: $1,234.50.", "1234.5", True),
        ("the answer is 3 apples for 4 people", "3", True),
        ("Answer: 12", "12", True),
        ("first 1, then 2, in all 3.", "3", True),
        ("first 1, then 2, in all 3.", "2", False),
        ("7 2 4 4", "4", True),
        ("10 - 7 = 3", "-3", False),
        ("it fell to -3", "-3", True),
        ("the range is 3-5", "5", True),
        ("50%", "50", True),
        ("3.0", "3", True),
        ("1e3", "1000", True),
        ("", "3", False),
        ("no number at all", "3", False),
        ("I think it is Paris.", "paris", True),
        ("The answer is New York. It is large.", "New York", True),
        ("The answer is York.", "New York", False),
        ("So: New York", "new york", True),
        ("Yes and no", "yes", False),
        ("42", "forty-two", False),
    ],
)
def test_the_final_answer_of_free_text(text: str, gold: str, right: bool) -> None:
    assert answer_is_right(text, gold) is right


@given(st.integers(-(10**9), 10**9), st.sampled_from(["{}", "{:,}", "{}.", "${:,}", "{}.0", "{}%"]))
@settings(max_examples=200, deadline=None)
def test_a_number_is_the_same_however_it_is_written(number: int, form: str) -> None:
    written = form.format(number).replace("$-", "-$")
    assert number_of(written) == number
    for sentence in ("we get {} ", "#### {}", "\\boxed{{{}}}", "so the answer is {}", "5 and 6 make\n{}\n"):
        assert answer_is_right(sentence.format(written), str(number))
        assert not answer_is_right(sentence.format(written), str(number + 1))


@given(st.fractions(max_denominator=999).filter(lambda f: abs(f) < 10**6))
def test_fractions_are_numbers(number: Fraction) -> None:
    assert number_of(str(number)) == number
    assert numbers_in(f"a {number} b") == [number]


@given(st.text(max_size=80), st.text(min_size=1, max_size=10))
@settings(max_examples=200, deadline=None)
def test_no_text_makes_the_comparison_fail(text: str, gold: str) -> None:
    assert answer_is_right(text, gold) in (True, False)
    assert len(final_answer(text).before) <= len(text)


@pytest.mark.parametrize(
    "text",
    [
        "9" * 5000,
        "1e999999999",
        "1/0",
        "\\boxed{" * 50,
        r"\boxed{9^{9^{9^9}}}",
        r"\boxed{10^{10^{10}}}",
        r"\boxed{(99999!)!}",
    ],
)
def test_monstrous_numbers_are_no_trouble(text: str) -> None:
    assert not answer_is_right(text, "12")


def test_steps_are_found_in_order_and_never_called_wrong(write: Callable[..., Path]) -> None:
    problem = only(write([{"question": "q", "answer": GSM}]))
    check = QuestionsTask(problem.task.partition("=")[2]).verify
    right = check(problem, "In May 24 were sold, so 72 altogether. The answer is 72.")
    assert right.answer and right.steps == (True, True) and right.first_error is None
    assert check(problem, "72").steps == (None, None), "the answer is no step"
    assert check(problem, "72 24 #### 72").steps == (True, None), "72 was said before 24"
    assert check(problem, "25 were sold, 73 altogether #### 73").steps == (None, None)


def test_steps_of_words_are_found_too(write: Callable[..., Path]) -> None:
    problem = only(write([{"question": "q", "answer": "yes", "steps": ["Rex is a wumpus.", "Wumpuses are shy."]}]))
    result = QuestionsTask("gone.jsonl").verify(problem, "rex is a wumpus. wumpuses are shy. yes")
    assert result.answer and result.steps == (True, True)


def test_a_problem_survives_json(many: QuestionsTask) -> None:
    assert Problem.from_json(many.problems[3].to_json()) == many.problems[3]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_array_is_read_like_its_lines(indent, tmp_path):
    entries = [{"question": "1 + 1", "answer": "2"}, {"question": "2 + 2"}, 7, {"question": "3 + 3", "answer": "6"}]
    path = tmp_path / "q.json"
    path.write_text(json.dumps(entries, indent=indent), encoding="utf-8")
    problems, broken = read_questions(path)
    assert [(problem.question, problem.answer) for problem in problems] == [("1 + 1", "2"), ("3 + 3", "6")]
    assert list(map(str, broken)) == ["line 2: it has no 'answer'", "line 3: expected an object, got int"]
    path.write_text(json.dumps(entries, indent=2)[:-2], encoding="utf-8")
    problems, broken = read_questions(path)
    assert not problems and "not JSON" in broken[0].why
