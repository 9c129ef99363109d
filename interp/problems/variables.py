"""Task `variables`: assignments in shuffled order, some of which the answer does not need.

The question asks for one variable, which depends on a constant through a path of assignments. Distractors are
other constants, or are computed from any variable, path variables included. So an assignment alone shows
neither whether it is needed nor when it can be computed. The operations are those of task `chain`: balanced, so no
operand and no operation alone carries information about a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random
from types import MappingProxyType
from typing import Any

from interp.errors import UsageError, checked_count, unknown
from interp.problems.base import Problem, Split, Step, Task, Verdict, split_of, structure_hash
from interp.problems.chain import operations
from interp.problems.options import checked_edit, checked_rewriting, length_range, spec_of, yes_no

_NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_STEP_WORDS = 5


@dataclass(frozen=True)
class Assignment:
    """What the question says of one variable.

    Attributes:
        name: The variable.
        value: Its constant; None where it is computed.
        source: The variable that it is computed from.
        operation: Name of the operation on `source`.
    """

    name: str
    value: str | None = None
    source: str | None = None
    operation: str | None = None

    @property
    def words(self) -> list[str]:
        """The assignment as the question writes it."""
        if self.value is not None:
            return [self.name, self.value]
        return [self.name, str(self.source), str(self.operation)]


class VariablesTask(Task):
    """Task `variables`: 2 to 4 dependent steps among distractors.

    A question reads `B A +3 ; D C f ; A 4 ; C A *7 ; C ?`: B is A after +3, D is C after f, A is 4, C is A after *7;
    what is C? A step of a trace restates what it computes: `C A *7 = 8`. The structure of a problem is the constant
    and the operations that lead to the answer, without names, order or distractors, so no distractor carries a
    held-out computation into training.

    Facts: `necessary:V`, whether the answer depends on V; `depends:A,B`, whether A is computed from B, directly or
    through others; and after a number of gold steps `known:V` (constants are known from the start), `value:V`
    ("unknown" until V is known), `can_next:V` and `necessary_next:V`, whether V can be computed next and whether it
    should be. They are the labels of Physics of Language Models 2.1 (arXiv 2407.20311, section 4).

    Args:
        steps: Range of the number of steps, such as "2-4".
        distractors: Number of variables off the path.
        values: Number of values.
        names: Number of names for variables.
    """

    name = "variables"
    rewritings = ("constant", "operations")
    thoughts_hold_names = True
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
            raise UsageError(f"expected steps of task variables of at least 1, the smaller first, got {steps!r}.")
        if not needed <= n_names <= len(_NAMES):
            raise UsageError(
                f"expected names of task variables between {needed} (one for each variable of {self.max_steps} steps "
                f"and {self.distractors} distractors) and {len(_NAMES)}, got {n_names}."
            )
        self.names = tuple(_NAMES[:n_names])
        self.symbols = self.names
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
        """Return every word of the task's questions, steps and answers."""
        return [*self.values, *(operation.name for operation in self.operations), *self.names, "=", ";", "?"]

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """Yield problems of one split without end, of `n_steps` steps where given."""
        while True:
            length = n_steps or rng.randint(self.min_steps, self.max_steps)
            constant = rng.choice(self.values)
            chosen = [rng.choice(self.operations).name for _ in range(length)]
            structure = structure_hash(self.name, self.n_values, constant, chosen)
            if split_of(structure) != split:
                continue
            assignments = self._assignments(rng, constant, chosen)
            shuffled = rng.sample(assignments, len(assignments))
            yield self._problem(assignments, shuffled, length, structure, split)

    def _assignments(self, rng: Random, constant: str, chosen: list[str]) -> list[Assignment]:
        """Return the path, in order, and then the distractors, each computed from an earlier variable or from none."""
        names = rng.sample(self.names, len(chosen) + 1 + self.distractors)
        assignments = [Assignment(names[0], value=constant)]
        assignments += [
            Assignment(name, source=before, operation=operation)
            for name, before, operation in zip(names[1:], names[: len(chosen)], chosen, strict=False)
        ]
        for name in names[len(assignments) :]:
            source = rng.choice([None, *(earlier.name for earlier in assignments)])
            if source is None:
                assignments.append(Assignment(name, value=rng.choice(self.values)))
            else:
                assignments.append(Assignment(name, source=source, operation=rng.choice(self.operations).name))
        return assignments

    def _problem(
        self, assignments: list[Assignment], shuffled: list[Assignment], length: int, structure: str, split: Split
    ) -> Problem:
        path, target = assignments[: length + 1], assignments[length].name
        steps, value = [], str(path[0].value)
        for assignment in path[1:]:
            value = self._apply(str(assignment.operation), value)
            steps.append(Step(text=" ".join([*assignment.words, "=", value]), value=value))
        question = " ".join(word for assignment in shuffled for word in [*assignment.words, ";"]) + f" {target} ?"
        readable = "; ".join(self._readable(assignment) for assignment in shuffled)
        return Problem(
            id=structure_hash(question),
            task=self.spec,
            question=question,
            answer=value,
            steps=tuple(steps),
            structure=structure,
            split=split,
            readable=f"{readable} (mod {self.n_values}). What is {target}?",
            meta={
                "path": [assignment.name for assignment in path],
                "assignments": {a.name: [a.value, a.source, a.operation] for a in assignments},
            },
        )

    def rewrite(self, problem: Problem, rng: Random, what: str = "constant") -> Problem:
        """Return `problem` with another constant on its path or, for "operations", with other operations too.

        Names, path, distractors and the order of the assignments stay.
        """
        checked_rewriting(self.name, what, self.rewritings)
        path = problem.meta["path"]
        assignments = _assignments_of(problem)
        constant = rng.choice([v for v in self.values if v != assignments[path[0]].value])
        assignments[path[0]] = replace(assignments[path[0]], value=constant)
        if what == "operations":
            for name in path[1:]:
                assignments[name] = replace(assignments[name], operation=rng.choice(self.operations).name)
        chosen = [str(assignments[name].operation) for name in path[1:]]
        structure = structure_hash(self.name, self.n_values, constant, chosen)
        shuffled = [assignments[words.split()[0]] for words in problem.question.split(" ;")[:-1]]
        return self._problem(list(assignments.values()), shuffled, len(path) - 1, structure, split_of(structure))

    def _readable(self, assignment: Assignment) -> str:
        if assignment.operation is None:
            return f"{assignment.name} is {assignment.value}"
        return f"to get {assignment.name}, take {assignment.source} and {self._by_name[assignment.operation].readable}"

    def _apply(self, operation: str, value: str) -> str:
        return str(self._by_name[operation].table[int(value)])

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check `text`: restated steps of five words each and then the answer, separated by white space.

        A step is right when it computes a necessary variable that has not been computed yet, restates its assignment,
        has an operand that is a constant or was written before, and reaches the result for the operand's *written*
        value. So one slip counts once. A step on a distractor is wrong.
        """
        words = text.split()
        answer = words[-1] if words else None
        chunks = [words[k : min(k + _STEP_WORDS, len(words) - 1)] for k in range(0, len(words) - 1, _STEP_WORDS)]
        assignments = _assignments_of(problem)
        written = {name: a.value for name, a in assignments.items() if a.value is not None}
        right: list[bool | None] = []
        for chunk in chunks:
            name, value = (chunk[0], chunk[-1]) if len(chunk) == _STEP_WORDS else (None, None)
            right.append(name not in written and self._follows(problem, chunk, assignments, written))
            if name in assignments and name not in written and value in self.values:
                written[name] = value
        return Verdict.of_steps(answer == problem.answer, right, problem.n_steps)

    def _follows(
        self, problem: Problem, chunk: list[str], assignments: dict[str, Assignment], written: Mapping[str, str]
    ) -> bool:
        assignment = assignments.get(chunk[0]) if len(chunk) == _STEP_WORDS else None
        if assignment is None or assignment.source is None or assignment.source not in written:
            return False
        if assignment.name not in problem.meta["path"]:
            return False
        return chunk == [*assignment.words, "=", self._apply(str(assignment.operation), written[assignment.source])]

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """Return the answer if `step` (from 1) had reached `value` and the later steps were applied to it."""
        checked_edit(problem, step, value, self.values)
        assignments = _assignments_of(problem)
        for name in problem.meta["path"][step + 1 :]:
            value = self._apply(str(assignments[name].operation), value)
        return value

    def entities(self, problem: Problem) -> tuple[str, ...]:
        """Return the problem's variables, in alphabetical order."""
        return tuple(sorted(problem.meta["assignments"]))

    def fact(self, problem: Problem, name: str, entities: tuple[str, ...], step: int) -> str | None:
        """Return fact `name` about variables after `step` steps; see the class.

        None where the problem lacks one of the variables, and for a variable's dependence on itself.
        """
        if name not in self.facts:
            raise unknown("fact of task variables", name, self.facts)
        if len(entities) != self.facts[name]:
            raise UsageError(f"expected {self.facts[name]} variables for fact {name!r}, got {len(entities)}.")
        assignments, path = _assignments_of(problem), problem.meta["path"]
        if not set(entities) <= set(assignments) or len(set(entities)) < len(entities):
            return None
        if name == "depends":
            return yes_no(entities[1] in _ancestors(assignments, entities[0]))
        (variable,) = entities
        computed = set(path[1 : step + 1])
        known = variable in computed or assignments[variable].value is not None
        if name == "value":
            return self._value(assignments, variable) if known else "unknown"
        source = assignments[variable].source
        can_next = not known and (source in computed or assignments[str(source)].value is not None)
        facts = {
            "necessary": variable in path,
            "known": known,
            "can_next": can_next,
            "necessary_next": can_next and variable in path,
        }
        return yes_no(facts[name])

    def _value(self, assignments: dict[str, Assignment], variable: str) -> str:
        assignment = assignments[variable]
        if assignment.value is not None:
            return assignment.value
        return self._apply(str(assignment.operation), self._value(assignments, str(assignment.source)))


def _assignments_of(problem: Problem) -> dict[str, Assignment]:
    parts: dict[str, list[Any]] = problem.meta["assignments"]
    return {name: Assignment(name, *fields) for name, fields in parts.items()}


def _ancestors(assignments: dict[str, Assignment], variable: str) -> set[str]:
    """Return every variable from which `variable` is computed."""
    ancestors: set[str] = set()
    source = assignments[variable].source
    while source is not None:
        ancestors.add(source)
        source = assignments[source].source
    return ancestors
