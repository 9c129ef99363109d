"""Problems that a user's own problem names: its donors, and rewrites of it.

Both are other lines of the file, named by `id`, number or question, or problems that are written out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from interp.problems.base import Problem, Step, structure_hash
from interp.problems.questions.line import problem_of

Line = tuple[int, dict[str, Any]]
# The fields, and what one of their entries is called.
FIELDS = {"donors": "donor", "rewrites": "rewrite"}


def with_related(problems: Sequence[Problem], lines: Sequence[Line]) -> tuple[list[Problem], list[str]]:
    """Return the problems with their donors and rewrites in `meta`, and notes on those that cannot be used.

    Args:
        problems: The problems of the lines.
        lines: Number and content of each line.
    """
    by_name: dict[Any, Problem] = {}
    # An id is the user's own name for a line, so it counts before numbers and questions.
    by_id: dict[Any, Problem] = {}
    shared: set[Any] = set()
    for problem, (number, raw) in zip(problems, lines, strict=True):
        for name in (number, " ".join(problem.question.split())):
            by_name.setdefault(name, problem)
        own_id = raw.get("id")
        if isinstance(own_id, str | int) and not isinstance(own_id, bool):
            shared |= {own_id} & set(by_id)
            by_id[own_id] = problem
    by_name |= by_id
    completed, notes = [], []
    for problem, (number, raw) in zip(problems, lines, strict=True):
        for field, entry in FIELDS.items():
            named = raw.get(field)
            if named is None:
                continue
            records = []
            for one in named if isinstance(named, list) else [named]:
                try:
                    if isinstance(one, str | int) and one in shared:
                        raise ValueError(
                            f"its {entry} {json.dumps(one)[:60]} is the id of several lines; give each its own"
                        )
                    records.append(_record(one, by_name, problem, entry))
                except ValueError as error:
                    notes.append(f"line {number}: {error}")
            problem = replace(problem, meta={**problem.meta, field: records})
        completed.append(problem)
    return completed, notes


def related(problem: Problem, field: str) -> tuple[Problem, ...]:
    """Return the problems that `problem` names in a field of `FIELDS`; empty where it names none."""
    return tuple(
        replace(
            problem,
            id=structure_hash(record["question"]),
            question=record["question"],
            readable=record["question"],
            answer=record["answer"],
            steps=tuple(Step(**step) for step in record["steps"]),
            structure=record["structure"],
            split=record["split"],
            meta={"line": problem.meta["line"]},
        )
        for record in problem.meta.get(field, ())
    )


def _record(raw: Any, by_name: dict[Any, Problem], owner: Problem, entry: str) -> dict[str, Any]:
    """Return question, answer and steps of a donor or a rewrite."""
    if isinstance(raw, dict):
        try:
            other = problem_of(raw, owner.task, owner.meta["line"])
        except ValueError as error:
            raise ValueError(f"its {entry}: {error}") from None
    else:
        name = " ".join(raw.split()) if isinstance(raw, str) else raw
        if isinstance(name, bool) or not isinstance(name, str | int) or name not in by_name:
            raise ValueError(
                f"its {entry} {json.dumps(raw)[:60]} is no line that can be used; name a line's number, id or question"
            )
        other = by_name[name]
    if entry == "donor" and other.n_steps != owner.n_steps:
        raise ValueError(f"its donor {other.question[:40]!r} has {other.n_steps} steps, and it has {owner.n_steps}")
    if entry == "rewrite" and other.question == owner.question:
        raise ValueError("its rewrite is the question itself; change something in it")
    # A rewrite that says nothing of its steps has as many, of unknown values: silent reasoners think by their number.
    known = other.steps or [Step("", "")] * owner.n_steps
    steps = [{"text": step.text, "value": step.value} for step in known]
    about = {"structure": other.structure, "split": other.split}
    return {"question": other.question, "answer": other.answer, "steps": steps, **about}
