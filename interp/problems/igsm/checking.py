"""Exact checking of a written solution, and what kind of mistake each wrong step is."""

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
    "arithmetic": "the operation on the restated values comes to something else",
}
OTHER: Mapping[str, str] = {
    "unreadable": "the sentence is not a step, or names a parameter that the question lacks",
    "definition": "the formula is not the question's",
    "value": "an operand's restated value is not the one that was written for it",
}


@dataclass(frozen=True)
class CheckedStep:
    """One written sentence: its parameter ("" where unreadable), and what is wrong with it (None if right).

    `back` are the parameters that were named before it and taken back, which is no mistake. `error` is a key of `NOT_NEXT`, `ARITHMETIC` or `OTHER`. A step that is wrong in several ways is called by
    the first of: unreadable, not next, definition, value, arithmetic.
    """

    parameter: str
    error: str | None
    back: tuple[str, ...] = ()


def definitions_of(problem: Problem) -> dict[str, tuple[str, ...]]:
    """The definitions that a problem's question states, in the order of its sentences."""
    said = (sentence.split() for sentence in problem.meta["definitions"])
    return {words[0][:-1]: tuple(words[1:]) for words in said}


def check_steps(problem: Problem, text: str) -> list[CheckedStep]:
    """Every sentence of `text`, the steps without the answer.

    Steps may come in any order that computes operands first. A step is held against what was *written* before
    it, so one slip is counted once.
    """
    definitions, asked, mod = definitions_of(problem), problem.meta["asked"], problem.meta["mod"]
    written: dict[str, str] = {}
    checked = []
    for sentence in _sentences(text):
        step = read_step(sentence)
        if step is None or step.name not in definitions:
            checked.append(CheckedStep("", "unreadable"))
            continue
        checked.append(CheckedStep(step.name, _error(step, definitions, asked, mod, written), step.back))
        written.setdefault(step.name, step.value)
    return checked


def _sentences(text: str) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for word in text.split():
        if word == STOP:
            found.append([])
        else:
            found[-1].append(word)
    # Words after the last full stop are a sentence that was never finished.
    return found if found[-1] else found[:-1]


def _error(step: WrittenStep, definitions: Definitions, asked: str, mod: int, written: Mapping[str, str]) -> str | None:
    formula = definitions[step.name]
    if step.name in written:
        return "repeated"
    if not necessary(definitions, asked, step.name):
        return "unnecessary"
    if any(operand not in written for operand in operands(formula)):
        return "not ready"
    if step.formula != formula:
        return "definition"
    if any(written[name] != value for name, value in step.given):
        return "value"
    numbers = {name: int(value) for name, value in step.given if value.isdigit()}
    if len(numbers) < len(set(operands(formula))) or str(compute(formula, numbers, mod)) != step.value:
        return "arithmetic"
    return None
