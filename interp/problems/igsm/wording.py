"""The words of an iGSM problem: what a model reads and writes, and the problem in English.

A definition reads `owls: foxes plus bears .` and its step restates the operands' values, `owls: foxes 5 plus bears 9
so owls 14 .`. A constant's step is `foxes: 5 so foxes 5 .`. A parameter that is being defined is a separate token
(`owls:`), so one exact match finds its definition. Before a step a parameter may be named and taken back, `ants: back
owls: …`, because it is not the next one.
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
    """Return every word of questions and steps about numbers `values`."""
    return [*values, *NAMES, *(f"{name}:" for name in NAMES), *OPERATIONS, SO, STOP, BACK, *ASK]


def question(definitions: Definitions, asked: str, *, first: bool = False) -> str:
    """Return the text of a question.

    Args:
        definitions: The parameters' formulas, in the order of the sentences.
        asked: The parameter that the question asks for.
        first: Whether the sentence that asks comes first; otherwise it comes last.
    """
    sentences = [f"{name}: {' '.join(formula)} {STOP}" for name, formula in definitions.items()]
    query = f"{ASK[0]} {ASK[1]} {asked} {ASK[2]}"
    return " ".join([query, *sentences] if first else [*sentences, query])


def step_text(name: str, formula: Formula, values: Mapping[str, int]) -> str:
    """Return a parameter's step: its formula with the operands' values, and its value."""
    return f"{name}: {' '.join(restate(formula, values))} {SO} {name} {values[name]} {STOP}"


def take_back(names: list[str], step: str) -> str:
    """Return a step's text after parameters that are named and taken back."""
    return " ".join([*(f"{name}: {BACK}" for name in names), step])


def restate(formula: Formula, values: Mapping[str, int]) -> list[str]:
    """Return a formula's words, each operand followed by its value."""
    return [part for word in formula for part in ([word, str(values[word])] if word in values else [word])]


def in_english(definitions: Definitions, asked: str, mod: int) -> str:
    """Return the question in English."""
    sentences = [f"The number of {name} is {_phrase(formula)}." for name, formula in definitions.items()]
    return " ".join([f"All numbers are modulo {mod}.", *sentences, f"What is the number of {asked}?"])


def _phrase(formula: Formula) -> str:
    operands = [word if word.isdigit() else f"the number of {word}" for word in formula[::2]]
    return operands[0] if len(operands) == 1 else f"{operands[0]} {formula[1]} {operands[1]}"


@dataclass(frozen=True)
class WrittenStep:
    """The claim of a written sentence.

    Attributes:
        name: The parameter.
        formula: Its formula.
        operands: Each operand with its restated value.
        value: The result.
        back: Parameters that were taken back before.
    """

    name: str
    formula: Formula
    operands: tuple[tuple[str, str], ...]
    value: str
    back: tuple[str, ...]


def read_step(words: list[str]) -> WrittenStep | None:
    """Return the claim of one sentence, without its full stop; None where it is no step."""
    back = []
    while words[1:2] == [BACK] and words[0].endswith(":"):
        back.append(words[0][:-1])
        words = words[2:]
    if len(words) < 5 or words[-3] != SO or words[0] != f"{words[-2]}:":
        return None
    formula: list[str] = []
    operands: list[tuple[str, str]] = []
    body = words[1:-3]
    while body:
        formula.append(body.pop(0))
        if formula[-1] in NAMES:
            if not body:
                return None
            operands.append((formula[-1], body.pop(0)))
    return WrittenStep(words[-2], tuple(formula), tuple(operands), words[-1], tuple(back))
