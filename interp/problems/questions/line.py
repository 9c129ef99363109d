"""One line of a file of a user's own questions, and the problem that it says."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from interp.errors import counted
from interp.problems.answers import last_number, number_of, plain
from interp.problems.base import Problem, Step, split_of, structure_hash

_ANNOTATION = re.compile(r"<<([^<>]*)>>")
# Names of the splits in common data sets.
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}


def clean_number(answer: str) -> str:
    """Return a number without commas, currency and full stop; other answers as they are."""
    bare = answer.strip()
    if number_of(bare) is None:
        return bare
    return bare.rstrip(".").replace(",", "").replace("$", "").strip()


def problem_of(raw: dict[str, Any], task: str, number: int) -> Problem:
    """Return the problem of a line, without its donors and labels.

    Args:
        raw: The content of the line.
        task: Spec of the problem's task.
        number: Number of the line.

    Raises:
        ValueError: A field is missing or cannot be used.
    """
    for key in ("question", "answer"):
        if key not in raw:
            raise ValueError(f"it has no {key!r}")
    question, written = _checked_text(raw["question"], "question"), _checked_text(raw["answer"], "answer")
    rationale, marker, after = written.rpartition("####")
    answer = clean_number(after if marker else written)
    if not answer:
        raise ValueError("nothing follows the '####' of its answer")
    steps = _steps(raw, rationale if marker else "")
    # Questions that differ in case and punctuation alone are near enough to give each other away across splits.
    structure = structure_hash("questions", plain(question))
    meta: dict[str, Any] = {"line": number}
    if raw.get("counterfactuals") is not None:
        meta["counterfactuals"] = _counterfactuals(raw["counterfactuals"], steps, answer)
    if raw.get("synonyms") is not None:
        meta["synonyms"] = _synonyms(raw["synonyms"])
    return Problem(
        id=structure_hash(question),
        task=task,
        question=question,
        answer=answer,
        steps=steps,
        structure=structure,
        split=split_of(structure) if raw.get("split") is None else _split(raw["split"]),
        readable=question,
        meta=meta,
    )


def _checked_text(value: Any, what: str) -> str:
    """Return a text or number as a text without outer white space; raise `ValueError` on anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"expected its {what} to be a text or a number, got {json.dumps(value)[:60]}")
    text = str(value)
    if not text.strip():
        raise ValueError(f"its {what} is empty")
    if not text.isascii() and text != text.encode(errors="replace").decode():
        raise ValueError(f"its {what} holds half of a surrogate pair")
    return text.strip()


def _steps(raw: dict[str, Any], rationale: str) -> tuple[Step, ...]:
    """Return the steps of a line, else those of its answer's rationale."""
    steps, values = raw.get("steps"), raw.get("values")
    for key, listed in (("steps", steps), ("values", values)):
        if listed is not None and not isinstance(listed, list):
            raise ValueError(f"expected its {key} to be a list, got {json.dumps(listed)[:60]}")
    if steps is None and rationale:
        steps = [line for line in rationale.splitlines() if line.strip()]
    if steps is None:
        steps = values or []
    if values is not None and len(values) != len(steps):
        raise ValueError(f"it has {counted(len(steps), 'step')} but {counted(len(values), 'value')}")
    return tuple(_step(step, k, None if values is None else values[k - 1]) for k, step in enumerate(steps, 1))


def _step(raw: Any, number: int, value: Any) -> Step:
    if isinstance(raw, dict):
        value = raw.get("value", value)
        if "text" not in raw and value is None:
            raise ValueError(f"its step {number} has neither 'text' nor 'value'")
        raw = raw.get("text", value)
    text = _checked_text(raw, f"step {number}")
    annotations = _ANNOTATION.findall(text)
    text = " ".join(_ANNOTATION.sub("", text).split())
    if value is not None:
        return Step(text, clean_number(_checked_text(value, f"value {number}")))
    if annotations:
        return Step(text or annotations[-1], clean_number(annotations[-1].rpartition("=")[2]))
    return Step(text, last_number(text) or text)


def _counterfactuals(raw: Any, steps: Sequence[Step], answer: str) -> dict[str, dict[str, str]]:
    """Return the answer for each step (its number as a text) and each other value that it might have reached."""
    if isinstance(raw, list):
        if len(raw) != len(steps):
            raise ValueError(f"it has {counted(len(steps), 'step')} but counterfactuals for {len(raw)}")
        raw = {str(k): entry for k, entry in enumerate(raw, 1) if entry is not None}
    if not isinstance(raw, dict):
        raise ValueError(
            f'expected its counterfactuals to be like {{"1": {{"VALUE": "ANSWER"}}}}, got {json.dumps(raw)[:60]}'
        )
    checked: dict[str, dict[str, str]] = {}
    for step, answers in raw.items():
        if not step.isascii() or not step.isdigit() or not 1 <= int(step) <= len(steps):
            raise ValueError(
                f"its counterfactuals name step {step[:20]!r}, but it has {counted(len(steps), 'step')}; "
                "number them from 1, and give 'steps' or 'values'"
            )
        if not isinstance(answers, dict):
            raise ValueError(
                f'expected its counterfactuals of step {step} to be like {{"VALUE": "ANSWER"}}, '
                f"got {json.dumps(answers)[:60]}"
            )
        given: dict[str, str] = {}
        for value, other in answers.items():
            value = clean_number(_checked_text(value, f"counterfactual value of step {step}"))
            given[value] = clean_number(_checked_text(other, f"counterfactual answer of step {step}"))
        own = steps[int(step) - 1].value
        if given.get(own, answer) != answer:
            raise ValueError(
                f"its step {step} reaches {own!r} and its answer is {answer!r}, but its counterfactuals say that "
                f"{given[own]!r} follows from {own!r}"
            )
        checked[str(int(step))] = given
    return checked


def _synonyms(raw: Any) -> list[list[str]]:
    if not isinstance(raw, list) or not all(isinstance(words, list) and len(set(map(str, words))) > 1 for words in raw):
        raise ValueError(
            f'expected its synonyms to be lists of at least two words, like [["so", "thus"]], got {json.dumps(raw)[:60]}'
        )
    return [[_checked_text(word, "synonym") for word in words] for words in raw]


def _split(raw: Any) -> str:
    if not isinstance(raw, str) or raw.strip().casefold() not in _SPLITS:
        raise ValueError(f"expected its split to be train, val or test, got {json.dumps(raw)[:60]}")
    return _SPLITS[raw.strip().casefold()]
