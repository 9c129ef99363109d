"""Task `variables`: assignments in shuffled order, some of which the answer does not need.

One variable is asked for. It hangs on a path of assignments from a constant; distractors are constants of
their own, or are computed from any variable, those of the path included, so an assignment says by itself
neither whether it is needed nor when it can be computed. Operations are those of task `chain`: balanced, so
that no operand and no operation alone says anything about a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random
from types import MappingProxyType
from typing import Any

from interp.errors import UsageError, checked_count, unknown
from interp.problems.base import (
    Problem,
    Split,
    Step,
    Verdict,
    checked_edit,
    checked_rewriting,
    split_of,
    structure_hash,
)
from interp.problems.chain import operations
from interp.problems.drawn import DrawnTask, length_range, spec_of

_NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_STEP_WORDS = 5


@dataclass(frozen=True)
class Assignment:
    """A variable: a constant (`value`), or an operation on an earlier variable."""

    name: str
    value: str | None = None
    source: str | None = None
    operation: str | None = None

    @property
    def words(self) -> list[str]:
        if self.value is not None:
            return [self.name, self.value]
        return [self.name, str(self.source), str(self.operation)]


class VariablesTask(DrawnTask):
    """`variables`: 2 to 4 dependent steps over `values` values (10), with 2 distractors, out of 8 names.

    A question reads `B A +3 ; D C f ; A 4 ; C A *7 ; C ?`: B is A after +3, D is C after f, A is 4, and so on;
    what is C? A step of a trace says again what it computes: `C A *7 = 8`. Two problems that differ in names, in order or in their distractors have one
    structure, the constant and the operations that lead to the answer, so no distractor carries a held-out
    computation into training.

    Facts: `necessary:V`, whether the answer hangs on V; `depends:A,B`, whether A is computed from B, directly
    or through others; and, after so many steps of the gold solution, `known:V` (constants are known from the
    start), `value:V` (`unknown` until V is known), `can_next:V` and `necessary_next:V`, whether V can be
    computed next, and whether it should be. They are the labels of Physics of Language Models 2.1
    (arXiv 2407.20311, section 4).
    """

    name = "variables"
    facts: Mapping[str, int] = MappingProxyType(
        {"necessary": 1, "known": 1, "value": 1, "can_next": 1, "necessary_next": 1, "depends": 2}
    )

    def __init__(
        self, steps: str = "2-4", distractors: int | str = 2, values: int | str = 10, names: int | str = 8
    ) -> None:
        self.min_steps, self.max_steps = length_range("steps of task variables", steps, "2-4 or 3")
        self.distractors = checked_count("distractors of task variables", distractors, at_least=0)
        self.n_values = checked_count("values of task variables", values, at_least=5)
        n_names = checked_count("names of task variables", names)
        needed = self.max_steps + 1 + self.distractors
        if not 1 <= self.min_steps <= self.max_steps:
            raise UsageError(f"steps of task variables must be at least 1 and in order, but {steps!r} came.")
        if not needed <= n_names <= len(_NAMES):
            raise UsageError(
                f"names of task variables must lie between {needed} (one for each variable of {self.max_steps} steps "
                f"and {self.distractors} distractors) and {len(_NAMES)}, but {n_names} came."
            )
        self.names = tuple(_NAMES[:n_names])
        self.symbols = self.names  # words that may be exchanged for each other throughout a problem
        options = [
            ("steps", str(steps), "2-4"),
            ("distractors", self.distractors, 2),
            ("values", self.n_values, 10),
            ("names", n_names, 8),
        ]
        self.spec = spec_of("variables", options)
        self.values = tuple(str(v) for v in range(self.n_values))
        self.operations = operations(self.n_values)
        self._by_name = {operation.name: operation for operation in self.operations}

    def vocabulary(self) -> list[str]:
        return [*self.values, *(operation.name for operation in self.operations), *self.names, "=", ";", "?"]

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """An endless stream of problems of one split, of `n_steps` steps where given."""
        while True:
            length = n_steps or rng.randint(self.min_steps, self.max_steps)
            constant = rng.choice(self.values)
            chosen = [rng.choice(self.operations).name for _ in range(length)]
            structure = structure_hash(self.name, self.n_values, constant, chosen)
            if split_of(structure) != split:
                continue
            yield self._problem(self._assignments(rng, constant, chosen), length, structure, split, rng)

    def _assignments(self, rng: Random, constant: str, chosen: list[str]) -> list[Assignment]:
        """The path, in order, and then the distractors, each on a variable before it or on none."""
        names = rng.sample(self.names, len(chosen) + 1 + self.distractors)
        made = [Assignment(names[0], value=constant)]
        made += [
            Assignment(name, source=before, operation=operation)
            for name, before, operation in zip(names[1:], names[: len(chosen)], chosen, strict=False)
        ]
        for name in names[len(made) :]:
            source = rng.choice([None, *(each.name for each in made)])
            if source is None:
                made.append(Assignment(name, value=rng.choice(self.values)))
            else:
                made.append(Assignment(name, source=source, operation=rng.choice(self.operations).name))
        return made

    def _problem(self, made: list[Assignment], length: int, structure: str, split: Split, rng: Random) -> Problem:
        return self._stated(made, rng.sample(made, len(made)), length, structure, split)

    def _stated(
        self, made: list[Assignment], shuffled: list[Assignment], length: int, structure: str, split: Split
    ) -> Problem:
        path, asked = made[: length + 1], made[length].name
        steps, value = [], str(path[0].value)
        for each in path[1:]:
            value = self._apply(str(each.operation), value)
            steps.append(Step(text=" ".join([*each.words, "=", value]), value=value))
        question = " ".join(word for each in shuffled for word in [*each.words, ";"]) + f" {asked} ?"
        said = "; ".join(self._said(each) for each in shuffled)
        return Problem(
            id=structure_hash(question),
            task=self.spec,
            question=question,
            answer=value,
            steps=tuple(steps),
            structure=structure,
            split=split,
            readable=f"{said} (mod {self.n_values}). What is {asked}?",
            meta={
                "path": [each.name for each in path],
                "assignments": {each.name: [each.value, each.source, each.operation] for each in made},
            },
        )

    def rewritten(self, problem: Problem, rng: Random, what: str = "constant") -> Problem:
        """`problem` with another constant at the root of its path, or (`operations`) with other operations too.

        Names, path, distractors and the order of the assignments stay.
        """
        checked_rewriting(what)
        path = problem.meta["path"]
        made = {each.name: each for each in _assignments_of(problem).values()}
        constant = rng.choice([v for v in self.values if v != made[path[0]].value])
        made[path[0]] = replace(made[path[0]], value=constant)
        if what == "operations":
            for name in path[1:]:
                made[name] = replace(made[name], operation=rng.choice(self.operations).name)
        chosen = [str(made[name].operation) for name in path[1:]]
        structure = structure_hash(self.name, self.n_values, constant, chosen)
        asked = [words.split()[0] for words in problem.question.split(" ;")[:-1]]
        order = [made[name] for name in asked]
        return self._stated(list(made.values()), order, len(path) - 1, structure, split_of(structure))

    def _said(self, each: Assignment) -> str:
        if each.operation is None:
            return f"{each.name} is {each.value}"
        return f"to get {each.name}, take {each.source} and {self._by_name[each.operation].readable}"

    def _apply(self, operation: str, value: str) -> str:
        return str(self._by_name[operation].table[int(value)])

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check `text`, restated steps of five words each and then the answer, separated by white space.

        A step is right when it computes a necessary variable that has not been computed yet, restates its
        assignment, has an operand that is a constant or was written before, and reaches what follows from the
        operand's *written* value; so one slip is counted once. A step on a distractor is wrong.
        """
        words = text.split()
        answer = words[-1] if words else None
        chunks = [words[k : min(k + _STEP_WORDS, len(words) - 1)] for k in range(0, len(words) - 1, _STEP_WORDS)]
        assignments = _assignments_of(problem)
        written = {name: each.value for name, each in assignments.items() if each.value is not None}
        right: list[bool | None] = []
        for chunk in chunks:
            name, value = (chunk[0], chunk[-1]) if len(chunk) == _STEP_WORDS else (None, None)
            right.append(name not in written and self._follows(problem, chunk, assignments, written))
            if name in assignments and name not in written and value in self.values:
                written[name] = value
        right += [None] * (problem.n_steps - len(right))
        first = next((k for k, ok in enumerate(right, 1) if ok is False), None)
        return Verdict(answer=answer == problem.answer, steps=tuple(right), first_error=first)

    def _follows(
        self, problem: Problem, chunk: list[str], assignments: dict[str, Assignment], written: Mapping[str, str]
    ) -> bool:
        each = assignments.get(chunk[0]) if len(chunk) == _STEP_WORDS else None
        if each is None or each.source is None or each.name not in problem.meta["path"] or each.source not in written:
            return False
        return chunk == [*each.words, "=", self._apply(str(each.operation), written[each.source])]

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """The answer if step `step` (from 1) had reached `value` and the later steps were applied to it."""
        checked_edit(problem, step, value, self.values)
        assignments = _assignments_of(problem)
        for name in problem.meta["path"][step + 1 :]:
            value = self._apply(str(assignments[name].operation), value)
        return value

    def entities(self, problem: Problem) -> tuple[str, ...]:
        """The problem's variables, in alphabetical order."""
        return tuple(sorted(problem.meta["assignments"]))

    def fact(self, problem: Problem, name: str, entities: tuple[str, ...], step: int) -> str | None:
        """Fact `name` about variables after `step` steps.

        None where the problem does not have them all, and for a variable's dependence on itself.
        """
        if name not in self.facts:
            raise unknown("fact of task variables", name, self.facts)
        if len(entities) != self.facts[name]:
            raise UsageError(f"fact {name!r} is about {self.facts[name]} variables, but {len(entities)} came.")
        assignments, path = _assignments_of(problem), problem.meta["path"]
        if not set(entities) <= set(assignments) or len(set(entities)) < len(entities):
            return None
        if name == "depends":
            return _yes(entities[1] in _ancestors(assignments, entities[0]))
        (variable,) = entities
        computed = set(path[1 : step + 1])
        known = variable in computed or assignments[variable].value is not None
        if name == "value":
            return self._value(assignments, variable) if known else "unknown"
        source = assignments[variable].source
        can_next = not known and (source in computed or assignments[str(source)].value is not None)
        held = {
            "necessary": variable in path,
            "known": known,
            "can_next": can_next,
            "necessary_next": can_next and variable in path,
        }
        return _yes(held[name])

    def _value(self, assignments: dict[str, Assignment], variable: str) -> str:
        each = assignments[variable]
        if each.value is not None:
            return each.value
        return self._apply(str(each.operation), self._value(assignments, str(each.source)))


def _assignments_of(problem: Problem) -> dict[str, Assignment]:
    made: dict[str, list[Any]] = problem.meta["assignments"]
    return {name: Assignment(name, *parts) for name, parts in made.items()}


def _ancestors(assignments: dict[str, Assignment], variable: str) -> set[str]:
    found: set[str] = set()
    source = assignments[variable].source
    while source is not None:
        found.add(source)
        source = assignments[source].source
    return found


def _yes(held: bool) -> str:
    return "yes" if held else "no"
