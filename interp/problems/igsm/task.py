"""Task `igsm`: dependency-graph arithmetic in words, after iGSM (arXiv 2407.20311, section 2).

A question defines numbers by one another in shuffled sentences and asks for one of them. Half of the
parameters are distractors, and they are matched: the graph is made of two components of the same shape and
operations under different names and constants, and only the sentence that asks says which one matters. So
every necessary parameter has a twin that is used and defined in the same way and is not necessary, and no
property of a parameter's own sentences says anything about `necessary`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from types import MappingProxyType

from interp.errors import UsageError, checked_count, unknown
from interp.problems.base import (
    Problem,
    Split,
    Step,
    Verdict,
    checked_edit,
    checked_split,
    split_of,
    structure_hash,
)
from interp.problems.drawn import DrawnTask, length_range, spec_of
from interp.problems.igsm.checking import check_steps, definitions_of
from interp.problems.igsm.graph import (
    Formula,
    canonical,
    closure,
    draw_component,
    evaluate,
    topological,
    twin_of,
)
from interp.problems.igsm.labels import can_next, depends, necessary, necessary_next
from interp.problems.igsm.wording import NAMES, in_english, question, step_text, taken_back, vocabulary

ASKS, ORDERS = ("last", "first"), ("shuffled", "top-down")
_MOST = len(NAMES)
_MOST_WRONG = 3  # parameters taken back before one step


class IGSMTask(DrawnTask):
    """`igsm`: numbers modulo `mod` (23), 2 to 4 necessary parameters (`steps`) and as many distractors.

    `parameters` is how many a question defines in all, twice the steps unless given; more than that adds
    unnecessary ones to both components. With `retries`, that share of steps begins with a parameter that is not
    what comes next and is taken back, after the authors' data with mistakes (arXiv 2408.16293). Facts are those of the paper's section 4.1, with `known` and `value`
    as they stand after a number of gold steps; `value` is "unknown" before a parameter is computed.
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
        self.min_steps, self.max_steps = length_range("steps of task igsm", steps, "2-4 or 3", 2, _MOST // 2)
        self.mod = checked_count("mod of task igsm", mod, at_least=5)
        self.parameters = None if parameters is None else checked_count("parameters of task igsm", parameters)
        if self.parameters is not None and not (
            2 * self.max_steps <= self.parameters <= _MOST and self.parameters % 2 == 0
        ):
            raise UsageError(
                f"parameters of task igsm must be an even number from {2 * self.max_steps}, twice the most steps, "
                f"to {_MOST}, but {parameters!r} came."
            )
        self.retries = _checked_share(retries)
        self.asks, self.order = _checked("asks", asks, ASKS), _checked("order", order, ORDERS)
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
        self.symbols = NAMES  # words that may be exchanged for each other throughout a problem

    def vocabulary(self) -> list[str]:
        return vocabulary(self.values)

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """An endless stream of problems of one split, of `n_steps` steps where given."""
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
        return topological(definitions, set(definitions), rng)[::-1]

    def _components(
        self, rng: Random, names: list[str], needed: int
    ) -> tuple[dict[str, Formula], dict[str, Formula], dict[str, str]]:
        """Two components of one shape whose asked parameters differ in value, and who is whose twin."""
        half = len(names) // 2
        renamed = dict(zip(names[:half], names[half:], strict=True))
        twins = renamed | {there: here for here, there in renamed.items()}
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
        said = [step_text(name, definitions[name], values) for name in order]
        if self.retries:
            wrong = [self._wrong(definitions, order[:k], asked, rng) for k in range(len(order))]
            said = [taken_back(each, step) for each, step in zip(wrong, said, strict=True)]
        return Problem(
            id=structure_hash(text),
            task=self.spec,
            question=text,
            answer=str(values[asked]),
            steps=tuple(Step(words, str(values[name])) for name, words in zip(order, said, strict=True)),
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

    def _wrong(self, definitions: dict[str, Formula], known: list[str], asked: str, rng: Random) -> list[str]:
        """Parameters that are neither known nor what comes next, for a share of the steps."""
        others = [n for n in definitions if n not in known and not necessary_next(definitions, asked, known, n)]
        wrong: list[str] = []
        while others and len(wrong) < _MOST_WRONG and rng.random() < self.retries:
            wrong.append(others.pop(rng.randrange(len(others))))
        return wrong

    def asking_the_twin(self, problem: Problem) -> Problem:
        """The same sentences with the other component's parameter asked for: what is necessary turns round."""
        twins = problem.meta["twins"]
        split = checked_split(problem.split)
        asked = twins[problem.meta["asked"]]
        return self._problem(definitions_of(problem), asked, twins, problem.structure, split, Random(problem.id))

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Check `text`: sentences, and after them the answer as one word.

        Steps may be written in any order that computes operands first, so `steps[k]` is the (k+1)-th that was
        written. `check_steps` says what is wrong with each.
        """
        words = text.split()
        right: list[bool | None] = [step.error is None for step in check_steps(problem, " ".join(words[:-1]))]
        right += [None] * (problem.n_steps - len(right))
        first = next((k for k, ok in enumerate(right, 1) if ok is False), None)
        return Verdict(answer=bool(words) and words[-1] == problem.answer, steps=tuple(right), first_error=first)

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """The answer if gold step `step` (from 1) had reached `value` and the later steps were computed from it."""
        checked_edit(problem, step, value, self.values)
        definitions, replaced = definitions_of(problem), problem.meta["order"][step - 1]
        return str(evaluate(definitions, self.mod, {replaced: int(value)})[problem.meta["asked"]])

    def entities(self, problem: Problem) -> tuple[str, ...]:
        """The parameters' names, in the order of the question's sentences."""
        return tuple(definitions_of(problem))

    def fact(self, problem: Problem, name: str, entities: tuple[str, ...], step: int) -> str | None:
        """A label of the paper after `step` gold steps: "yes" or "no", for `value` a number or "unknown".

        None where the problem has no such parameter, and for a parameter's dependence on itself.
        """
        if name not in self.facts:
            raise unknown("fact of task igsm", name, self.facts)
        definitions, asked = definitions_of(problem), problem.meta["asked"]
        if len(entities) != self.facts[name]:
            raise UsageError(f"fact {name!r} is about {self.facts[name]} parameters, but {len(entities)} came.")
        if not set(entities) <= set(definitions) or len(set(entities)) < len(entities):
            return None
        about, known = entities[0], problem.meta["order"][:step]
        if name == "value":
            return problem.steps[known.index(about)].value if about in known else "unknown"
        found = {
            "necessary": lambda: necessary(definitions, asked, about),
            "depends": lambda: depends(definitions, about, entities[1]),
            "known": lambda: about in known,
            "can_next": lambda: can_next(definitions, known, about),
            "necessary_next": lambda: necessary_next(definitions, asked, known, about),
        }
        return "yes" if found[name]() else "no"


def _checked(option: str, given: str, known: tuple[str, ...]) -> str:
    if given not in known:
        raise unknown(f"{option} of task igsm", given, known)
    return given


def _checked_share(retries: float | str) -> float:
    try:
        share = float(retries)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise UsageError(f"retries of task igsm must lie between 0 and 1, but {retries!r} came.")
    return share
