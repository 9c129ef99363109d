"""Task `counter`: a counter that is stepped in secret; only whether it is even or odd is ever written.

The counter starts at a visible value and every operation adds to it, modulo a small odd number. The next parity
does not follow from the last one and the operation, but from where the counter stands: what is written is not
enough to go on, and the value itself has to be carried along beside the text. The answer is the value at the end. Operations may be idle (`+0`); many
idle ones make an easier task of the same form, with which to begin.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from interp.errors import UsageError, checked_count
from interp.problems.base import (
    Problem,
    Split,
    Step,
    Verdict,
    WithoutFacts,
    checked_edit,
    split_of,
    structure_hash,
)
from interp.problems.drawn import DrawnTask, length_range, spec_of

EVEN, ODD = "even", "odd"
_MOST_STEPS = 16


class CounterTask(WithoutFacts, DrawnTask):
    """`counter`: `values` values (5), `steps` operations (8), `idle` percent of them `+0` (20, which is even chances).

    A question reads `3 +2 +0 +4 ?`; a trace's text is the parity of the counter after each step, and then its
    value: `even even even 4`. A step's `value` is the counter itself, which the text does not show.
    """

    name = "counter"

    def __init__(self, steps: int | str = 8, values: int | str = 5, idle: int | str | None = None) -> None:
        self.n_values = checked_count("values of task counter", values, at_least=3)
        if self.n_values % 2 == 0:
            raise UsageError(
                f"values of task counter must be odd, but {values!r} came: with an even number each parity follows "
                "from the one before it, and nothing would have to be carried in secret."
            )
        self.min_steps, self.max_steps = length_range("steps of task counter", steps, "2-8 or 8", 1, _MOST_STEPS)
        self.idle = _percent(100 // self.n_values if idle is None else idle)
        options = [
            ("steps", str(steps), "8"),
            ("values", self.n_values, 5),
            ("idle", self.idle, 100 // self.n_values),
        ]
        self.spec = spec_of("counter", options)
        self.values = tuple(str(v) for v in range(self.n_values))

    def vocabulary(self) -> list[str]:
        return [*self.values, *(f"+{k}" for k in range(self.n_values)), "?", EVEN, ODD]

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """An endless stream of problems of one split, of `n_steps` steps where given."""
        while True:
            length = n_steps or rng.randint(self.min_steps, self.max_steps)
            start = rng.randrange(self.n_values)
            added = [self._operation(rng) for _ in range(length)]
            structure = structure_hash(self.name, self.n_values, start, added)
            if split_of(structure) == split:
                yield self._problem(start, added, structure, split)

    def _operation(self, rng: Random) -> int:
        return 0 if rng.random() * 100 < self.idle else rng.randrange(1, self.n_values)

    def _problem(self, start: int, added: list[int], structure: str, split: Split) -> Problem:
        value, steps = start, []
        for amount in added:
            value = (value + amount) % self.n_values
            steps.append(Step(text=_parity(value), value=str(value)))
        question = " ".join([str(start), *(f"+{amount}" for amount in added), "?"])
        return Problem(
            id=structure_hash(question),
            task=self.spec,
            question=question,
            answer=str(value),
            steps=tuple(steps),
            structure=structure,
            split=split,
            readable=f"A counter modulo {self.n_values} stands at {start}; add {', '.join(map(str, added))}.",
            meta={"start": str(start), "added": added},
        )

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check `text`: the parity after each step, and then the counter's value.

        A written parity does not say where the counter stands, so every step is checked against the true value.
        """
        words = text.split()
        written, answer = words[:-1], words[-1] if words else None
        right: list[bool | None] = [
            written[k] == step.text if k < len(written) else None for k, step in enumerate(problem.steps)
        ]
        right.extend(False for _ in written[problem.n_steps :])
        first = next((k for k, ok in enumerate(right, 1) if ok is False), None)
        return Verdict(answer=answer == problem.answer, steps=tuple(right), first_error=first)

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """The answer if the counter had stood at `value` after step `step` (from 1)."""
        checked_edit(problem, step, value, self.values)
        return str((int(value) + sum(problem.meta["added"][step:])) % self.n_values)


def _parity(value: int) -> str:
    return ODD if value % 2 else EVEN


def _percent(idle: int | str) -> int:
    share = checked_count("idle of task counter", idle, at_least=0)
    if share > 99:
        raise UsageError(f"idle of task counter is a percentage of at most 99, but {idle!r} came.")
    return share
