"""Task `chain`: balanced operations, disjoint splits, exact verification."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import UsageError
from interp.problems import task
from interp.problems.base import SPLITS, Problem, split_of
from interp.problems.chain import ChainTask, operations

CHAIN = ChainTask()
MIXED = ChainTask(order="mixed")


def permutation_tables(n_values: int) -> dict[str, list[int]]:
    """What each operation name means: sums and products from their names, the rest from the task's table."""
    tables = {}
    for operation in operations(n_values):
        if operation.name[0] == "+":
            tables[operation.name] = [(v + int(operation.name[1:])) % n_values for v in range(n_values)]
        elif operation.name[0] == "*":
            tables[operation.name] = [(v * int(operation.name[1:])) % n_values for v in range(n_values)]
        else:
            tables[operation.name] = list(operation.table)
    return tables


def interpret(question: str, n_values: int = 10) -> tuple[int, list[str], list[int]]:
    """Start, operations in order, and every value: a little interpreter of the surface, in order or shuffled."""
    words = question.split()
    assert words[-1] == "?"
    start, rest = int(words[0]), words[1:-1]
    if rest and rest[0].endswith(":"):
        keyed = {int(key[:-1]): name for key, name in zip(rest[::2], rest[1::2], strict=True)}
        assert sorted(keyed) == list(range(1, len(keyed) + 1))
        names = [keyed[k] for k in sorted(keyed)]
    else:
        names = rest
    tables, value, values = permutation_tables(n_values), start, []
    for name in names:
        value = tables[name][value]
        values.append(value)
    return start, names, values


@pytest.mark.parametrize("n_values", [5, 7, 10, 12, 31])
def test_operations_are_balanced_permutations(n_values: int) -> None:
    result = operations(n_values)
    counts = np.zeros((n_values, n_values), dtype=int)
    for operation in result:
        assert sorted(operation.table) == list(range(n_values)), operation.name
        counts[np.arange(n_values), operation.table] += 1
    assert len(np.unique(counts)) == 1
    assert counts[0, 0] * n_values == len(result)
    assert len({o.name for o in result}) == len(result)


@pytest.mark.parametrize("n_values", [10, 31])
def test_sums_and_products_do_what_their_names_say(n_values: int) -> None:
    tables = permutation_tables(n_values)
    for operation in operations(n_values):
        assert list(operation.table) == tables[operation.name]


def test_operations_are_the_same_in_every_process() -> None:
    first = operations(10)
    operations.cache_clear()
    assert operations(10) == first


def test_no_structure_appears_in_two_splits() -> None:
    result = {
        split: {p.structure for seed in range(3) for t in (CHAIN, MIXED) for p in t.generate(700, seed, split)}
        for split in SPLITS
    }
    assert all(len(structures) > 1000 for structures in result.values())
    assert not result["train"] & result["test"]
    assert not result["train"] & result["val"]
    assert not result["val"] & result["test"]


def test_structures_fall_into_splits_by_the_stated_shares() -> None:
    rng = np.random.default_rng(0)
    splits = [split_of(f"{int(x):08x}rest") for x in rng.integers(0, 2**32, 6000)]
    shares = {split: splits.count(split) / len(splits) for split in SPLITS}
    assert shares == pytest.approx({"train": 0.6, "val": 0.1, "test": 0.3}, abs=0.03)


def test_a_problem_says_its_own_split() -> None:
    for split in SPLITS:
        assert {p.split for p in CHAIN.generate(50, 1, split)} == {split}
        assert {split_of(p.structure) for p in CHAIN.generate(50, 1, split)} == {split}


@given(seed=st.integers(0, 10_000), n=st.integers(1, 30), more=st.integers(1, 30))
@settings(max_examples=25, deadline=None)
def test_the_same_seed_gives_the_same_problems_and_a_larger_n_extends_them(seed: int, n: int, more: int) -> None:
    assert MIXED.generate(n, seed) == MIXED.generate(n, seed)
    assert MIXED.generate(n + more, seed)[:n] == MIXED.generate(n, seed)


def test_other_seeds_and_orders_give_other_problems() -> None:
    questions = [{p.question for p in t.generate(200, seed)} for t in (CHAIN, MIXED) for seed in (0, 1)]
    for k, one in enumerate(questions):
        for other in questions[:k]:
            assert len(one & other) < 50


def test_questions_are_distinct() -> None:
    result = CHAIN.generate(2000, 5)
    assert len({p.question for p in result}) == len({p.id for p in result}) == 2000


@pytest.mark.parametrize("order", ["in-order", "shuffled", "mixed"])
@pytest.mark.parametrize("n_values", [10, 31])
def test_every_surface_means_its_structure_and_its_answer(order: str, n_values: int) -> None:
    made = ChainTask(order=order, values=n_values)
    shuffled = 0
    for problem in made.generate(300, seed=2):
        start, names, values = interpret(problem.question, n_values)
        assert str(start) == problem.meta["start"]
        assert names == problem.meta["operations"]
        assert [step.value for step in problem.steps] == [str(v) for v in values]
        assert problem.answer == str(values[-1])
        shuffled += ":" in problem.question
    assert shuffled == {"in-order": 0, "shuffled": 300}.get(order, shuffled)
    if order == "mixed":
        assert 90 < shuffled < 210


def test_both_surfaces_of_one_chain_share_their_structure() -> None:
    by_meaning: dict[tuple, set[str]] = {}
    surfaces: dict[tuple, set[bool]] = {}
    for made in (ChainTask(steps="1"), ChainTask(steps="1", order="shuffled"), ChainTask(steps="2", order="mixed")):
        for problem in made.generate(40, seed=0):
            start, names, _ = interpret(problem.question)
            by_meaning.setdefault((start, *names), set()).add(problem.structure)
            surfaces.setdefault((start, *names), set()).add(":" in problem.question)
    assert all(len(structures) == 1 for structures in by_meaning.values())
    assert any(len(both) == 2 for both in surfaces.values()), "no chain was met in both forms"
    assert len({s for found in by_meaning.values() for s in found}) == len(by_meaning)


def test_shuffled_questions_are_really_shuffled() -> None:
    result = ChainTask(order="shuffled", steps="4").generate(300, seed=0)
    keys = {tuple(w for w in p.question.split() if w.endswith(":")) for p in result}
    assert len(keys) == 24


def test_neither_the_start_nor_one_operation_says_anything_about_a_step() -> None:
    result = CHAIN.generate(4000, seed=11, split="train")
    for known in (lambda p: p.meta["start"], lambda p: p.meta["operations"][1]):
        tally: dict[str, list[int]] = {}
        for problem in result:
            tally.setdefault(known(problem), []).append(int(problem.steps[1].value))
        chi = degrees = 0
        for values in tally.values():
            counts = np.bincount(values, minlength=10)
            expected = counts.sum() / 10
            chi += ((counts - expected) ** 2 / expected).sum()
            degrees += 9
        assert abs(chi - degrees) < 4 * np.sqrt(2 * degrees)


@pytest.mark.parametrize(("spec", "lengths"), [("3", {3}), ("1-4", {1, 2, 3, 4}), ("9", {9})])
def test_steps_says_how_long_chains_are(spec: str, lengths: set[int]) -> None:
    made = task(f"chain:steps={spec}")
    assert {p.n_steps for p in made.generate(50, seed=0)} == lengths
    assert made.spec == f"chain:steps={spec}"


def test_31_values_work_and_the_spec_makes_the_same_task_again() -> None:
    made = task("chain", values=31, order="shuffled")
    result = made.generate(100, seed=0)
    assert {v for p in result for v in (s.value for s in p.steps)} <= set(made.values)
    assert len(made.values) == 31
    assert task(made.spec).generate(100, seed=0) == result
    assert set(" ".join(p.question for p in result).split()) <= set(made.vocabulary())
    assert len(set(made.vocabulary())) == len(made.vocabulary())


def test_every_word_of_questions_steps_and_answers_is_in_the_vocabulary() -> None:
    known = set(MIXED.vocabulary())
    for p in MIXED.generate(300, seed=4):
        assert set(p.question.split()) | {s.text for s in p.steps} | {p.answer} <= known


@pytest.fixture
def problem() -> Problem:
    return next(p for p in CHAIN.generate(50, seed=1) if p.n_steps == 4)


def right_text(problem: Problem) -> list[str]:
    return [*(step.text for step in problem.steps), problem.answer]


def test_verify_of_a_right_text(problem: Problem) -> None:
    verdict = CHAIN.verify(problem, " ".join(right_text(problem)))
    assert verdict.answer and verdict.steps == (True,) * 4 and verdict.first_error is None


@given(which=st.integers(0, 3), shift=st.integers(1, 9), k=st.integers(0, 49))
@settings(max_examples=60, deadline=None)
def test_one_slip_is_counted_once(which: int, shift: int, k: int) -> None:
    problem = ChainTask(steps="4").generate(50, seed=1)[k]
    tables = permutation_tables(10)
    words, value = [], int(problem.meta["start"])
    for number, name in enumerate(problem.meta["operations"]):
        value = tables[name][value]
        if number == which:
            value = (value + shift) % 10
        words.append(str(value))
    verdict = ChainTask(steps="4").verify(problem, " ".join([*words, str(value)]))
    assert verdict.steps == tuple(number != which for number in range(4))
    assert verdict.first_error == which + 1
    assert not verdict.answer, "operations are permutations, so a slip never heals"


@given(step=st.integers(1, 4), value=st.integers(0, 9), k=st.integers(0, 49))
@settings(max_examples=60, deadline=None)
def test_counterfactual_is_what_the_later_operations_make_of_the_value(step: int, value: int, k: int) -> None:
    problem = ChainTask(steps="4").generate(50, seed=1)[k]
    tables, reached = permutation_tables(10), value
    for name in problem.meta["operations"][step:]:
        reached = tables[name][reached]
    assert CHAIN.counterfactual(problem, step, str(value)) == str(reached)
    assert CHAIN.counterfactual(problem, step, problem.steps[step - 1].value) == problem.answer


def test_verify_counts_missing_steps_as_none(problem: Problem) -> None:
    words = right_text(problem)
    verdict = CHAIN.verify(problem, f"{words[0]} {problem.answer}")
    assert verdict.steps == (True, None, None, None) and verdict.answer and verdict.first_error is None
    only_answer = CHAIN.verify(problem, problem.answer)
    assert only_answer.steps == (None,) * 4 and only_answer.answer


def test_verify_counts_extra_steps_as_wrong(problem: Problem) -> None:
    words = right_text(problem)
    verdict = CHAIN.verify(problem, " ".join([*words, problem.answer]))
    assert verdict.steps == (True,) * 4 + (False,) and verdict.first_error == 5 and verdict.answer


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_verify_of_an_empty_text(problem: Problem, text: str) -> None:
    verdict = CHAIN.verify(problem, text)
    assert not verdict.answer and verdict.steps == (None,) * 4 and verdict.first_error is None


def test_verify_of_garbage(problem: Problem) -> None:
    verdict = CHAIN.verify(problem, "the answer is maybe 42 <eot>")
    assert not verdict.answer and verdict.first_error == 1 and not any(verdict.steps)


@given(st.text(max_size=40))
@settings(max_examples=100, deadline=None)
def test_verify_never_fails_and_never_praises_what_is_not_there(text: str) -> None:
    problem = CHAIN.generate(1, seed=1)[0]
    verdict = CHAIN.verify(problem, text)
    assert verdict.answer == (text.split()[-1:] == [problem.answer])
    assert sum(step is True for step in verdict.steps) <= max(len(text.split()) - 1, 0)


def test_a_problem_survives_json(problem: Problem) -> None:
    again = Problem.from_json(problem.to_json())
    assert again == problem and again.meta == problem.meta
    assert dataclasses.asdict(again) == dataclasses.asdict(problem)


@pytest.mark.parametrize("step", [0, 5, -1])
def test_counterfactual_refuses_a_step_that_is_not_there(problem: Problem, step: int) -> None:
    with pytest.raises(UsageError, match=f"between 1 and 4, got {step}"):
        CHAIN.counterfactual(problem, step, "3")


def test_counterfactual_refuses_a_value_that_is_none(problem: Problem) -> None:
    with pytest.raises(UsageError, match="expected a known value of task chain, got '10'"):
        CHAIN.counterfactual(problem, 1, "10")


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("chian", {}, r"expected a known task, got 'chian'; did you mean 'chain'"),
        ("chain", {"order": "reversed"}, "expected a known order of task chain, got 'reversed'.*shuffled"),
        ("chain", {"oder": "shuffled"}, "expected a known option of task chain, got 'oder'; did you mean 'order'"),
        ("chain:steps=two", {}, "expected steps of task chain like 2-5 or 3, got 'two'"),
        ("chain:steps=0", {}, "expected steps of task chain between 1 and 9, the smaller first, got '0'"),
        ("chain:steps=5-2", {}, "expected steps of task chain between 1 and 9, the smaller first, got '5-2'"),
        ("chain:steps=3-99", {}, "expected steps of task chain between 1 and 9"),
        ("chain:values=4", {}, "values of task chain to be a whole number of at least 5, got .*4"),
        ("chain:values=many", {}, "values of task chain to be .*'many'"),
        ("chain", {"values": 10.5}, "values of task chain to be a whole number.*10.5"),
        ("chain:shuffled", {}, "name:key=value.*'shuffled'"),
    ],
)
def test_bad_options_are_refused_by_name(spec: str, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        task(spec, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0, "seed": 0}, "n to be a whole number of at least 1, got 0"),
        ({"n": -4, "seed": 0}, "n to be .* got -4"),
        ({"n": 2.5, "seed": 0}, "n to be .* got 2.5"),
        ({"n": 3, "seed": -1}, "seed to be .* got -1"),
        ({"n": 3, "seed": 0, "split": "dev"}, "expected a known split, got 'dev'.*train, val, test"),
    ],
)
def test_generate_refuses_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CHAIN.generate(**arguments)


def test_asking_for_more_problems_than_there_are_says_how_many_there_are() -> None:
    tiny = ChainTask(steps="1")
    with pytest.raises(UsageError, match=r"expected 500 distinct problems .* got \d+; ask for fewer") as caught:
        tiny.generate(500, seed=0)
    n_distinct = int(str(caught.value).split("got ")[1].split(";")[0])
    assert len(tiny.generate(n_distinct, seed=0)) == n_distinct


# --- steps that say what they do ---------------------------------------------------------------------------


RESTATED = ChainTask(steps="2-4", restated=True)
# The first held-out questions of seed 0, written down: shipped figures were taken on this stream.
FIRST_QUESTIONS = ["0 k +1 h +3 ?", "8 +1 q k f +6 ?", "1 *3 +9 p +2 ?"]


def test_restated_steps_say_what_they_do_to_which_value() -> None:
    for problem in RESTATED.generate(100, seed=3):
        before = problem.meta["start"]
        for step, name in zip(problem.steps, problem.meta["operations"], strict=True):
            after = str(permutation_tables(10)[name][int(before)])
            assert step.text == f"{before} {name} = {after} ;" and step.value == after
            before = after
        assert problem.answer == before
        assert set(problem.question.split()) | set(right_text(problem)[0].split()) <= set(RESTATED.vocabulary())


def test_restating_changes_the_steps_text_and_nothing_else_about_a_chain() -> None:
    assert RESTATED.spec == "chain:steps=2-4,restated=yes" and task(RESTATED.spec).spec == RESTATED.spec
    assert ChainTask(restated="no").spec == "chain"
    assert set(RESTATED.vocabulary()) - set(CHAIN.vocabulary()) == {"=", ";"}
    plain = {p.question: p for p in ChainTask(steps="2").generate(900, seed=0)}
    shared = [p for p in RESTATED.generate(900, seed=0) if p.question in plain]
    assert len(shared) > 20
    for problem in shared:
        twin = plain[problem.question]
        assert (problem.id, problem.structure, problem.answer, problem.readable, problem.meta) == (
            twin.id,
            twin.structure,
            twin.answer,
            twin.readable,
            twin.meta,
        )
        assert [s.value for s in problem.steps] == [s.text for s in twin.steps]


def test_questions_of_the_plain_task_are_those_of_before_restating_came() -> None:
    assert [p.question for p in task("chain").generate(3, seed=0, split="test")] == FIRST_QUESTIONS


def test_a_right_restated_text_is_verified_and_a_cut_one_counted() -> None:
    problem = next(p for p in RESTATED.generate(20, seed=1) if p.n_steps == 3)
    whole = RESTATED.verify(problem, " ".join(right_text(problem)))
    assert whole.answer and whole.steps == (True,) * 3 and whole.first_error is None
    words = " ".join(right_text(problem)).split()
    cut = RESTATED.verify(problem, " ".join([*words[:7], problem.answer]))
    assert cut.steps == (True, False, None) and cut.answer
    only_answer = RESTATED.verify(problem, problem.answer)
    assert only_answer.steps == (None,) * 3 and only_answer.answer


@given(which=st.integers(0, 2), word=st.integers(0, 4), k=st.integers(0, 19))
@settings(max_examples=60, deadline=None)
def test_one_wrong_word_of_a_restated_step_spoils_that_step(which: int, word: int, k: int) -> None:
    problem = ChainTask(steps="3", restated="yes").generate(20, seed=1)[k]
    words = " ".join(right_text(problem)).split()
    words[5 * which + word] = "?"
    verdict = RESTATED.verify(problem, " ".join(words))
    # A value that cannot be read leaves the next step nothing to follow from.
    spoiled = {which, which + 1} if word == 3 else {which}
    assert verdict.steps == tuple(step not in spoiled for step in range(3))
    assert verdict.first_error == which + 1 and verdict.answer


def test_a_restated_slip_is_counted_once() -> None:
    problem = next(p for p in RESTATED.generate(20, seed=1) if p.n_steps == 3)
    tables, value, texts = permutation_tables(10), int(problem.meta["start"]), []
    for number, name in enumerate(problem.meta["operations"]):
        reached = (tables[name][value] + (number == 0)) % 10
        texts.append(f"{value} {name} = {reached} ;")
        value = reached
    verdict = RESTATED.verify(problem, " ".join([*texts, str(value)]))
    assert verdict.steps == (False, True, True) and not verdict.answer


def test_restated_must_be_yes_or_no() -> None:
    with pytest.raises(UsageError, match="expected restated of task chain to be yes or no, got 'maybe'"):
        task("chain:restated=maybe")
