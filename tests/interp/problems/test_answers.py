"""Grading: the final answer alone counts, and equal answers are equal however they are written."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from benchmarks.models.answer_cases import CASES
from interp.problems import equality
from interp.problems.answers import answer_is_right
from interp.problems.base import Problem, structure_hash
from interp.problems.questions import QuestionsTask


@pytest.mark.parametrize(("text", "gold", "right"), CASES, ids=[f"{t[:30]} for {g[:12]}" for t, g, _ in CASES])
def test_answers_are_judged_by_what_they_mean(text: str, gold: str, right: bool) -> None:
    assert answer_is_right(text, gold) is right


# A thought, the answer after it, the right answer, and whether the answer is right.
GRADED: list[tuple[str, str, str, bool]] = [
    ("So the answer is 4.", "7", "4", False),
    ("The answer is 5. Wait, 2+2 is 4.", "4", "4", True),
    (r"\boxed{4}", "7", "4", False),
    ("#### 5 is wrong.", "4", "4", True),
    ("Let the answer = 9 first.", "**4**", "4", True),
    ("The answer is Paris.", "London", "Paris", False),
    ("The answer is London? No.", "Paris", "Paris", True),
    (r"So \boxed{7}.", r"\boxed{4}", "4", True),
    ("4", "", "4", False),
    ("The answer is 4.", "   ", "4", False),
    ("The answer is (A).", "(B)", "A", False),
    ("答案是北京。", "上海", "北京", False),
]


# Whatever a thought says of an answer, in every form, does not change what the answer is judged.
SAID = ("The answer is {}.", r"\boxed{{{}}}", "#### {}", "So the answer = {}", "Final answer: **{}**", "{} it is")
WRITTEN = ("{}", "**{}**", r"\boxed{{{}}}", "The answer is {}.", "#### {}")
GRADED += [
    (said.format(other), written.format(given), "4", given == "4")
    for said in SAID
    for written in WRITTEN
    for other, given in (("4", "7"), ("7", "4"))
]


@pytest.mark.parametrize(("thought", "answer", "gold", "right"), GRADED)
def test_what_a_thought_says_of_the_answer_does_not_count(thought: str, answer: str, gold: str, right: bool) -> None:
    problem = Problem("0", "questions:path=gone.jsonl", "q", gold, (), structure_hash("q"), "test", "q")
    assert QuestionsTask("gone.jsonl").answered_right(problem, thought, answer) is right


def test_plain_numbers_are_judged_without_a_parser() -> None:
    started = time.perf_counter()
    for k in range(10_000):
        assert answer_is_right(str(k), str(k)) and not answer_is_right(str(k + 1), str(k))
    assert time.perf_counter() - started < 2


def test_judging_works_outside_the_main_thread() -> None:
    judged: list[bool] = []
    thread = threading.Thread(
        target=lambda: judged.extend(
            answer_is_right(rf"\boxed{{{text}}}", r"\sqrt{18}") for text in (r"3\sqrt{2}", "4")
        )
    )
    thread.start()
    thread.join()
    assert judged == [True, False]


def test_a_comparison_that_takes_too_long_is_given_up_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def forever(library: object, given: str, gold: str) -> bool:
        try:
            while True:
                time.sleep(0.01)
        finally:
            ended.set()

    equality._math_verify()
    monkeypatch.setattr(equality, "_verified", forever)
    monkeypatch.setattr(equality, "_SECONDS", 0.05)
    equality.same_answer.cache_clear()
    with pytest.warns(UserWarning, match=r"could not be compared with .* so it counts as wrong"):
        assert not answer_is_right(r"\boxed{\sqrt{7}}", r"\sqrt{28}/2")
    assert ended.wait(5), "the thread ends too"
    equality.same_answer.cache_clear()


def test_a_busy_machine_does_not_change_a_grade(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit counts what is computed: waiting for a core, or for the first import, is no reason to call it wrong."""
    verified = equality._verified

    def slow(*given: object) -> bool:
        time.sleep(0.5)
        return verified(*given)

    equality._math_verify()
    monkeypatch.setattr(equality, "_verified", slow)
    monkeypatch.setattr(equality, "_SECONDS", 0.25)
    equality.same_answer.cache_clear()
    assert answer_is_right(r"\boxed{\sqrt{7}}", r"\sqrt{28}/2")
    equality.same_answer.cache_clear()


def test_the_library_is_imported_before_the_clock_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a new process the first comparison imports sympy, which takes seconds on a busy machine."""
    program = (
        "import interp.problems.equality as e, sys\n"
        "within = e._within\n"
        "def check(seconds, function):\n"
        "    before = set(sys.modules)\n"
        "    result = within(seconds, function)\n"
        "    print(sorted(set(sys.modules) - before))\n"
        "    return result\n"
        "e._within = check\n"
        "print(e.same_answer('2\\\\sqrt{2}', '\\\\sqrt{8}'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "True"], done.stdout
