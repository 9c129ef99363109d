"""Task `counter`: the written text alone does not determine the next step, and verification is exact."""

from __future__ import annotations

from collections import defaultdict
from itertools import islice
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import UsageError
from interp.problems import Problem, task
from interp.problems.counter import CounterTask

COUNTER = CounterTask()


def run_by_hand(question: str, n_values: int) -> list[int]:
    """The counter after each operation, read off the question's words alone."""
    start, *operations = question.removesuffix(" ?").split()
    value, reached = int(start), []
    for operation in operations:
        for _ in range(int(operation.removeprefix("+"))):
            value = 0 if value == n_values - 1 else value + 1
        reached.append(value)
    return reached


@given(seed=st.integers(0, 1000), steps=st.sampled_from(["1", "3", "2-8", "8"]), values=st.sampled_from([3, 5, 7]))
@settings(max_examples=30, deadline=None)
def test_steps_and_answer_are_what_counting_gives(seed: int, steps: str, values: int) -> None:
    made = CounterTask(steps=steps, values=values)
    for problem in made.generate(3, seed=seed):
        reached = run_by_hand(problem.question, values)
        assert [step.value for step in problem.steps] == list(map(str, reached))
        assert [step.text for step in problem.steps] == ["even" if v % 2 == 0 else "odd" for v in reached]
        assert problem.answer == str(reached[-1])
        assert made.min_steps <= problem.n_steps <= made.max_steps
        assert set(problem.question.split()) | {s.text for s in problem.steps} <= set(made.vocabulary())
        assert task(made.spec).spec == made.spec


def test_the_written_parities_do_not_say_how_it_goes_on() -> None:
    """After the same text and the same next operation, mostly both parities occur: the value has to be known."""
    follows = defaultdict(set)
    for problem in CounterTask(steps=3).generate(350, seed=0, split="train"):
        text = [step.text for step in problem.steps]
        follows[(*text[:2], problem.meta["added"][2])].add(text[2])
    open_ = [key for key, seen in follows.items() if seen == {"even", "odd"}]
    assert {(a, b) for a, b, _ in open_} == {(a, b) for a in ("even", "odd") for b in ("even", "odd")}
    assert {added for *_, added in open_} == {1, 2, 3, 4}, "an idle operation leaves the parity, every other may not"
    assert len(open_) >= 12


def test_idle_operations_come_as_often_as_asked() -> None:
    for idle in (0, 20, 90):
        drawn = islice(CounterTask(idle=idle).draws(Random(1), "test"), 400)
        added = [a for p in drawn for a in p.meta["added"]]
        assert abs(added.count(0) / len(added) - idle / 100) < 0.05
        assert set(added) - {0} == {1, 2, 3, 4}
    assert CounterTask(idle=20).spec == "counter" and CounterTask(idle=90).spec == "counter:idle=90"
    assert CounterTask(idle=90).vocabulary() == COUNTER.vocabulary(), "a stage of a curriculum needs the same words"


def test_splits_share_no_structure_and_a_larger_n_extends_the_list() -> None:
    result = {split: COUNTER.generate(300, seed=2, split=split) for split in ("train", "val", "test")}
    structures = [{p.structure for p in problems} for problems in result.values()]
    assert not structures[0] & structures[1] and not structures[0] & structures[2] and not structures[1] & structures[2]
    assert all(p.split == split for split, problems in result.items() for p in problems)
    assert COUNTER.generate(500, seed=2)[:300] == result["test"]
    again = Problem.from_json(result["val"][0].to_json())
    assert again == result["val"][0] and again.meta == result["val"][0].meta


@pytest.fixture
def problem() -> Problem:
    return COUNTER.generate(1, seed=3)[0]


def right(problem: Problem) -> list[str]:
    return [*(step.text for step in problem.steps), problem.answer]


@given(which=st.integers(0, 7))
def test_a_wrong_parity_is_one_error_because_the_value_goes_on_in_secret(which: int) -> None:
    problem = COUNTER.generate(1, seed=3)[0]
    words = right(problem)
    words[which] = {"even": "odd", "odd": "even"}[words[which]]
    verdict = COUNTER.verify(problem, " ".join(words))
    assert verdict.answer and verdict.first_error == which + 1
    assert verdict.steps == tuple(k != which for k in range(8))


def test_verify_of_right_missing_extra_and_empty_texts(problem: Problem) -> None:
    words = right(problem)
    verdict = COUNTER.verify(problem, " ".join(words))
    assert verdict.answer and verdict.steps == (True,) * 8 and verdict.first_error is None
    assert COUNTER.verify(problem, problem.answer).steps == (None,) * 8
    extra = COUNTER.verify(problem, " ".join([*words[:-1], "odd", words[-1]]))
    assert extra.answer and extra.steps[8] is False and extra.first_error == 9
    assert not COUNTER.verify(problem, "").answer
    assert not COUNTER.verify(problem, " ".join(words[:-1])).answer, "a parity is no answer"


@given(step=st.integers(1, 8), value=st.integers(0, 4), k=st.integers(0, 20))
@settings(deadline=None)
def test_counterfactual_counts_on_from_the_value_given(step: int, value: int, k: int) -> None:
    problem = COUNTER.generate(21, seed=4)[k]
    rest = " ".join([str(value), *problem.question.split()[step + 1 : -1], "?"])
    reached = [value, *run_by_hand(rest, 5)]
    assert COUNTER.counterfactual(problem, step, str(value)) == str(reached[-1])
    assert COUNTER.counterfactual(problem, step, problem.steps[step - 1].value) == problem.answer


def test_counterfactual_refuses_what_is_not_there(problem: Problem) -> None:
    with pytest.raises(UsageError, match="between 1 and 8, got 9"):
        COUNTER.counterfactual(problem, 9, "1")
    with pytest.raises(UsageError, match="expected a known value of task counter, got '5'"):
        COUNTER.counterfactual(problem, 1, "5")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": 4}, "to be odd, got 4; .* carried beside the text"),
        ({"values": 1}, "values of task counter to be a whole number of at least 3"),
        ({"steps": "two"}, "expected steps of task counter like 2-8 or 8, got 'two'"),
        ({"steps": "3-99"}, "between 1 and 16, the smaller first, got '3-99'"),
        ({"steps": 0}, "between 1 and 16, the smaller first, got 0"),
        ({"idle": 100}, "idle of task counter, in percent, to be at most 99, got 100"),
        ({"idle": -1}, "idle of task counter, in percent, to be a whole number of at least 0"),
        ({"ilde": 1}, "expected a known option of task counter, got 'ilde'; did you mean 'idle'"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        task("counter", **options)
