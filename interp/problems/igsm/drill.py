"""Task `igsm-drill`: the arithmetic of iGSM steps alone, a warm-up for small models.

A solution of `igsm` holds two or three computed values among a hundred copied words, and there are about 1,600 facts
to learn (three operations on pairs of numbers modulo 23). Here every step is a computation on random operand values,
so a model sees each fact often within minutes. Definitions are still looked up in the question.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from interp.errors import UsageError, checked_count
from interp.problems.base import Problem, Split, Step, Task, Verdict, split_of, structure_hash
from interp.problems.igsm.graph import OPERATIONS, Formula, compute
from interp.problems.igsm.wording import NAMES, STOP, question, read_step, step_text, vocabulary
from interp.problems.options import length_range, spec_of

_MAX_STEPS = len(NAMES) // 3


class IGSMDrillTask(Task):
    """Task `igsm-drill`: independent computations with the vocabulary of task `igsm`.

    A question reads `owls: foxes plus bears . … how many owls ?`. Its steps, in the order of its sentences, read
    `owls: foxes 5 plus bears 9 so owls 14 .`, with random values of the operands. The answer is the last step's value.

    Args:
        steps: Range of the number of computations, such as "7" or "4-7".
        mod: Numbers are computed modulo this.
    """

    name = "igsm-drill"

    def __init__(self, steps: int | str = 7, mod: int | str = 23) -> None:
        self.min_steps, self.max_steps = length_range("steps of task igsm-drill", steps, "4-7 or 7", 1, _MAX_STEPS)
        self.mod = checked_count("mod of task igsm-drill", mod, at_least=5)
        self.spec = spec_of(self.name, [("steps", str(steps), "7"), ("mod", self.mod, 23)])
        self.values = tuple(str(v) for v in range(self.mod))

    def vocabulary(self) -> list[str]:
        """Return every word of the task's questions, steps and answers."""
        return vocabulary(self.values)

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """Yield problems of one split without end, of `n_steps` steps where given."""
        while True:
            length = n_steps or rng.randint(self.min_steps, self.max_steps)
            names = rng.sample(NAMES, 3 * length)
            defined, operands = names[:length], names[length:]
            values = {name: rng.randrange(self.mod) for name in operands}
            formulas: dict[str, Formula] = {
                name: (operands[2 * k], rng.choice(list(OPERATIONS)), operands[2 * k + 1])
                for k, name in enumerate(defined)
            }
            text = question(formulas, defined[-1])
            structure = structure_hash(self.name, self.mod, text, sorted(values.items()))
            if split_of(structure) == split:
                yield self._problem(text, formulas, values, structure, split)

    def _problem(
        self, text: str, formulas: dict[str, Formula], values: dict[str, int], structure: str, split: Split
    ) -> Problem:
        steps = []
        for name, formula in formulas.items():
            result = compute(formula, values, self.mod)
            steps.append(Step(step_text(name, formula, {**values, name: result}), str(result)))
        return Problem(
            id=structure,
            task=self.spec,
            question=text,
            answer=steps[-1].value,
            steps=tuple(steps),
            structure=structure,
            split=split,
            readable="Values of operands are drawn at random: " + " ".join(s.text for s in steps),
            meta={"mod": self.mod},
        )

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check `text`: sentences, each right when its arithmetic is, and then the answer."""
        words = text.split()
        sentences = " ".join(words[:-1]).split(f" {STOP}")
        right: list[bool | None] = [self._holds(sentence.split()) for sentence in sentences if sentence.strip()]
        return Verdict.of_steps(words[-1:] == [problem.answer], right, problem.n_steps)

    def _holds(self, words: list[str]) -> bool:
        step = read_step(words)
        if step is None or not step.value.isdigit():
            return False
        values = {name: int(value) for name, value in step.operands}
        return str(compute(step.formula, values, self.mod)) == step.value

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """Raise `UsageError`: no step depends on an earlier one."""
        raise UsageError(
            "expected a task with counterfactual answers, got igsm-drill, whose steps do not depend on each other; use igsm."
        )
