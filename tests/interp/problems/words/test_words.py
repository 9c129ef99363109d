"""Task `words`: an independent reader solves its questions, and their words alone tell nothing."""

from __future__ import annotations

import re
from random import Random

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

import interp
from interp.errors import UsageError

SPECS = (
    *("words:form=dial,steps=1-6", "words:form=dial,steps=2,shots=3", "words:form=dial,steps=1-3,step_text=values"),
    *("words:steps=1-3", "words:steps=3,step_text=values", "words:shots=2,shown=answers"),
    *("words:form=choice", "words:form=choice,hint=right", "words:form=choice,hint=wrong,shots=1"),
    *("words:form=copy", "words:form=copy,shots=4", "words:form=again", "words:form=again,shots=2"),
)


def solve(question: str, form: str) -> str:
    """Return the answer, from the text of the last question alone."""
    text = question.rpartition("Question: ")[2]
    if form == "dial":
        value = int(re.search(r"It shows (\d)\.", text)[1])
        for way, turn in re.findall(r"turns it (up|down) by (\d)", text):
            value += int(turn) if way == "up" else -int(turn)
        return str(value % 10)
    if form == "copy":
        things = re.search(r"list: (.*?)\. What", text)[1].split(", ")
        return things[
            ["first", "second", "third", "fourth", "fifth", "sixth"].index(re.search(r"is the (\w+)", text)[1])
        ]
    if form == "again":
        listed, again = (
            part.split(", ") for part in re.search(r"things:\n(.*),\n.*again:\n(.*),(?:\n|$)", text).groups()
        )
        assert listed[: len(again)] == again
        return listed[len(again)]
    friend = dict(re.findall(r"(\w+)'s best friend is (\w+)\.", text))
    home = dict(re.findall(r"(\w+) lives in (\w+)\.", text))
    person, of_friend = re.search(r"Where does (\w+)((?:'s best friend)*) live\?", text).groups()
    for _ in range(of_friend.count("best")):
        person = friend[person]
    if form == "lookup":
        return home[person]
    return {city: letter for letter, city in re.findall(r"\((\w)\) (\w+)", text)}[home[person]]


@pytest.mark.parametrize("spec", SPECS)
def test_an_independent_reader_gets_the_same_answers(spec: str) -> None:
    task = interp.task(spec)
    for problem in task.generate(60, seed=1):
        assert solve(problem.question, task.form) == problem.answer
        assert problem.steps[-1].value == problem.answer


@pytest.mark.parametrize("spec", SPECS)
def test_the_gold_text_is_right_and_every_other_value_is_wrong(spec: str) -> None:
    task, rng = interp.task(spec), Random(0)
    for problem in task.generate(40, seed=2):
        sentences = [step.text for step in problem.steps]
        verdict = task.verify(problem, f"{' '.join(sentences)} {problem.answer}")
        assert verdict.answer and verdict.steps == (True,) * problem.n_steps and verdict.first_error is None
        assert task.verify(problem, f"{' '.join(sentences)}\nAnswer: {problem.answer}.\n\nQuestion: Anna").answer
        assert task.verify(problem, f"{problem.answer}\n\nQuestion: Anna lives in Rome. Where").answer
        step = rng.randrange(problem.n_steps)
        other = rng.choice([v for v in task._form.candidates(problem.meta, step + 1) if v != problem.steps[step].value])
        head, _, tail = sentences[step].rpartition(problem.steps[step].value)
        sentences[step] = f"{head}{other}{tail}"
        verdict = task.verify(problem, f"{' '.join(sentences)} {problem.answer}")
        assert verdict.first_error == step + 1 and verdict.answer
        wrong = next(a for a in task._form.answers if a != problem.answer)
        assert not task.verify(problem, f"{' '.join(sentences)} {wrong}").answer


@pytest.mark.parametrize(
    "spec",
    ["words:form=dial,steps=1-4", "words:steps=1-3", "words:form=choice", "words:form=copy", "words:form=again"],
)
def test_counterfactuals_agree_with_the_question_that_says_so(spec: str) -> None:
    task = interp.task(spec)
    for problem in task.generate(60, seed=3):
        for step in range(1, problem.n_steps + 1):
            gold = problem.steps[step - 1].value
            assert task.counterfactual(problem, step, gold) == problem.answer
            answers = {task.counterfactual(problem, step, v) for v in task._form.candidates(problem.meta, step)}
            # Every step is a bijection, so each value leads to an answer of its own.
            assert len(answers) == len(task._form.candidates(problem.meta, step))
    dial = interp.task("words:form=dial,steps=3").generate(1, seed=0)[0]
    value = (int(dial.steps[0].value) + 4) % 10
    assert interp.task(dial.task).counterfactual(dial, 1, str(value)) == str((int(dial.answer) + 4) % 10)


@pytest.mark.parametrize(
    ("spec", "chance"),
    [("words:form=dial", 0.1), ("words", 0.25), ("words:form=choice", 0.25), ("words:form=again", 0.24)],
)
def test_the_words_of_a_question_alone_tell_nothing(spec: str, chance: float) -> None:
    task = interp.task(spec)
    learn, test = task.generate(1500, seed=0, split="train"), task.generate(800, seed=0, split="test")
    words = CountVectorizer(token_pattern=r"\S+")
    x, held_out = (words.fit_transform(p.question for p in learn), words.transform(p.question for p in test))
    model = LogisticRegression(C=0.1, max_iter=200).fit(x, [p.answer for p in learn])
    p = np.asarray(model.predict_proba(held_out))
    # A reader who knows which answers the question names may still guess among them.
    named = [[model.classes_[k] in {*task.guess_sets(q)[0], *"ABCD"} for k in range(len(model.classes_))] for q in test]
    guesses = model.classes_[np.where(named, p, -1).argmax(axis=1)]
    assert np.mean([guess == q.answer for guess, q in zip(guesses, test, strict=True)]) <= chance + 0.05


def test_examples_are_training_problems_of_as_many_steps() -> None:
    task = interp.task("words:form=dial,steps=3,shots=3")
    (problem,) = task.generate(1, seed=4)
    examples = problem.question.split("\n\n")[:-1]
    assert len(examples) == 3 and all(example.count("Now it shows") == 3 for example in examples)
    assert problem.question.endswith("Which digit does it show?\nSteps:")
    assert all(solve(e.partition("\n")[0], "dial") == e.rpartition("Answer: ")[2] for e in examples)


def test_hints_do_not_move_a_problem_to_another_split() -> None:
    hinted = interp.task("words:form=choice,hint=wrong").generate(50, seed=0)
    assert all(problem.meta["hint"] != problem.answer for problem in hinted)
    assert all(f"answer is ({problem.meta['hint']})" in problem.question for problem in hinted)
    plain = interp.task("words:form=choice")
    facts = [{k: v for k, v in p.meta.items() if k != "hint"} for p in hinted]
    assert [p.structure for p in hinted] == [interp.problems.base.structure_hash("words", "choice", f) for f in facts]
    assert plain.generate(1, seed=0)[0].meta["hint"] is None


def test_the_vocabulary_holds_every_word() -> None:
    specs = ("words:form=dial,steps=1-6", "words:steps=1-3", "words:form=choice,hint=wrong")
    for spec in (*specs, "words:form=copy", "words:form=again"):
        task = interp.task(spec)
        known = set(task.vocabulary())
        for problem in task.generate(300, seed=9, split="train"):
            words = " ".join([problem.question, *(s.text for s in problem.steps), problem.answer]).split()
            assert known >= set(words)


def test_wrong_options_are_named() -> None:
    with pytest.raises(UsageError, match="form of task words"):
        interp.task("words:form=song")
    with pytest.raises(UsageError, match="expected form=choice with a hint, got form=copy"):
        interp.task("words:form=copy,hint=wrong")
    with pytest.raises(UsageError, match="between 1 and 3"):
        interp.task("words:steps=9")
    (problem,) = interp.task("words").generate(1, seed=0)
    with pytest.raises(UsageError, match="value of step 2 of task words"):
        interp.task("words").counterfactual(problem, 2, "Anna")


@pytest.mark.parametrize("spec", SPECS)
def test_a_rewrite_changes_the_answer_and_as_little_as_it_can(spec: str) -> None:
    task, rng = interp.task(spec), Random(0)
    for problem in task.generate(40, seed=5):
        new = task.rewrite(problem, rng)
        before, after = (re.findall(r"\w+", text) for text in (problem.question, new.question))
        n_changed = sum(a != b for a, b in zip(before, after, strict=True))
        # The homes of two people are exchanged in a multiple choice, and the hint moves with the right answer.
        assert n_changed == (1 if task.form != "choice" else 3 if "hint=right" in spec else 2)
        assert new.answer != problem.answer and solve(new.question, task.form) == new.answer
        assert new.structure != problem.structure and new.n_steps == problem.n_steps
        hinted = problem.meta.get("hint")
        if hinted is not None:
            assert (new.meta["hint"] == new.answer) == (hinted == problem.answer)
        values = [step.value for step in new.steps]
        assert task.counterfactual(new, 1, values[0]) == new.answer == values[-1]


def test_new_turns_of_a_dial() -> None:
    task, rng = interp.task("words:form=dial,steps=2,shots=2"), Random(0)
    (problem,) = task.generate(1, seed=0)
    new = task.rewrite(problem, rng, "operations")
    assert new.meta["turns"] != problem.meta["turns"] and new.question.count("Question:") == 3
    assert solve(new.question, "dial") == new.answer
    with pytest.raises(UsageError, match=r"rewriting of task words, got 'operations'\. Known: constant"):
        interp.task("words").rewrite(interp.task("words").generate(1, seed=0)[0], rng, "operations")


def test_an_answer_in_a_sentence_is_compared_with_any_answer() -> None:
    task = interp.task("words:form=dial")
    (problem,) = task.generate(1, seed=0)
    for written in ("7", " 7", "The dial shows 7.", "Now it shows 7.\nAnswer: 7\n\nQuestion: more"):
        assert task.says(problem, written, "7") and not task.says(problem, written, "3")
        assert task.stated(problem, written) == "7" and task.same_answer(problem, written, "It is 7")
    assert not task.says(problem, "", "7")
