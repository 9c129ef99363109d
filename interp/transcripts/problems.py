"""The problems of transcripts: question, right answer, messages before the question, and labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from interp.problems.base import Problem, structure_hash
from interp.problems.questions import TRANSCRIPTS
from interp.problems.questions.file import problem_of
from interp.problems.questions.labels import KNOWN_FIELDS, labelled

# Fields of a questions file that a transcript may bring, besides question and answer. Each is used where it fits.
_OPTIONAL = ("steps", "values", "counterfactuals", "synonyms", "split")


def transcript_problem(
    question: str,
    columns: dict[str, Any],
    number: int,
    *,
    answer: Any = None,
    messages: Iterable[dict[str, Any]] = (),
    prompt: str | None = None,
) -> tuple[Problem, list[str]]:
    """Return the problem of a transcript, without its labels, and what of its columns is not used as a field.

    Args:
        question: The question.
        columns: The transcript's other columns. Fields of a questions file are used where they are valid.
        number: Its number in its file, from 1.
        answer: The right answer; None where it is not known, which makes the problem's answer empty.
        messages: The messages before the question.
        prompt: The whole prompt around `{question}`, where it has one of its own.

    Raises:
        ValueError: The question or the answer cannot be used.
    """
    fields: dict[str, Any] = {"question": question, "answer": "unknown" if answer is None else answer}
    notes = []
    problem = problem_of(fields, TRANSCRIPTS, number)
    for name in _OPTIONAL:
        if columns.get(name) is None:
            continue
        try:
            problem = problem_of({**fields, name: columns[name]}, TRANSCRIPTS, number)
            fields[name] = columns[name]
        except ValueError as error:
            notes.append(f"column {name!r} is not used: {error}")
    before = {"messages": list(messages), "prompt": prompt}
    context = {key: value for key, value in before.items() if value}
    if context:
        problem = replace(problem, id=structure_hash(question, context), meta={**problem.meta, **context})
    return (problem if answer is not None else replace(problem, answer="")), notes


def with_labels(
    problems: list[Problem], columns: list[dict[str, Any]], taken: Iterable[str] = ()
) -> tuple[list[Problem], dict[str, str]]:
    """Return the problems with the other columns as labels, and what became of each column.

    Args:
        problems: The problems.
        columns: The columns of each.
        taken: Columns that have a meaning already.
    """
    known = {*taken, *KNOWN_FIELDS}
    others = [{name: value for name, value in row.items() if name not in known} for row in columns]
    return labelled(problems, [(problem.meta["line"], row) for problem, row in zip(problems, others, strict=True)])
