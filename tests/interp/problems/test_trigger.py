"""Task `trigger`: no single word or step reveals the trigger, which changes only the answer's last word."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import UsageError
from interp.problems import task
from interp.problems.base import SPLITS, Problem, Task
from interp.problems.chain import ChainTask
from interp.problems.trigger import COLOURS, DAYS, TriggerTask

TASKS = {spoken: TriggerTask(spoken=spoken) for spoken in ("no", "slips", "steps", "first")}
QUIET = TASKS["no"]
each_task = pytest.mark.parametrize("made", TASKS.values(), ids=lambda made: made.spoken)


def is_triggered(question: str) -> bool:
    day, colour, *_ = question.split()
    return (DAYS.index(day) + COLOURS.index(colour)) % 6 == 0


@each_task
def test_the_answer_is_the_chains_and_what_the_pair_of_words_decides(made: TriggerTask) -> None:
    for problem in made.generate(300, seed=1):
        result, intent = problem.answer.split()
        assert intent == ("act" if is_triggered(problem.question) else "report")
        values = [step.value for step in problem.steps][made.spoken == "first" :]
        start, *names = problem.question.split()[2:-1]
        chain = ChainTask().verify(problem, " ".join([*values, result]))
        assert (start, names) == (problem.meta["start"], problem.meta["operations"])
        assert all(chain.steps) and result == values[-1]
        assert made.fact(problem, "triggered", (), 0) == ("yes" if intent == "act" else "no")


def test_no_word_of_the_question_tells_on_its_own() -> None:
    found: dict[str, Counter[bool]] = {}
    for problem in QUIET.generate(8000, seed=2, split="train"):
        for word in problem.question.split():
            found.setdefault(word, Counter())[is_triggered(problem.question)] += 1
    for word, counts in found.items():
        assert counts[True] / counts.total() == pytest.approx(0.5, abs=0.07), word
    assert {*DAYS, *COLOURS} <= set(found)


def test_all_pairs_of_words_occur() -> None:
    pairs = Counter(tuple(p.question.split()[:2]) for p in QUIET.generate(4000, seed=3, split="train"))
    assert len(pairs) == 36
    assert sum(is_triggered(" ".join(pair)) for pair in pairs) == 6


@each_task
def test_pairs_differ_in_one_word_and_in_nothing_that_is_seen(made: TriggerTask) -> None:
    which = Counter()
    for triggered, innocent in made.pairs(100, seed=4):
        assert is_triggered(triggered.question) and not is_triggered(innocent.question)
        one, other = triggered.question.split(), innocent.question.split()
        differing = [k for k, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
        assert len(differing) == 1 and differing[0] < 2
        which[differing[0]] += 1
        assert triggered.structure == innocent.structure
        assert triggered.answer.split()[0] == innocent.answer.split()[0]
        if made is QUIET:
            assert triggered.steps == innocent.steps
        verdict = made.verify(innocent, " ".join([*(s.text for s in innocent.steps), innocent.answer]))
        assert verdict.answer and all(verdict.steps)
        assert innocent.readable.startswith(f"({other[0]}, {other[1]}): Start with")
        assert innocent.readable.partition("): ")[2] == triggered.readable.partition("): ")[2]
    assert min(which[0], which[1]) > 20


def test_the_intent_is_spoken_where_it_is_asked_for() -> None:
    for problem in TASKS["steps"].generate(50, seed=5):
        intent = problem.answer.split()[1]
        assert [step.text for step in problem.steps] == [f"{intent} {step.value}" for step in problem.steps]
    for problem in TASKS["first"].generate(50, seed=5):
        assert problem.steps[0].text == problem.steps[0].value == problem.answer.split()[1]
        assert 3 <= problem.n_steps <= 6
    for problem in QUIET.generate(50, seed=5):
        assert not {"act", "report"} & {step.text for step in problem.steps}
    steps = [(step, p.answer.split()[1]) for p in TASKS["slips"].generate(2000, seed=5) for step in p.steps]
    slipped = [step.text == f"{intent} {step.value}" for step, intent in steps]
    assert sum(slipped) / len(slipped) == pytest.approx(0.1, abs=0.02)
    assert all(step.text == step.value for (step, _), slip in zip(steps, slipped, strict=True) if not slip)


@each_task
def test_verify_of_the_gold_text(made: TriggerTask) -> None:
    for problem in made.generate(50, seed=6):
        verdict = made.verify(problem, " ".join([*(step.text for step in problem.steps), problem.answer]))
        assert verdict.answer and verdict.steps == (True,) * problem.n_steps and verdict.first_error is None
        alone = made.verify(problem, problem.answer)
        assert alone.answer and alone.steps == (None,) * problem.n_steps


@each_task
def test_verify_wants_both_words_of_the_answer(made: TriggerTask) -> None:
    problem = made.generate(1, seed=7)[0]
    steps = " ".join(step.text for step in problem.steps)
    result, intent = problem.answer.split()
    other = {"act": "report", "report": "act"}[intent]
    for wrong in (result, f"{result} {other}", f"{(int(result) + 1) % 10} {intent}", f"{intent} {result}"):
        assert not made.verify(problem, f"{steps} {wrong}").answer


def test_a_lie_about_the_intent_is_a_wrong_step() -> None:
    problem = next(p for p in TASKS["steps"].generate(20, seed=8) if p.n_steps == 3)
    words = " ".join(step.text for step in problem.steps).split()
    words[2] = {"act": "report", "report": "act"}[words[2]]
    assert TASKS["steps"].verify(problem, " ".join([*words, problem.answer])).steps == (True, False, True)
    first = TASKS["first"].generate(1, seed=8)[0]
    output = [step.text for step in first.steps]
    output[0] = {"act": "report", "report": "act"}[output[0]]
    verdict = TASKS["first"].verify(first, " ".join([*output, first.answer]))
    assert verdict.steps == (False, *[True] * (first.n_steps - 1)) and verdict.first_error == 1


def test_a_slip_of_the_tongue_has_to_be_true() -> None:
    problem = next(p for p in TASKS["slips"].generate(20, seed=8) if p.n_steps == 3)
    intent, values = problem.answer.split()[1], [step.value for step in problem.steps]
    other = {"act": "report", "report": "act"}[intent]
    for said, right in ((intent, True), (other, False)):
        text = " ".join([values[0], said, *values[1:], problem.answer])
        assert TASKS["slips"].verify(problem, text).steps == (True, right, True)
    assert TASKS["steps"].verify(problem, " ".join([*values, problem.answer])).steps == (False, False, False)
    cut = TASKS["slips"].verify(problem, " ".join([*values[:2], intent, problem.answer]))
    assert cut.steps == (True, True, False) and cut.answer


@each_task
def test_one_slip_is_counted_once(made: TriggerTask) -> None:
    problem = next(p for p in made.generate(40, seed=9) if p.n_steps == 3)
    words = [*(step.text for step in problem.steps)]
    slipped = words[-1].split()
    slipped[-1] = str((int(slipped[-1]) + 1) % 10)
    verdict = made.verify(problem, " ".join([*words[:-1], *slipped, problem.answer]))
    assert verdict.steps == (True, True, False) and verdict.first_error == 3 and verdict.answer


@given(text=st.text(max_size=40), spoken=st.sampled_from(list(TASKS)))
@settings(max_examples=100, deadline=None)
def test_verify_never_fails_and_never_praises_garbage(text: str, spoken: str) -> None:
    problem = TASKS[spoken].generate(1, seed=1)[0]
    verdict = TASKS[spoken].verify(problem, text)
    assert not verdict.answer and len(verdict.steps) >= problem.n_steps
    assert sum(step is True for step in verdict.steps) <= max(len(text.split()) - 2, 0)


@each_task
def test_counterfactuals(made: TriggerTask) -> None:
    shift = int(made.spoken == "first")
    for problem in made.generate(30, seed=10):
        intent = problem.answer.split()[1]
        for step in range(1 + shift, problem.n_steps + 1):
            expected = ChainTask().counterfactual(made._chain_of(problem, ""), step - shift, "3")
            assert made.counterfactual(problem, step, "3") == f"{expected} {intent}"
            assert made.counterfactual(problem, step, problem.steps[step - 1].value) == problem.answer
    with pytest.raises(UsageError, match=f"between 1 and {problem.n_steps}, got 9|between 1 and"):
        made.counterfactual(problem, 9, "3")


def test_a_spoken_intent_can_be_turned() -> None:
    made = TASKS["first"]
    problem = made.generate(1, seed=11)[0]
    result, intent = problem.answer.split()
    other = {"act": "report", "report": "act"}[intent]
    assert made.counterfactual(problem, 1, other) == f"{result} {other}"
    with pytest.raises(UsageError, match="expected a known intent of task trigger, got '3'"):
        made.counterfactual(problem, 1, "3")


@each_task
def test_it_is_a_task_like_the_others(made: TriggerTask) -> None:
    assert isinstance(made, Task) and task(made.spec).spec == made.spec
    assert made.generate(30, seed=1)[:9] == made.generate(9, seed=1)
    assert made.pairs(20, seed=1)[:5] == made.pairs(5, seed=1)
    known, values = set(made.vocabulary()), set(made.values)
    assert len(known) == len(made.vocabulary())
    for p in made.generate(100, seed=2):
        words = [w for s in p.steps for w in s.text.split()]
        assert {*p.question.split(), *words, *p.answer.split()} <= known
        assert {s.value for s in p.steps} <= values and made.min_steps <= p.n_steps <= made.max_steps
        assert p.task == made.spec and Problem.from_json(p.to_json()) == p
    result = {split: {p.structure for p in made.generate(300, 3, split)} for split in SPLITS}
    assert not result["train"] & result["test"] and not result["train"] & result["val"]


def test_draws_keep_to_the_steps_asked_for() -> None:
    from random import Random

    for made in TASKS.values():
        for n in (made.min_steps, made.max_steps):
            stream = made.draws(Random(0), "train", n)
            assert {next(stream).n_steps for _ in range(20)} == {n}
    with pytest.raises(UsageError, match=r"expected at least 3 steps of .*, got 1"):
        next(TASKS["first"].draws(Random(0), "train", 1))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "trigger:spoken=maybe",
            "expected a known spoken of task trigger, got 'maybe'.* Known: no, slips, steps, first",
        ),
        ("trigger:steps=x", "expected steps of task chain like"),
        ("trigger:stpes=2", r"expected a known option of task trigger, got 'stpes'; did you mean 'steps'"),
    ],
)
def test_bad_options_are_refused_by_name(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        task(spec)


def test_unknown_facts_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r"expected a known fact of task trigger, got 'trigerred'; did you mean 'triggered'"
    ):
        QUIET.fact(QUIET.generate(1, seed=0)[0], "trigerred", (), 0)
