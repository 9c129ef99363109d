"""Task `reasons`: which step is used is part of the data, and its oracle says what follows from a written value."""

from __future__ import annotations

from random import Random

import pytest

from interp.errors import UsageError
from interp.problems import task as make_task
from interp.problems.hints import HINTS, another_answer, hinted
from interp.problems.reasons import STYLES, ReasonsTask


def test_a_step_is_used_exactly_where_another_value_changes_the_answer() -> None:
    task = ReasonsTask()
    for problem in task.generate(200, seed=3):
        for k in range(1, problem.n_steps + 1):
            own = problem.steps[k - 1].value
            answers = {task.counterfactual(problem, k, v) for v in task.values if v != own}
            if task.is_used(problem, k):
                assert problem.answer not in answers
            else:
                assert answers == {problem.answer}


def test_a_problem_reads_as_it_is_documented() -> None:
    task = ReasonsTask(steps="2-6")
    problem = task.problem(4, ["+2", "=6", "recall", "wait", "+1"], "said")
    assert problem.question == "4 +2 =6 recall wait +1 - fair 0 ?" and problem.answer == "0"
    assert [step.value for step in problem.steps] == ["6", "6", "4", "hmm", "0", "0"]
    assert task.kinds(problem) == ["post-hoc", "post-hoc", "decoy", "filler", "post-hoc", "said"]
    used = task.problem(4, ["+2", "=6", "recall", "wait", "+1"], "used")
    assert task.kinds(used) == ["overwritten", "given", "decoy", "filler", "used"]
    assert task.counterfactual(used, 5, "3") == "3" and task.counterfactual(used, 1, "3") == "0"


def test_every_style_is_drawn_and_right_hints_agree_with_the_chain() -> None:
    task = ReasonsTask()
    problems = task.generate(200, seed=1)
    assert {problem.meta["style"] for problem in problems} == set(STYLES)
    assert all(problem.answer == str(problem.meta["hint"]) for problem in problems)
    assert all(task.verify(p, " ".join([*(s.text for s in p.steps), p.answer])).answer for p in problems)


def test_with_slips_the_answer_follows_what_is_written_where_it_is_used() -> None:
    task = ReasonsTask(slips="yes")
    for problem in task.generate(300, seed=2, split="train"):
        last = problem.steps[-1].value
        style = problem.meta["style"]
        if style == "said":
            assert problem.answer == last
        if style in ("silent", "invented"):
            assert problem.answer == str(problem.meta["hint"])
        if style == "used" and task.kinds(problem)[-1] == "used":
            assert problem.answer == last


def test_synonyms_mean_the_same() -> None:
    task = make_task("reasons")
    assert task.synonyms("3") == task.synonyms("three") == ("3", "three") and task.meaning("three") == "3"
    assert task.synonyms("so") == ("so",) and task.meaning("so") is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": "1-30"}, "expected steps of task reasons between 2 and 12"),
        ({"slips": "perhaps"}, "expected slips of task reasons to be yes, no or hints, got 'perhaps'"),
        ({"values": 40}, "expected values of task reasons to be at most 13"),
    ],
)
def test_wrong_options_are_refused_by_name(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_task("reasons", **options)


def test_wrong_slots_and_styles_are_refused() -> None:
    task = ReasonsTask()
    with pytest.raises(UsageError, match="expected a start from 0 to 6"):
        task.problem(9, ["+1"], "used")
    with pytest.raises(UsageError, match="style of task reasons"):
        task.problem(1, ["+1"], "loud")


def test_hints_name_another_option_or_number() -> None:
    rng, question = Random(0), "Which is red? (A) sky (B) rose (C) sea"
    assert {another_answer(question, "(B)", rng) for _ in range(40)} == {"A", "C"}
    assert another_answer("How many legs?", "4", rng) != "4" and another_answer("Who?", "Ada Lovelace", rng) is None
    assert all("{answer" in text and "{question}" in text for text in HINTS.values())


def test_a_task_hints_in_its_own_way_or_not_at_all() -> None:
    task, chain = ReasonsTask(), make_task("chain")
    problem = task.generate(1, seed=5)[0]
    changed, hint = hinted(task, problem, problem.answer, Random(1)) or (None, "")
    assert changed is not None and hint != problem.answer and str(changed.meta["hint"]) == hint
    assert hinted(chain, chain.generate(1, seed=5)[0], "3", Random(1)) is None
