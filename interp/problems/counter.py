"""Task `counter`: a hidden counter; the text shows only whether it is even or odd.

The counter starts at a visible value and every operation adds to it, modulo a small odd number. The next parity
depends on the counter's value, not only on the last parity and the operation. So a model has to carry the value
beside the text. The answer is the final value. Operations may be idle (`+0`); many idle operations make an easier
task of the same form, useful as a warm-up.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from interp.errors import UsageError, checked_count
from interp.problems.base import Problem, Split, Step, Task, Verdict, split_of, structure_hash
from interp.problems.options import checked_at_most, checked_edit, length_range, spec_of

EVEN, ODD = "even", "odd"
_MAX_STEPS = 16


class CounterTask(Task):
    """Task `counter`: additions to a hidden counter.

    A question reads `3 +2 +0 +4 ?`. A trace's text is the parity of the counter after each step and then its value,
    `even even even 4`. A step's `value` is the counter itself, which the text does not show.

    Args:
        steps: Range of the number of operations, such as "8" or "2-8".
        values: Number of values; odd.
        idle: Percentage of operations that are `+0`; by default each addition is equally likely.
    """

    name = "counter"

    def __init__(self, steps: int | str = 8, values: int | str = 5, idle: int | str | None = None) -> None:
        self.n_values = checked_count("values of task counter", values, at_least=3)
        if self.n_values % 2 == 0:
            raise UsageError(
                f"expected values of task counter to be odd, got {values!r}; with an even number each parity follows "
                "from the one before it, so nothing has to be carried beside the text."
            )
        self.min_steps, self.max_steps = length_range("steps of task counter", steps, "2-8 or 8", 1, _MAX_STEPS)
        default_idle = 100 // self.n_values
        idle_percent = default_idle if idle is None else idle
        self.idle = checked_at_most("idle of task counter, in percent,", idle_percent, 99, at_least=0)
        options = [
            ("steps", str(steps), "8"),
            ("values", self.n_values, 5),
            ("idle", self.idle, default_idle),
        ]
        self.spec = spec_of("counter", options)
        self.values = tuple(str(v) for v in range(self.n_values))

    def vocabulary(self) -> list[str]:
        """Return every word of the task's questions, steps and answers."""
        return [*self.values, *(f"+{k}" for k in range(self.n_values)), "?", EVEN, ODD]

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """Yield problems of one split without end, of `n_steps` steps where given."""
        while True:
            length = n_steps or rng.randint(self.min_steps, self.max_steps)
            start = rng.randrange(self.n_values)
            amounts = [self._amount(rng) for _ in range(length)]
            structure = structure_hash(self.name, self.n_values, start, amounts)
            if split_of(structure) == split:
                yield self._problem(start, amounts, structure, split)

    def _amount(self, rng: Random) -> int:
        return 0 if rng.random() * 100 < self.idle else rng.randrange(1, self.n_values)

    def _problem(self, start: int, amounts: list[int], structure: str, split: Split) -> Problem:
        value, steps = start, []
        for amount in amounts:
            value = (value + amount) % self.n_values
            steps.append(Step(text=_parity(value), value=str(value)))
        question = " ".join([str(start), *(f"+{amount}" for amount in amounts), "?"])
        return Problem(
            id=structure_hash(question),
            task=self.spec,
            question=question,
            answer=str(value),
            steps=tuple(steps),
            structure=structure,
            split=split,
            readable=f"A counter modulo {self.n_values} stands at {start}; add {', '.join(map(str, amounts))}.",
            meta={"start": str(start), "added": amounts},
        )

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check `text`: the parity after each step, and then the counter's value.

        A written parity does not determine the counter, so every step is checked against the true value.
        """
        words = text.split()
        written, answer = words[:-1], words[-1] if words else None
        right = [word == step.text for word, step in zip(written, problem.steps, strict=False)]
        right.extend(False for _ in written[problem.n_steps :])
        return Verdict.of_steps(answer == problem.answer, right, problem.n_steps)

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """Return the answer if the counter had been at `value` after step `step` (from 1)."""
        checked_edit(problem, step, value, self.values)
        return str((int(value) + sum(problem.meta["added"][step:])) % self.n_values)


def _parity(value: int) -> str:
    return ODD if value % 2 else EVEN
