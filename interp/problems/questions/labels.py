"""Labels of a user's own questions: every field of the file that has no meaning of its own.

Texts, numbers and truth values label the whole trace. A list with one entry for each step labels the steps. What is
neither is kept with the problem and listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from interp.errors import counted
from interp.problems.base import Problem

KNOWN_FIELDS = ("question", "answer", "steps", "values", "counterfactuals", "donors", "rewrites", "synonyms", "split")
# Objects whose entries are labels, and what stands before their names.
_GROUPS = {"labels": "", "secrets": "secrets."}
OF_TRACE, OF_STEP = "label of each trace", "label of each step"

Line = tuple[int, dict[str, Any]]


def labelled(problems: Sequence[Problem], lines: Sequence[Line]) -> tuple[list[Problem], dict[str, str]]:
    """Return the problems with their labels and other fields in `meta`, and what became of each field.

    Whether a field is a label is decided for the whole file, so that it means the same on every line.

    Args:
        problems: The problems of the lines.
        lines: Number and content of each line.
    """
    contents = [_fields(raw) for _, raw in lines]
    roles: dict[str, str] = {}
    for name in dict.fromkeys(name for content in contents for name in content):
        given = [
            (number, content[name], problem.n_steps)
            for (number, _), content, problem in zip(lines, contents, problems, strict=True)
            if content.get(name) is not None
        ]
        roles[name] = _role(given)
    result = []
    for problem, content in zip(problems, contents, strict=True):
        labels = {name: label_text(value) for name, value in content.items() if roles[name] in (OF_TRACE, OF_STEP)}
        kept = {name: value for name, value in content.items() if name not in labels}
        added = {key: entries for key, entries in (("labels", labels), ("fields", kept)) if entries}
        result.append(replace(problem, meta={**problem.meta, **added}))
    return result, roles


def _fields(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the fields without a meaning of their own; the entries of `labels` and `secrets` are fields too."""
    fields: dict[str, Any] = {}
    for name, value in raw.items():
        if name in KNOWN_FIELDS:
            continue
        if name in _GROUPS and isinstance(value, dict):
            fields |= {f"{_GROUPS[name]}{key}": entry for key, entry in value.items()}
        else:
            fields[name] = value
    return fields


def _role(given: Iterable[tuple[int, Any, int]]) -> str:
    """Return whether a field labels traces or steps, or why it does neither, from (line, value, number of steps)."""
    roles: dict[str, int] = {}
    for line, value, n_steps in given:
        if _is_scalar(value):
            roles.setdefault(OF_TRACE, line)
        elif not isinstance(value, list) or not all(entry is None or _is_scalar(entry) for entry in value):
            roles.setdefault(f"kept, not a label: line {line} has neither one value nor a list of values", line)
        elif len(value) == n_steps:
            roles.setdefault(OF_STEP, line)
        else:
            return f"kept, not a label: line {line} has {len(value)} entries and {counted(n_steps, 'step')}"
    if len(roles) == 1:
        return next(iter(roles))
    if not roles:
        return "kept, not a label: it is empty on every line"
    if OF_TRACE in roles and OF_STEP in roles:
        return f"kept, not a label: line {roles[OF_TRACE]} has one value, line {roles[OF_STEP]} one for each step"
    return next(role for role in roles if role not in (OF_TRACE, OF_STEP))


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float)


def label_text(value: Any) -> Any:
    """Return a label, or those of a list, as texts; None where there is none."""
    if isinstance(value, list):
        return [label_text(entry) for entry in value]
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # Tables write whole numbers as floats where a row lacks one.
    return str(value).strip()
