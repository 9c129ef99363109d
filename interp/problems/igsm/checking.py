"""Exact checking of a written solution, with the error of each wrong step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from interp.problems.base import Problem
from interp.problems.igsm.graph import Definitions, compute, operands
from interp.problems.igsm.labels import necessary
from interp.problems.igsm.wording import STOP, WrittenStep, read_step

NOT_NEXT: Mapping[str, str] = {
    "unnecessary": "the answer does not depend on the parameter",
    "not ready": "an operand of the parameter has not been computed",
    "repeated": "the parameter has been computed before",
}
ARITHMETIC: Mapping[str, str] = {
    "arithmetic": "the operation on the restated values has another result",
}
OTHER: Mapping[str, str] = {
    "unreadable": "the sentence is not a step, or names a parameter that the question lacks",
    "definition": "the formula differs from the question's",
    "value": "an operand's restated value differs from the one that was written for it",
}


@dataclass(frozen=True)
class CheckedStep:
    """The result of checking one written sentence.

    Attributes:
        parameter: The parameter that it computes; "" where the sentence is unreadable.
        error: A key of `NOT_NEXT`, `ARITHMETIC` or `OTHER`; None if the sentence is right. Of several errors, the
            first of: unreadable, not next, definition, value, arithmetic.
        back: Parameters that were named before it and taken back, which is no error.
    """

    parameter: str
    error: str | None
    back: tuple[str, ...] = ()


def definitions_of(problem: Problem) -> dict[str, tuple[str, ...]]:
    """Return each parameter's formula, in the order of the question's sentences."""
    sentences = (sentence.split() for sentence in problem.meta["definitions"])
    return {words[0][:-1]: tuple(words[1:]) for words in sentences}


def check_steps(problem: Problem, text: str) -> list[CheckedStep]:
    """Check every sentence of a solution.

    Steps may come in any order that computes operands first. A step is checked against what was *written* before it,
    so one slip counts once.

    Args:
        problem: The problem.
        text: The steps, without the answer.
    """
    definitions, target, mod = definitions_of(problem), problem.meta["asked"], problem.meta["mod"]
    written: dict[str, str] = {}
    checked = []
    for sentence in _sentences(text):
        step = read_step(sentence)
        if step is None or step.name not in definitions:
            checked.append(CheckedStep("", "unreadable"))
            continue
        checked.append(CheckedStep(step.name, _error(step, definitions, target, mod, written), step.back))
        written.setdefault(step.name, step.value)
    return checked


def _sentences(text: str) -> list[list[str]]:
    sentences: list[list[str]] = [[]]
    for word in text.split():
        if word == STOP:
            sentences.append([])
        else:
            sentences[-1].append(word)
    # Words after the last full stop are an unfinished sentence.
    return sentences if sentences[-1] else sentences[:-1]


def _error(
    step: WrittenStep, definitions: Definitions, target: str, mod: int, written: Mapping[str, str]
) -> str | None:
    formula = definitions[step.name]
    if step.name in written:
        return "repeated"
    if not necessary(definitions, target, step.name):
        return "unnecessary"
    if any(operand not in written for operand in operands(formula)):
        return "not ready"
    if step.formula != formula:
        return "definition"
    if any(written[name] != value for name, value in step.operands):
        return "value"
    numbers = {name: int(value) for name, value in step.operands if value.isdigit()}
    if len(numbers) < len(set(operands(formula))) or str(compute(formula, numbers, mod)) != step.value:
        return "arithmetic"
    return None
