"""Task `words`: stories of a dial, look-ups, multiple choice and lists, in words that a pretrained model knows.

The value after every step is known, and so is the answer that would follow from another value. A question can begin with
worked examples, for models that go on with a text rather than answer a chat.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

from interp.errors import UsageError
from interp.problems.base import Problem, Split, Step, Task, Verdict, split_of, structure_hash
from interp.problems.options import (
    checked_at_most,
    checked_choice,
    checked_rewriting,
    checked_step,
    length_range,
    spec_of,
)
from interp.problems.words.forms import Again, Choice, Copy, Dial, Form, FormProblem, LookUp

FORMS: dict[str, Callable[[], Form]] = {"dial": Dial, "lookup": LookUp, "choice": Choice, "copy": Copy, "again": Again}
HINTS = ("none", "right", "wrong")
SHOWN = ("steps", "answers")
STEP_TEXTS = ("sentences", "values")
ANSWER = "Answer:"
_MAX_SHOTS = 8
_EDGES = " \t\r\n.,;:!?\"'`*()"


class WordsTask(Task):
    """Task `words`: short problems in plain English.

    Args:
        form: `dial` (additions and subtractions modulo 10), `lookup` (where a person, a friend or a friend's friend
            lives), `choice` (multiple choice), `copy` (a thing of a list by its place) or `again` (the next thing of a
            list that is said again).
        steps: Range of the number of steps, such as "2" or "1-3". By default the form's fewest, 2 for `dial` and
            `lookup`.
        shots: Worked examples before the question, from training problems of as many steps; 0 for none.
        shown: What the examples show, and what the question asks for: `steps` and then the answer, or `answers` alone.
        hint: For `choice`: `none`, `right` or `wrong`.
        step_text: How a step is written: as a sentence, or as its value alone (`values`), so that a step is as long as
            one thought.
    """

    name = "words"
    free_answers = True

    def __init__(
        self,
        form: str = "lookup",
        steps: int | str | None = None,
        shots: int | str = 0,
        shown: str = "steps",
        hint: str = "none",
        step_text: str = "sentences",
    ) -> None:
        checked_choice("form of task words", form, FORMS)
        if checked_choice("hint of task words", hint, HINTS) != "none" and form != "choice":
            raise UsageError(f"expected form=choice with a hint, got form={form}; leave the hint out.")
        self._form: Form = Choice(hint) if form == "choice" else FORMS[form]()
        self.shots = checked_at_most("shots of task words", shots, _MAX_SHOTS, at_least=0)
        self.shown = checked_choice("shown of task words", shown, SHOWN)
        self.step_text = checked_choice("step_text of task words", step_text, STEP_TEXTS)
        default = str(max(self._form.min_steps, min(2, self._form.max_steps)))
        chosen = default if steps is None else str(steps)
        self.min_steps, self.max_steps = length_range(
            f"steps of task words, form {form},", chosen, default, self._form.min_steps, self._form.max_steps
        )
        options: list[tuple[str, object, object]] = [
            ("form", form, "lookup"),
            ("steps", chosen, default),
            ("shots", self.shots, 0),
            ("shown", shown, "steps"),
            ("hint", hint, "none"),
            ("step_text", step_text, "sentences"),
        ]
        self.spec = spec_of("words", options)
        self.form = form
        self.values = self._form.values
        self.rewritings = self._form.rewritings

    @property
    def chance(self) -> float:
        """The accuracy of a guess among the answers that a question leaves open."""
        return self._form.chance

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """Yield problems of one split without end, of `n_steps` steps where given."""
        while True:
            length = n_steps or rng.randint(self.min_steps, self.max_steps)
            drawn = self._drawn(rng, length)
            structure = self._structure(drawn)
            examples = self._examples(rng, length)
            if split_of(structure) == split:
                yield self._problem(drawn, examples, structure, split)

    def _drawn(self, rng: Random, n_steps: int) -> FormProblem:
        """Return a problem of the form, whose steps are written as the task has it."""
        return self._written(self._form.draw(rng, n_steps))

    def _written(self, drawn: FormProblem) -> FormProblem:
        if self.step_text == "sentences":
            return drawn
        return replace(drawn, steps=tuple(replace(step, text=step.value) for step in drawn.steps))

    def _structure(self, drawn: FormProblem) -> str:
        """Return the hash of a problem without its hint, so that problems with and without one share a split."""
        return structure_hash(self.name, self.form, {k: v for k, v in drawn.facts.items() if k != "hint"})

    def _examples(self, rng: Random, n_steps: int) -> list[FormProblem]:
        examples: list[FormProblem] = []
        while len(examples) < self.shots:
            drawn = self._drawn(rng, n_steps)
            if split_of(self._structure(drawn)) == "train":
                examples.append(drawn)
        return examples

    def _problem(self, drawn: FormProblem, examples: list[FormProblem], structure: str, split: Split) -> Problem:
        question = drawn.question
        if self.shots:
            worked = "".join(self._worked(example) for example in examples)
            question = f"{worked}Question: {drawn.question}\n{'Steps' if self.shown == 'steps' else ANSWER[:-1]}:"
        return self._problem_of(question, drawn, structure, split)

    def _problem_of(self, question: str, drawn: FormProblem, structure: str, split: Split) -> Problem:
        return Problem(
            id=structure_hash(question),
            task=self.spec,
            question=question,
            answer=drawn.answer,
            steps=drawn.steps,
            structure=structure,
            split=split,
            readable=drawn.question,
            meta=drawn.facts,
        )

    def _worked(self, drawn: FormProblem) -> str:
        steps = f"Steps: {' '.join(step.text for step in drawn.steps)}\n" if self.shown == "steps" else ""
        return f"Question: {drawn.question}\n{steps}{ANSWER} {drawn.answer}\n\n"

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check the sentences of `text` against the steps, and what follows its last `Answer:`, else its last word.

        A sentence counts as a step where it says the same of another value; other sentences are skipped. What follows
        a next `Question:` is the model going on with the examples, and does not count.
        """
        thought, given = self._parts(text)
        checked: list[bool | None] = []
        between = r"(?<=\.)\s+" if self.step_text == "sentences" else r"\s+"
        sentences = [sentence.strip() for sentence in re.split(between, thought)]
        for step in problem.steps:
            k = next((k for k, sentence in enumerate(sentences) if self._value_said(step, sentence)), None)
            checked.append(None if k is None else self._value_said(step, sentences[k]) == step.value)
            sentences = sentences if k is None else sentences[k + 1 :]
        return Verdict.of_steps(given.casefold() == problem.answer.casefold(), checked, problem.n_steps)

    def says(self, problem: Problem, written: str, answer: str) -> bool:
        """Return whether the answer of a text is `answer`."""
        return self.stated(problem, written).casefold() == answer.casefold()

    def stated(self, problem: Problem, written: str) -> str:
        """Return what follows the last `Answer:` of a text, else its last word."""
        return self._parts(written)[1]

    @staticmethod
    def _parts(text: str) -> tuple[str, str]:
        """Return the thought and the answer of a text; the thought is the whole text where nothing is before the answer."""
        text = text.split("\nQuestion:", maxsplit=1)[0]
        thought, marker, answer = text.rpartition(ANSWER)
        if not marker:
            thought, _, answer = text.rstrip(_EDGES).rpartition(" ")
        return thought or text, re.split(r"[.\n]", answer.strip(), maxsplit=1)[0].strip(_EDGES)

    def _value_said(self, step: Step, sentence: str) -> str | None:
        """Return the value that a sentence gives for a step; None where it is another sentence."""
        before, _, after = step.text.rpartition(step.value)
        if not (sentence.startswith(before) and sentence.endswith(after)):
            return None
        value = sentence[len(before) : len(sentence) - len(after)]
        return value if value in self.values else None

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """Return the answer if step `step` (from 1) had reached `value`."""
        checked_step(problem, step)
        checked_choice(f"value of step {step} of task words", value, self._form.candidates(problem.meta, step))
        answer = self._form.answer_if(problem.meta, step, value)
        if answer is None:
            raise UsageError(f"expected a value that the question of step {step} names, got {value!r}.")
        return answer

    def rewrite(self, problem: Problem, rng: Random, what: str = "constant") -> Problem:
        """Return `problem` with one thing changed so that another answer is right; worked examples stay.

        "constant" is the first digit of a dial, the home that is asked for, the homes of two people in a multiple
        choice, or the thing that is asked for. "operations" also draws new turns of a dial.
        """
        checked_rewriting(self.name, what, self.rewritings)
        drawn = self._written(self._form.rewrite(problem.readable, problem.meta, rng, what))
        before, _, after = problem.question.rpartition(problem.readable)
        question, structure = f"{before}{drawn.question}{after}", self._structure(drawn)
        return self._problem_of(question, drawn, structure, split_of(structure))

    def guess_sets(self, problem: Problem) -> tuple[tuple[str, ...], ...]:
        """Return the values that the question leaves open for its last step."""
        return (self._form.candidates(problem.meta, problem.n_steps),)

    def vocabulary(self) -> list[str]:
        """Return the words of a sample of the task's questions, and every value and answer."""
        words = dict.fromkeys([*self.values, *self._form.answers])
        rng = Random(0)
        for _ in range(1000):
            for n_steps in range(self.min_steps, self.max_steps + 1):
                drawn = self._form.draw(rng, n_steps)
                words |= dict.fromkeys(" ".join([drawn.question, *(step.text for step in drawn.steps)]).split())
        return list(words)
