"""Task `variables`: the question alone determines everything, facts included."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import UsageError
from interp.problems import task
from interp.problems.base import SPLITS, Problem, Task, split_of
from interp.problems.chain import operations
from interp.problems.variables import VariablesTask

TASK = VariablesTask()
PROBLEMS = TASK.generate(200, seed=1)
some_problem = st.integers(0, len(PROBLEMS) - 1).map(lambda k: PROBLEMS[k])


class Surface:
    """A reader of the question that shares nothing with the task but the operations' tables."""

    def __init__(self, question: str) -> None:
        *clauses, asked = question.split(" ; ")
        self.asked, mark = asked.split()
        assert mark == "?"
        self.sources: dict[str, str | None] = {}
        self.operations: dict[str, str] = {}
        self.values: dict[str, int] = {}
        for clause in clauses:
            name, first, *rest = clause.split()
            assert name not in self.sources
            self.sources[name] = first if rest else None
            if rest:
                self.operations[name] = rest[0]
            else:
                self.values[name] = int(first)
        tables = {operation.name: operation.table for operation in operations(10)}
        while len(self.values) < len(self.sources):
            for name, operation in self.operations.items():
                source = self.sources[name]
                if name not in self.values and source in self.values:
                    self.values[name] = tables[operation][self.values[source]]

    def above(self, name: str) -> list[str]:
        source = self.sources[name]
        return [] if source is None else [source, *self.above(source)]


@given(some_problem)
@settings(max_examples=100, deadline=None)
def test_steps_and_answer_follow_from_the_question(problem: Problem) -> None:
    surface = Surface(problem.question)
    path = [surface.asked, *surface.above(surface.asked)][::-1]
    assert [step.value for step in problem.steps] == [str(surface.values[name]) for name in path[1:]]
    assert problem.answer == str(surface.values[surface.asked])
    for step, name in zip(problem.steps, path[1:], strict=True):
        output = f"{name} {surface.sources[name]} {surface.operations[name]} = {surface.values[name]}"
        assert step.text == output


def test_problems_have_the_steps_and_distractors_that_were_asked_for() -> None:
    assert Counter(p.n_steps for p in PROBLEMS).keys() == {2, 3, 4}
    assert all(len(Surface(p.question).sources) == p.n_steps + 3 for p in PROBLEMS)
    wide = VariablesTask(steps="3", distractors=5, names=12).generate(20, seed=0)
    assert all(p.n_steps == 3 and len(Surface(p.question).sources) == 9 for p in wide)
    bare = VariablesTask(distractors=0).generate(20, seed=0)
    assert all(len(Surface(p.question).sources) == p.n_steps + 1 for p in bare)


def test_distractors_hang_anywhere_and_assignments_come_in_any_order() -> None:
    surfaces = [Surface(p.question) for p in PROBLEMS]
    on_path = {s.asked: {s.asked, *s.above(s.asked)} for s in surfaces}
    loose = [(s, name) for s in surfaces for name in s.sources if name not in {s.asked, *s.above(s.asked)}]
    kinds = Counter(
        "constant" if s.sources[name] is None else "path" if s.sources[name] in on_path[s.asked] else "loose"
        for s, name in loose
    )
    assert len(loose) == 2 * len(PROBLEMS) and min(kinds[k] for k in ("constant", "path", "loose")) >= 5
    first = Counter(next(iter(s.sources)) in s.above(s.asked) for s in surfaces)
    assert min(first.values()) > 40


@pytest.mark.parametrize("what", ["asked", "constant"])
def test_neither_the_name_asked_for_nor_the_constant_says_the_answer(what: str) -> None:
    pairs: Counter[tuple[str, str]] = Counter()
    for problem in TASK.generate(4000, seed=2, split="train"):
        surface = Surface(problem.question)
        root = surface.above(surface.asked)[-1]
        pairs[surface.asked if what == "asked" else str(surface.values[root]), problem.answer] += 1
    groups = {key for key, _ in pairs}
    for group in groups:
        counts = [pairs[group, str(v)] for v in range(10)]
        assert max(counts) / sum(counts) < 0.17, f"{group}: {counts}"


def test_names_order_and_distractors_do_not_change_the_structure() -> None:
    by_structure: dict[str, set[tuple]] = {}
    for problem in VariablesTask(steps="1").generate(1500, seed=0, split="train"):
        surface = Surface(problem.question)
        root = surface.above(surface.asked)[-1]
        core = (surface.values[root], surface.operations[surface.asked])
        by_structure.setdefault(problem.structure, set()).add(core)
    assert all(len(cores) == 1 for cores in by_structure.values())
    assert len(set().union(*by_structure.values())) == len(by_structure), "one computation, one structure"
    assert len(by_structure) < 200


def test_no_structure_appears_in_two_splits() -> None:
    result = {split: {p.structure for p in TASK.generate(500, 3, split)} for split in SPLITS}
    assert (
        not result["train"] & result["test"]
        and not result["train"] & result["val"]
        and not result["val"] & result["test"]
    )
    assert all({split_of(s) for s in result[split]} == {split} for split in SPLITS)


def test_generation_is_deterministic_and_extends() -> None:
    assert TASK.generate(30, seed=5)[:10] == TASK.generate(10, seed=5)
    assert TASK.generate(10, seed=5) != TASK.generate(10, seed=6)
    assert len({p.question for p in PROBLEMS}) == len(PROBLEMS)


def test_every_word_is_in_the_vocabulary() -> None:
    known = set(TASK.vocabulary())
    assert len(known) == len(TASK.vocabulary())
    for p in PROBLEMS:
        assert {*p.question.split(), *(w for s in p.steps for w in s.text.split()), p.answer} <= known


def right_text(problem: Problem) -> list[str]:
    return [*(step.text for step in problem.steps), problem.answer]


@given(some_problem)
@settings(max_examples=60, deadline=None)
def test_the_gold_text_is_right(problem: Problem) -> None:
    verdict = TASK.verify(problem, " ".join(right_text(problem)))
    assert verdict.answer and verdict.steps == (True,) * problem.n_steps and verdict.first_error is None


@given(problem=some_problem, which=st.integers(0, 3), shift=st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_one_slip_is_counted_once(problem: Problem, which: int, shift: int) -> None:
    which %= problem.n_steps
    slipped = str((int(problem.steps[which].value) + shift) % 10)
    surface, words = Surface(problem.question), []
    tables = {operation.name: operation.table for operation in operations(10)}
    value = None
    for k, step in enumerate(problem.steps):
        name = step.text.split()[0]
        before = surface.values[str(surface.sources[name])] if value is None else int(value)
        value = slipped if k == which else str(tables[surface.operations[name]][before])
        words += [*step.text.split()[:-1], value]
    verdict = TASK.verify(problem, " ".join([*words, str(value)]))
    assert verdict.steps == tuple(k != which for k in range(problem.n_steps))
    assert verdict.first_error == which + 1 and not verdict.answer


def test_a_step_on_a_distractor_is_wrong_even_when_it_is_computed_right() -> None:
    for problem in PROBLEMS:
        surface = Surface(problem.question)
        loose = [n for n in surface.operations if n != surface.asked and n not in surface.above(surface.asked)]
        ready = [n for n in loose if surface.sources[str(surface.sources[n])] is None]
        if ready:
            break
    n = ready[0]
    extra = f"{n} {surface.sources[n]} {surface.operations[n]} = {surface.values[n]}"
    verdict = TASK.verify(problem, " ".join([extra, *right_text(problem)]))
    assert verdict.steps == (False, *[True] * problem.n_steps) and verdict.first_error == 1 and verdict.answer


def test_a_skipped_step_leaves_the_next_without_its_operand() -> None:
    problem = next(p for p in PROBLEMS if p.n_steps == 3)
    texts = [step.text for step in problem.steps]
    verdict = TASK.verify(problem, " ".join([texts[0], texts[2], problem.answer]))
    assert verdict.steps == (True, False, None) and verdict.first_error == 2 and verdict.answer


def test_a_repeated_step_is_wrong() -> None:
    problem = next(p for p in PROBLEMS if p.n_steps == 2)
    texts = [step.text for step in problem.steps]
    verdict = TASK.verify(problem, " ".join([texts[0], texts[0], texts[1], problem.answer]))
    assert verdict.steps == (True, False, True)


@given(st.text(max_size=60), some_problem)
@settings(max_examples=100, deadline=None)
def test_verify_never_fails_and_never_praises_garbage(text: str, problem: Problem) -> None:
    verdict = TASK.verify(problem, text)
    assert verdict.answer == (text.split()[-1:] == [problem.answer])
    assert len(verdict.steps) >= problem.n_steps and not any(verdict.steps)


@given(problem=some_problem, step=st.integers(1, 4), value=st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_counterfactual_is_what_the_later_operations_make_of_the_value(problem: Problem, step: int, value: int) -> None:
    step = (step - 1) % problem.n_steps + 1
    tables, reached = {operation.name: operation.table for operation in operations(10)}, value
    surface = Surface(problem.question)
    path = [surface.asked, *surface.above(surface.asked)][::-1]
    for name in path[step + 1 :]:
        reached = tables[surface.operations[name]][reached]
    assert TASK.counterfactual(problem, step, str(value)) == str(reached)
    assert TASK.counterfactual(problem, step, problem.steps[step - 1].value) == problem.answer


@given(problem=some_problem, step=st.integers(0, 4))
@settings(max_examples=150, deadline=None)
def test_facts_agree_with_a_reader_of_the_question(problem: Problem, step: int) -> None:
    step = min(step, problem.n_steps)
    surface = Surface(problem.question)
    necessary = {surface.asked, *surface.above(surface.asked)}
    done = [s.text.split()[0] for s in problem.steps[:step]]
    known = {n for n in surface.sources if surface.sources[n] is None} | set(done)
    for name in surface.sources:
        ready = name not in known and surface.sources[name] in known
        expected = {
            "necessary": name in necessary,
            "known": name in known,
            "can_next": ready,
            "necessary_next": ready and name in necessary,
        }
        for fact, held in expected.items():
            assert TASK.fact(problem, fact, (name,), step) == ("yes" if held else "no"), (fact, name)
        value = str(surface.values[name]) if name in known else "unknown"
        assert TASK.fact(problem, "value", (name,), step) == value
        for other in surface.sources:
            held = None if other == name else "yes" if other in surface.above(name) else "no"
            assert TASK.fact(problem, "depends", (name, other), step) == held


@given(problem=some_problem)
@settings(max_examples=50, deadline=None)
def test_exactly_one_variable_is_necessary_next_until_the_end(problem: Problem) -> None:
    for step in range(problem.n_steps + 1):
        result = [v for v in TASK.entities(problem) if TASK.fact(problem, "necessary_next", (v,), step) == "yes"]
        expected = [problem.steps[step].text.split()[0]] if step < problem.n_steps else []
        assert result == expected


def test_entities_are_the_variables_and_others_have_no_facts() -> None:
    problem = PROBLEMS[0]
    assert set(TASK.entities(problem)) == set(Surface(problem.question).sources)
    absent = next(name for name in TASK.names if name not in TASK.entities(problem))
    assert TASK.fact(problem, "known", (absent,), 0) is None
    assert TASK.fact(problem, "depends", (TASK.entities(problem)[0], absent), 0) is None
    with pytest.raises(UsageError, match=r"expected a known fact of task variables, got 'knwon'; did you mean 'known'"):
        TASK.fact(problem, "knwon", ("A",), 0)
    with pytest.raises(UsageError, match="expected 2 variables for fact 'depends', got 1"):
        TASK.fact(problem, "depends", ("A",), 0)


def test_it_is_a_task_and_its_spec_names_it_again() -> None:
    assert isinstance(TASK, Task)
    for made in (TASK, VariablesTask(steps="3"), VariablesTask(distractors=1, values=12, names=9)):
        assert task(made.spec).spec == made.spec
        assert task(made.spec).generate(3, seed=0) == made.generate(3, seed=0)


def test_a_problem_survives_json() -> None:
    again = Problem.from_json(PROBLEMS[0].to_json())
    assert again == PROBLEMS[0] and TASK.fact(again, "known", ("A",), 1) == TASK.fact(PROBLEMS[0], "known", ("A",), 1)


def test_the_readable_form_names_every_assignment() -> None:
    for problem in PROBLEMS[:20]:
        surface = Surface(problem.question)
        assert problem.readable.endswith(f"What is {surface.asked}?")
        output = [f"{n} is " if s is None else f"to get {n}, take {s} and " for n, s in surface.sources.items()]
        assert all(each in problem.readable for each in output)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("variables:steps=two", "expected steps of task variables like 2-4 or 3, got 'two'"),
        ("variables:steps=0", "at least 1, the smaller first, got '0'"),
        ("variables:steps=4-2", "at least 1, the smaller first, got '4-2'"),
        ("variables:distractors=-1", "distractors of task variables to be .*got '-1'"),
        ("variables:distractors=4", r"expected names of task variables between 9 .* and 26, got 8"),
        ("variables:names=27", "between 7 .* and 26, got 27"),
        ("variables:values=3", "values of task variables to be a whole number of at least 5"),
        ("variables:stpes=3", "expected a known option of task variables, got 'stpes'; did you mean 'steps'"),
    ],
)
def test_bad_options_are_refused_by_name(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        task(spec)


def test_counterfactual_refuses_what_is_not_there() -> None:
    problem = next(p for p in PROBLEMS if p.n_steps == 3)
    with pytest.raises(UsageError, match="between 1 and 3, got 4"):
        TASK.counterfactual(problem, 4, "3")
    with pytest.raises(UsageError, match="expected a known value of task variables, got 'x'"):
        TASK.counterfactual(problem, 1, "x")
