"""Task `igsm-drill`: the arithmetic of iGSM steps by itself, a warm-up for small models.

A worked problem holds two or three computed values among a hundred copied words, and there are some 1,600 facts to
learn (three operations on pairs of numbers modulo 23). Here every step is a computation, about operands whose values
come from nowhere, so a model meets each fact often within minutes; definitions are still looked up in the question.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from interp.errors import UsageError, checked_count
from interp.problems.base import Problem, Split, Step, Verdict, WithoutFacts, split_of, structure_hash
from interp.problems.drawn import DrawnTask, length_range, spec_of
from interp.problems.igsm.graph import OPERATIONS, Formula, compute
from interp.problems.igsm.wording import NAMES, STOP, question, read_step, step_text, vocabulary

_MOST = len(NAMES) // 3


class IGSMDrillTask(WithoutFacts, DrawnTask):
    """`igsm-drill`: `steps` computations (7) modulo `mod` (23), with the vocabulary of task `igsm`.

    A question reads `owls: foxes plus bears . … how many owls ?`, and its steps, in the order of its sentences,
    `owls: foxes 5 plus bears 9 so owls 14 .` for operands drawn at random. The answer is the last step's value.
    """

    name = "igsm-drill"

    def __init__(self, steps: int | str = 7, mod: int | str = 23) -> None:
        self.min_steps, self.max_steps = length_range("steps of task igsm-drill", steps, "4-7 or 7", 1, _MOST)
        self.mod = checked_count("mod of task igsm-drill", mod, at_least=5)
        self.spec = spec_of(self.name, [("steps", str(steps), "7"), ("mod", self.mod, 23)])
        self.values = tuple(str(v) for v in range(self.mod))

    def vocabulary(self) -> list[str]:
        return vocabulary(self.values)

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """An endless stream of problems of one split, of `n_steps` steps where given."""
        while True:
            length = n_steps or rng.randint(self.min_steps, self.max_steps)
            names = rng.sample(NAMES, 3 * length)
            defined, given = names[:length], names[length:]
            values = {name: rng.randrange(self.mod) for name in given}
            formulas: dict[str, Formula] = {
                name: (given[2 * k], rng.choice(list(OPERATIONS)), given[2 * k + 1]) for k, name in enumerate(defined)
            }
            said = question(formulas, defined[-1])
            structure = structure_hash(self.name, self.mod, said, sorted(values.items()))
            if split_of(structure) == split:
                yield self._problem(said, formulas, values, structure, split)

    def _problem(
        self, said: str, formulas: dict[str, Formula], values: dict[str, int], structure: str, split: Split
    ) -> Problem:
        steps = []
        for name, formula in formulas.items():
            result = compute(formula, values, self.mod)
            steps.append(Step(step_text(name, formula, {**values, name: result}), str(result)))
        return Problem(
            id=structure,
            task=self.spec,
            question=said,
            answer=steps[-1].value,
            steps=tuple(steps),
            structure=structure,
            split=split,
            readable="Operands' values are drawn at random as they are written: " + " ".join(s.text for s in steps),
            meta={"mod": self.mod},
        )

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check `text`: sentences, each right when it is arithmetically so, and after them the answer."""
        words = text.split()
        sentences = " ".join(words[:-1]).split(f" {STOP}")
        right: list[bool | None] = [self._holds(sentence.split()) for sentence in sentences if sentence.strip()]
        right += [None] * (problem.n_steps - len(right))
        first = next((k for k, ok in enumerate(right, 1) if ok is False), None)
        return Verdict(answer=words[-1:] == [problem.answer], steps=tuple(right), first_error=first)

    def _holds(self, words: list[str]) -> bool:
        step = read_step(words)
        if step is None or not step.value.isdigit():
            return False
        given = {name: int(value) for name, value in step.given}
        return str(compute(step.formula, given, self.mod)) == step.value

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """Steps do not follow from one another here, so no earlier value decides the answer."""
        raise UsageError("task igsm-drill has no counterfactuals: its steps do not follow from one another.")
