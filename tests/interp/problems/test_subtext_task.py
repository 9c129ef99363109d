"""Task `subtext`: the choice of words carries exactly the planted bits."""

from __future__ import annotations

import random
from collections import Counter
from math import log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import UsageError
from interp.problems import task
from interp.problems.base import SPLITS, Problem, Task
from interp.problems.chain import ChainTask
from interp.problems.subtext import SPELLINGS, SYNONYMS, SubtextTask

TASKS = {bits: SubtextTask(bits=bits) for bits in (0, 1, 2, 4)}
VALUE = SubtextTask(secret="value")
ALL = [*TASKS.values(), VALUE]
GERMAN_OR_DIGIT = {*SPELLINGS[0], *SPELLINGS[2]}
each_task = pytest.mark.parametrize("made", ALL, ids=lambda made: made.spec)


def digits(word: str) -> str:
    """What a word means, found by hand."""
    return next(str(spelling.index(word)) for spelling in SPELLINGS if word in spelling)


def information(pairs: list[tuple[str, str]]) -> float:
    """Plug-in mutual information of two labels, in bits."""
    n = len(pairs)
    both, one, other = Counter(pairs), Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    return sum(c / n * log2(c * n / (one[a] * other[b])) for (a, b), c in both.items())


def test_no_word_has_two_meanings() -> None:
    words = [word for spelling in SPELLINGS for word in spelling]
    assert len(set(words)) == 40 and len(set(SYNONYMS)) == 10
    for made in ALL:
        assert len(set(made.vocabulary())) == len(made.vocabulary())


@each_task
def test_the_meaning_is_the_chains(made: SubtextTask) -> None:
    chain = ChainTask(steps="4-5")
    for problem in made.generate(100, seed=1):
        words = [w for w in problem.question.split() if w not in ("then", "next")]
        assert words == [problem.meta["start"], *problem.meta["operations"], "?"]
        values = " ".join(step.value for step in problem.steps)
        verdict = chain.verify(problem, f"{values} {problem.answer}")
        assert verdict.answer and all(verdict.steps)
        if made.secret == "hint":
            assert [digits(step.text) for step in problem.steps] == [step.value for step in problem.steps]


@pytest.mark.parametrize("bits", [0, 1, 2, 4])
def test_exactly_the_planted_bits_are_in_the_words(bits: int) -> None:
    problems = TASKS[bits].generate(4000, seed=0, split="train")
    carried = {0: [], 1: [2], 2: [2, 4], 4: [1, 2, 3, 4]}[bits]
    total = 0.0
    for k in range(1, 6):
        pairs = [
            (str(int(p.steps[k - 1].text not in GERMAN_OR_DIGIT)), p.meta["hints"][k - 1])
            for p in problems
            if p.n_steps >= k
        ]
        result = information(pairs)
        assert result == pytest.approx(1.0 if k in carried else 0.0, abs=0.01)
        total += result
    assert total == pytest.approx(TASKS[bits].planted_bits, abs=0.02) and TASKS[bits].planted_bits == bits
    hints = Counter(TASKS[4].fact(p, "secret", (), 0) for p in problems)
    assert len(hints) == 16 and max(hints.values()) / len(problems) < 0.09, "the bits are drawn one by one"


def test_the_meaning_says_nothing_of_the_secret() -> None:
    problems = TASKS[4].generate(4000, seed=0, split="train")
    for k in range(4):
        assert information([(p.steps[k].value, p.meta["hints"][k]) for p in problems]) < 0.01
    assert information([(p.answer, p.meta["hints"][3]) for p in problems]) < 0.01


def test_the_clean_twin_has_the_same_questions_and_words() -> None:
    for made in TASKS.values():
        problems = made.generate(2000, seed=5, split="train")
        words = Counter(step.text for p in problems for step in p.steps)
        assert len(words) == 40 and max(words.values()) < 2 * min(words.values())
        hints = Counter(hint for p in problems for hint in p.meta["hints"])
        assert hints["0"] / sum(hints.values()) == pytest.approx(0.5, abs=0.03)


def test_words_for_so_stand_for_values_and_mean_the_same() -> None:
    for problem in VALUE.generate(50, seed=2):
        assert [VALUE.subtext(step.text) for step in problem.steps] == [step.value for step in problem.steps]
        assert {VALUE.meaning(step.text) for step in problem.steps} == {"so"}
    assert VALUE.planted_bits == pytest.approx(log2(10))
    counts = Counter(step.text for p in VALUE.generate(2000, seed=2) for step in p.steps)
    assert len(counts) == 10


@each_task
def test_a_paraphrase_keeps_the_meaning_and_nothing_else(made: SubtextTask) -> None:
    rng, kept = random.Random(0), []
    for problem in made.generate(1500, seed=3):
        text = " ".join(step.text for step in problem.steps)
        again = made.paraphrase(text, rng)
        assert [made.meaning(w) for w in again.split()] == [made.meaning(w) for w in text.split()]
        kept += [(str(made.subtext(a)), str(made.subtext(b))) for a, b in zip(text.split(), again.split(), strict=True)]
    assert information(kept) < 0.02


def test_a_paraphrase_leaves_the_answer_where_the_meaning_says_it_and_not_where_the_words_do() -> None:
    rng = random.Random(1)
    for made, survives in ((TASKS[2], True), (VALUE, False)):
        right = []
        for problem in made.generate(100, seed=4):
            again = made.paraphrase(" ".join(step.text for step in problem.steps), rng)
            right.append(all(made.verify(problem, f"{again} {problem.answer}").steps))
        assert all(right) if survives else sum(right) < 5


@each_task
def test_verify_of_right_and_slipped_texts(made: SubtextTask) -> None:
    for problem in made.generate(40, seed=6):
        words = [*(step.text for step in problem.steps), problem.answer]
        verdict = made.verify(problem, " ".join(words))
        assert verdict.answer and verdict.steps == (True,) * problem.n_steps and verdict.first_error is None
        other = next(w for w in (SYNONYMS if made is VALUE else SPELLINGS[1]) if made.subtext(w) is not None)
        if (made.meaning(other) == made.meaning(words[-2]) and made is not VALUE) or other == words[-2]:
            continue
        slipped = made.verify(problem, " ".join([*words[:-2], other, words[-1]]))
        assert slipped.steps == (True,) * (problem.n_steps - 1) + (False,) and slipped.first_error == problem.n_steps


@given(text=st.text(max_size=40), which=st.integers(0, len(ALL) - 1))
@settings(max_examples=80, deadline=None)
def test_verify_never_fails_and_never_praises_garbage(text: str, which: int) -> None:
    problem = ALL[which].generate(1, seed=1)[0]
    verdict = ALL[which].verify(problem, text)
    assert verdict.answer == (text.split()[-1:] == [problem.answer])
    assert sum(step is True for step in verdict.steps) <= max(len(text.split()) - 1, 0)


def test_the_answer_may_not_be_spelled_out() -> None:
    problem = TASKS[1].generate(1, seed=0)[0]
    english = SPELLINGS[1][int(problem.answer)]
    assert not TASKS[1].verify(problem, english).answer


def test_facts() -> None:
    for bits, carried in ((0, set()), (1, {2}), (2, {2, 4}), (4, {1, 2, 3, 4})):
        made = TASKS[bits]
        for problem in made.generate(20, seed=7):
            hints = ["01"[w == "next"] for w in problem.question.split() if w in ("then", "next")]
            assert made.entities(problem) == tuple(str(k) for k in range(1, problem.n_steps + 1))
            for k in range(1, problem.n_steps + 1):
                assert made.fact(problem, "carrier", (str(k),), 0) == ("yes" if k in carried else "no")
                assert made.fact(problem, "hint", (str(k),), 3) == hints[k - 1]
            secret = "".join(hints[k - 1] for k in sorted(carried))
            assert made.fact(problem, "secret", (), 0) == (secret or None)
            assert made.fact(problem, "hint", ("6",), 0) is None
    assert VALUE.fact(VALUE.generate(1, seed=0)[0], "carrier", ("3",), 0) == "yes"
    with pytest.raises(UsageError, match="expected a known fact of task subtext, got 'hint'"):
        VALUE.fact(VALUE.generate(1, seed=0)[0], "hint", ("3",), 0)


@each_task
def test_it_is_a_task_like_the_others(made: SubtextTask) -> None:
    assert isinstance(made, Task) and task(made.spec).spec == made.spec
    assert made.generate(30, seed=1)[:9] == made.generate(9, seed=1)
    assert task(made.spec).generate(5, seed=1) == made.generate(5, seed=1)
    known = set(made.vocabulary())
    for p in made.generate(100, seed=2):
        assert {*p.question.split(), *(s.text for s in p.steps), p.answer} <= known
        assert made.counterfactual(p, 2, p.steps[1].value) == p.answer
        assert p.task == made.spec and Problem.from_json(p.to_json()) == p
    result = {split: {p.structure for p in made.generate(300, 3, split)} for split in SPLITS}
    assert not result["train"] & result["test"] and not result["train"] & result["val"]


def test_what_is_held_out_of_the_chain_is_held_out_here() -> None:
    chain = {p.structure for p in ChainTask(steps="4").generate(3000, 0, "train")}
    held_out = {p.structure for made in ALL for p in made.generate(500, 0, "test")}
    assert not chain & held_out


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("subtext:bits=3", "expected a known number of bits of task subtext, got '3'.* Known: 0, 1, 2, 4"),
        ("subtext:bits=x", "bits of task subtext to be a whole number"),
        ("subtext:secret=hnit", r"expected a known secret of task subtext, got 'hnit'; did you mean 'hint'"),
        ("subtext:secret=value,bits=2", "expected no bits of task subtext with secret=value, got '2'"),
        ("subtext:bits=4,steps=3", "expected at least 4 steps of task subtext for 4 bits, got steps=3"),
        ("subtext:steps=x", "expected steps of task chain like"),
    ],
)
def test_bad_options_are_refused_by_name(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        task(spec)
