"""Task `igsm`: dependency-graph arithmetic in words, after iGSM (arXiv 2407.20311, section 2).

A question defines parameters in terms of each other in shuffled sentences and asks for one of them. Half of the
parameters are distractors, and they are matched: the graph has two components of the same shape and operations, with
different names and constants, and only the sentence that asks decides which one matters. So every necessary parameter
has a twin that is defined and used in the same way but is not necessary. No property of a parameter's own sentences
carries information about `necessary`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from types import MappingProxyType

from interp.errors import UsageError, checked_count, unknown
from interp.problems.base import Problem, Split, Step, Task, Verdict, checked_split, split_of, structure_hash
from interp.problems.igsm.checking import check_steps, definitions_of
from interp.problems.igsm.graph import (
    Formula,
    canonical,
    closure,
    draw_component,
    evaluate,
    operands,
    topological,
    twin_of,
)
from interp.problems.igsm.labels import can_next, depends, necessary, necessary_next
from interp.problems.igsm.wording import NAMES, in_english, question, step_text, take_back, vocabulary
from interp.problems.options import checked_choice, checked_edit, length_range, spec_of, yes_no

ASKS, ORDERS = ("last", "first"), ("shuffled", "top-down", "numbers-last")
_MAX_PARAMETERS = len(NAMES)
_MAX_RETRIES = 3  # parameters taken back before one step


class IGSMTask(Task):
    """Task `igsm`: 2 to 4 necessary parameters and as many distractors.

    Facts are those of the paper's section 4.1. `known` and `value` hold after a number of gold steps; `value` is
    "unknown" before a parameter is computed.

    Args:
        steps: Range of the number of necessary parameters, such as "2-4".
        mod: Numbers are modulo this.
        parameters: Number of parameters in all; twice the steps by default. More adds unnecessary ones to both
            components.
        retries: Fraction of steps that begin with a parameter that is not the next one and is taken back, as in the
            authors' data with mistakes (arXiv 2408.16293).
        asks: Whether the sentence that asks comes "last" or "first".
        order: Order of the definitions: "shuffled", "top-down" from the answer, or "numbers-last": top-down, and the
            parameters that are given as numbers after all others, so that no number stands beside what it is for.
    """

    name = "igsm"
    facts: Mapping[str, int] = MappingProxyType(
        {"necessary": 1, "depends": 2, "known": 1, "value": 1, "can_next": 1, "necessary_next": 1}
    )

    def __init__(
        self,
        steps: str = "2-4",
        mod: int | str = 23,
        parameters: int | str | None = None,
        retries: float | str = 0.0,
        asks: str = "last",
        order: str = "shuffled",
    ) -> None:
        self.min_steps, self.max_steps = length_range("steps of task igsm", steps, "2-4 or 3", 2, _MAX_PARAMETERS // 2)
        self.mod = checked_count("mod of task igsm", mod, at_least=5)
        self.parameters = None if parameters is None else checked_count("parameters of task igsm", parameters)
        if self.parameters is not None and not (
            2 * self.max_steps <= self.parameters <= _MAX_PARAMETERS and self.parameters % 2 == 0
        ):
            raise UsageError(
                f"expected parameters of task igsm to be an even number from {2 * self.max_steps}, twice the most steps, "
                f"to {_MAX_PARAMETERS}, got {parameters!r}."
            )
        self.retries = _checked_share(retries)
        self.asks = checked_choice("asks of task igsm", asks, ASKS)
        self.order = checked_choice("order of task igsm", order, ORDERS)
        options = [
            ("steps", str(steps), "2-4"),
            ("mod", self.mod, 23),
            ("parameters", self.parameters, None),
            ("retries", self.retries, 0.0),
            ("asks", self.asks, "last"),
            ("order", self.order, "shuffled"),
        ]
        self.spec = spec_of("igsm", options)
        self.values = tuple(str(v) for v in range(self.mod))
        self.symbols = NAMES

    def vocabulary(self) -> list[str]:
        """Return every word of the task's questions, steps and answers."""
        return vocabulary(self.values)

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """Yield problems of one split without end, of `n_steps` steps where given."""
        while True:
            needed = n_steps or rng.randint(self.min_steps, self.max_steps)
            size = (self.parameters or 2 * needed) // 2
            names = rng.sample(NAMES, 2 * size)
            one, other, twins = self._components(rng, names, needed)
            definitions = one | other
            asked = rng.choice([names[needed - 1], twins[names[needed - 1]]])
            structure = structure_hash(self.name, self.mod, canonical(definitions, (asked, twins[asked])))
            if split_of(structure) != split:
                continue
            ordered = self._ordered(definitions, rng)
            yield self._problem({name: definitions[name] for name in ordered}, asked, twins, structure, split, rng)

    def _ordered(self, definitions: dict[str, Formula], rng: Random) -> list[str]:
        if self.order == "shuffled":
            return rng.sample(list(definitions), len(definitions))
        ordered = topological(definitions, set(definitions), rng)[::-1]
        if self.order == "numbers-last":
            numbers = [name for name in ordered if not operands(definitions[name])]
            return [name for name in ordered if name not in numbers] + rng.sample(numbers, len(numbers))
        return ordered

    def _components(
        self, rng: Random, names: list[str], needed: int
    ) -> tuple[dict[str, Formula], dict[str, Formula], dict[str, str]]:
        """Return two components of one shape whose asked parameters differ in value, and each parameter's twin."""
        half = len(names) // 2
        renamed = dict(zip(names[:half], names[half:], strict=True))
        twins = renamed | {twin: name for name, twin in renamed.items()}
        while True:
            one = draw_component(rng, names[:half], needed, self.mod)
            other = twin_of(one, renamed, rng, self.mod)
            values = evaluate(one | other, self.mod)
            if values[names[needed - 1]] != values[twins[names[needed - 1]]]:
                return one, other, twins

    def _problem(
        self,
        definitions: dict[str, Formula],
        asked: str,
        twins: dict[str, str],
        structure: str,
        split: Split,
        rng: Random,
    ) -> Problem:
        values = evaluate(definitions, self.mod)
        order = topological(definitions, closure(definitions, asked), rng)
        text = question(definitions, asked, first=self.asks == "first")
        step_texts = [step_text(name, definitions[name], values) for name in order]
        if self.retries:
            retries = [self._retries(definitions, order[:k], asked, rng) for k in range(len(order))]
            step_texts = [take_back(names, step) for names, step in zip(retries, step_texts, strict=True)]
        return Problem(
            id=structure_hash(text),
            task=self.spec,
            question=text,
            answer=str(values[asked]),
            steps=tuple(Step(words, str(values[name])) for name, words in zip(order, step_texts, strict=True)),
            structure=structure,
            split=split,
            readable=in_english(definitions, asked, self.mod),
            meta={
                "mod": self.mod,
                "asked": asked,
                "definitions": [f"{name}: {' '.join(formula)}" for name, formula in definitions.items()],
                "order": order,
                "twins": twins,
            },
        )

    def _retries(self, definitions: dict[str, Formula], known: list[str], asked: str, rng: Random) -> list[str]:
        """Return parameters to take back before a step: neither known nor next, and for most steps none."""
        others = [n for n in definitions if n not in known and not necessary_next(definitions, asked, known, n)]
        names: list[str] = []
        while others and len(names) < _MAX_RETRIES and rng.random() < self.retries:
            names.append(others.pop(rng.randrange(len(others))))
        return names

    def ask_twin(self, problem: Problem) -> Problem:
        """Return the same sentences with the asked parameter's twin asked for; necessary and unnecessary swap."""
        twins = problem.meta["twins"]
        split = checked_split(problem.split)
        asked = twins[problem.meta["asked"]]
        return self._problem(definitions_of(problem), asked, twins, problem.structure, split, Random(problem.id))

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check `text`: sentences, and then the answer as one word.

        Steps may be written in any order that computes operands first, so `steps[k]` is the (k+1)-th written step.
        `check_steps` returns the error of each.
        """
        words = text.split()
        right: list[bool | None] = [step.error is None for step in check_steps(problem, " ".join(words[:-1]))]
        return Verdict.of_steps(words[-1:] == [problem.answer], right, problem.n_steps)

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """Return the answer if gold step `step` (from 1) had reached `value` and later steps were computed from it."""
        checked_edit(problem, step, value, self.values)
        definitions, replaced = definitions_of(problem), problem.meta["order"][step - 1]
        return str(evaluate(definitions, self.mod, {replaced: int(value)})[problem.meta["asked"]])

    def entities(self, problem: Problem) -> tuple[str, ...]:
        """Return the parameters, in the order of the question's sentences."""
        return tuple(definitions_of(problem))

    def fact(self, problem: Problem, name: str, entities: tuple[str, ...], step: int) -> str | None:
        """Return a label of the paper after `step` gold steps: "yes" or "no", for `value` a number or "unknown".

        None where the problem lacks the parameter, and for a parameter's dependence on itself.
        """
        if name not in self.facts:
            raise unknown("fact of task igsm", name, self.facts)
        definitions, asked = definitions_of(problem), problem.meta["asked"]
        if len(entities) != self.facts[name]:
            raise UsageError(f"expected {self.facts[name]} parameters for fact {name!r}, got {len(entities)}.")
        if not set(entities) <= set(definitions) or len(set(entities)) < len(entities):
            return None
        parameter, known = entities[0], problem.meta["order"][:step]
        if name == "value":
            return problem.steps[known.index(parameter)].value if parameter in known else "unknown"
        labels = {
            "necessary": lambda: necessary(definitions, asked, parameter),
            "depends": lambda: depends(definitions, parameter, entities[1]),
            "known": lambda: parameter in known,
            "can_next": lambda: can_next(definitions, known, parameter),
            "necessary_next": lambda: necessary_next(definitions, asked, known, parameter),
        }
        return yes_no(labels[name]())


def _checked_share(retries: float | str) -> float:
    try:
        share = float(retries)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise UsageError(f"expected retries of task igsm between 0 and 1, got {retries!r}.")
    return share
