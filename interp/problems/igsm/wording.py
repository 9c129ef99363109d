"""The words of an iGSM problem: what a model reads and writes, and the same in English.

A definition reads `owls: foxes plus bears .` and its step restates the operands' values,
`owls: foxes 5 plus bears 9 so owls 14 .`; a constant's step is `foxes: 5 so foxes 5 .`. A parameter that is
being defined is a token of its own (`owls:`), so that its definition can be found by one exact match. Before a
step a parameter may be taken back, `ants: back owls: …`: it was named, and then seen not to be what comes next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from interp.problems.igsm.graph import OPERATIONS, Definitions, Formula

NAMES = (
    *("ants", "bears", "cats", "crabs", "crows", "deer", "dogs", "ducks", "eels", "foxes", "frogs", "geese"),
    *("goats", "hares", "hens", "lions", "mice", "moles", "owls", "pigs", "seals", "swans", "toads", "wolves"),
)
STOP, SO, BACK, ASK = ".", "so", "back", ("how", "many", "?")


def vocabulary(values: Sequence[str]) -> list[str]:
    """Every word of questions and steps about numbers `values`."""
    return [*values, *NAMES, *(f"{name}:" for name in NAMES), *OPERATIONS, SO, STOP, BACK, *ASK]


def question(definitions: Definitions, asked: str, *, first: bool = False) -> str:
    """The sentences in the order of `definitions`, and after them the one that asks, or before them where `first`."""
    said = [f"{name}: {' '.join(formula)} {STOP}" for name, formula in definitions.items()]
    asking = f"{ASK[0]} {ASK[1]} {asked} {ASK[2]}"
    return " ".join([asking, *said] if first else [*said, asking])


def step_text(name: str, formula: Formula, values: Mapping[str, int]) -> str:
    """A parameter's step: its formula with the operands' values, and what it comes to."""
    return f"{name}: {' '.join(restated(formula, values))} {SO} {name} {values[name]} {STOP}"


def taken_back(names: list[str], step: str) -> str:
    """A step's text after the parameters that were named before it and taken back."""
    return " ".join([*(f"{name}: {BACK}" for name in names), step])


def restated(formula: Formula, values: Mapping[str, int]) -> list[str]:
    """A formula's words, each operand followed by its value."""
    return [part for word in formula for part in ([word, str(values[word])] if word in values else [word])]


def in_english(definitions: Definitions, asked: str, mod: int) -> str:
    sentences = [f"The number of {name} is {_phrase(formula)}." for name, formula in definitions.items()]
    return " ".join([f"All numbers are modulo {mod}.", *sentences, f"What is the number of {asked}?"])


def _phrase(formula: Formula) -> str:
    said = [word if word.isdigit() else f"the number of {word}" for word in formula[::2]]
    return said[0] if len(said) == 1 else f"{said[0]} {formula[1]} {said[1]}"


@dataclass(frozen=True)
class WrittenStep:
    """What a written sentence claims: `name` is `formula` over `given` values, which comes to `value`.

    `back` are the parameters that it took back before.
    """

    name: str
    formula: Formula
    given: tuple[tuple[str, str], ...]
    value: str
    back: tuple[str, ...]


def read_step(words: list[str]) -> WrittenStep | None:
    """One sentence, without its full stop; None where it is not a step at all."""
    back = []
    while words[1:2] == [BACK] and words[0].endswith(":"):
        back.append(words[0][:-1])
        words = words[2:]
    if len(words) < 5 or words[-3] != SO or words[0] != f"{words[-2]}:":
        return None
    formula: list[str] = []
    given: list[tuple[str, str]] = []
    body = words[1:-3]
    while body:
        formula.append(body.pop(0))
        if formula[-1] in NAMES:
            if not body:
                return None
            given.append((formula[-1], body.pop(0)))
    return WrittenStep(words[-2], tuple(formula), tuple(given), words[-1], tuple(back))
