"""The file of a user's own questions: what its lines may hold, and how they become problems.

Each line is a JSON object with `question` and `answer`. Optional are `steps` (texts, or objects with `text` and
`value`), `values` (one for each step), `counterfactuals`, `donors`, `secrets`, `synonyms` and `split`. Every other field
is a label: see `interp.problems.question_labels`. An answer in GSM8K's form, reasoning lines and then `#### 42`, is
split: the lines become steps, and the results of calculator annotations such as `<<48/2=24>>` their values.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from interp.errors import StoreError
from interp.problems.answers import last_number, number_of, plain
from interp.problems.base import Problem, Step, split_of, structure_hash
from interp.problems.question_labels import labelled

_ANNOTATION = re.compile(r"<<([^<>]*)>>")
# Names of the splits in common data sets.
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}


@dataclass(frozen=True)
class BrokenLine:
    """A line of a question file that cannot be used.

    Attributes:
        line: Its number, from 1.
        why: The reason.
    """

    line: int
    why: str

    def __str__(self) -> str:
        """Return "line 3: it has no 'answer'"."""
        return f"line {self.line}: {self.why}"


@dataclass(frozen=True)
class QuestionFile:
    """What a file of questions holds.

    Attributes:
        problems: One problem for each line that can be used, in order.
        broken: The lines that cannot be used.
        notes: What was not taken as the file says it, and what to do about it.
        fields: What became of each field that has no meaning of its own: "label of each trace", "label of each step",
            or why it is kept without being a label.
    """

    problems: list[Problem]
    broken: list[BrokenLine]
    notes: list[str]
    fields: dict[str, str]

    @functools.cached_property
    def step_range(self) -> tuple[int, int]:
        """The fewest and the most steps of a problem; zeros where there is none."""
        lengths = {problem.n_steps for problem in self.problems} or {0}
        return min(lengths), max(lengths)

    @functools.cached_property
    def values(self) -> tuple[str, ...]:
        """Every value of a step, gold or of a counterfactual."""
        gold = [step.value for problem in self.problems for step in problem.steps]
        other = [v for problem in self.problems for answers in _counterfactuals_of(problem).values() for v in answers]
        return tuple(dict.fromkeys([*gold, *other]))

    @functools.cached_property
    def synonyms(self) -> dict[str, tuple[str, ...]]:
        """The words of the same meaning for each word that has some; sets that share a word are one set."""
        sets: list[list[str]] = []
        for words in dict.fromkeys(words for p in self.problems for words in map(tuple, p.meta.get("synonyms", ()))):
            shared = [other for other in sets if set(other) & set(words)]
            sets = [other for other in sets if other not in shared]
            sets.append(list(dict.fromkeys(word for other in [*shared, words] for word in other)))
        return {word: tuple(words) for words in sets for word in words}


def read_question_file(path: Path | str) -> QuestionFile:
    """Read a JSONL file of questions.

    Args:
        path: The file. Empty lines are skipped. The entries of one JSON array count as lines.

    Returns:
        The problems, the lines that cannot be used, notes, and what became of each field.

    Raises:
        StoreError: The file cannot be read.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise StoreError(
            f'expected a JSONL file at {path}, one {{"question": ..., "answer": ...}} a line, got an error: '
            f"{error.strerror}."
        ) from None
    lines: list[tuple[int, dict[str, Any]]] = []
    problems: list[Problem] = []
    broken: list[BrokenLine] = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(_lines(raw.removeprefix(b"\xef\xbb\xbf")), 1):
        if not line.strip():
            continue
        try:
            parsed = _parsed(line)
            problem = problem_of(parsed, f"questions:path={path}", number)
        except ValueError as error:
            broken.append(BrokenLine(number, str(error)))
            continue
        text = " ".join(problem.question.split())
        if text in line_of:
            broken.append(BrokenLine(number, f"the same question as line {line_of[text]}"))
            continue
        line_of[text] = number
        lines.append((number, parsed))
        problems.append(problem)
    problems, split_notes = _structures_in_one_split(problems)
    problems, donor_notes = _with_donors(problems, lines)
    problems, fields = labelled(problems, lines)
    return QuestionFile(problems, broken, [*split_notes, *donor_notes], fields)


def read_questions(path: Path | str) -> tuple[list[Problem], list[BrokenLine]]:
    """Return the problems of a JSONL file, and its lines that cannot be used; see `read_question_file`.

    Args:
        path: The file. Empty lines are skipped.

    Raises:
        StoreError: The file cannot be read.
    """
    file = read_question_file(path)
    return file.problems, file.broken


def cached_question_file(path: Path | str) -> QuestionFile:
    """Return `read_question_file(path)`; a file that has not changed is read once."""
    stat = Path(path).stat()
    return _read_once(str(path), stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=8)
def _read_once(path: str, modified: int, size: int) -> QuestionFile:
    return read_question_file(path)


def clean_number(answer: str) -> str:
    """Return a number without commas, currency and full stop; other answers as they are."""
    bare = answer.strip()
    if number_of(bare) is None:
        return bare
    return bare.rstrip(".").replace(",", "").replace("$", "").strip()


def _lines(raw: bytes) -> list[bytes]:
    """Return the lines of a file, or the entries of the one JSON array that it holds."""
    if raw.lstrip().startswith(b"["):
        try:
            entries = json.loads(raw.decode())
            return [json.dumps(entry).encode() for entry in entries]
        except (ValueError, RecursionError):  # its lines are named one by one
            pass
    return raw.split(b"\n")


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(line.decode())
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error})") from None
    if not isinstance(raw, dict):
        raise ValueError(f"expected an object, got {type(raw).__name__}")
    return raw


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
        raise ValueError(f"it has {len(steps)} steps but {len(values)} values")
    return tuple(_step(step, k, None if values is None else values[k - 1]) for k, step in enumerate(steps, 1))


def _step(raw: Any, number: int, value: Any) -> Step:
    if isinstance(raw, dict):
        if "text" not in raw:
            raise ValueError(f"its step {number} has no 'text'")
        value = raw.get("value", value)
        raw = raw["text"]
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
            raise ValueError(f"it has {len(steps)} steps but counterfactuals for {len(raw)}")
        raw = {str(k): entry for k, entry in enumerate(raw, 1) if entry is not None}
    if not isinstance(raw, dict):
        raise ValueError(
            f'expected its counterfactuals to be like {{"1": {{"VALUE": "ANSWER"}}}}, got {json.dumps(raw)[:60]}'
        )
    checked: dict[str, dict[str, str]] = {}
    for step, answers in raw.items():
        if not step.isascii() or not step.isdigit() or not 1 <= int(step) <= len(steps):
            raise ValueError(
                f"its counterfactuals name step {step[:20]!r}, but it has {len(steps)} steps; "
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


def _counterfactuals_of(problem: Problem) -> dict[str, dict[str, str]]:
    return problem.meta.get("counterfactuals", {})


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


def _structures_in_one_split(problems: Sequence[Problem]) -> tuple[list[Problem], list[str]]:
    """Put problems of one structure into the split of the first, and say which ones the file puts elsewhere."""
    first: dict[str, Problem] = {}
    together, notes = [], []
    for problem in problems:
        split = first.setdefault(problem.structure, problem).split
        if problem.split != split:
            notes.append(
                f"line {problem.meta['line']} is taken into the {split} split and not {problem.split}: line "
                f"{first[problem.structure].meta['line']} asks almost the same; give both one split"
            )
        together.append(problem if problem.split == split else replace(problem, split=split))
    return together, notes


def _with_donors(
    problems: Sequence[Problem], lines: Iterable[tuple[int, dict[str, Any]]]
) -> tuple[list[Problem], list[str]]:
    """Add each line's donors: other lines, named by number, `id` or question, or problems written out."""
    by_name: dict[Any, Problem] = {}
    for problem, (number, raw) in zip(problems, lines, strict=True):
        names = [number, " ".join(problem.question.split()), raw.get("id")]
        for name in names:
            if isinstance(name, str | int) and not isinstance(name, bool):
                by_name.setdefault(name, problem)
    given, notes = [], []
    for problem, (number, raw) in zip(problems, lines, strict=True):
        donors = raw.get("donors")
        if donors is None:
            given.append(problem)
            continue
        records = []
        for donor in donors if isinstance(donors, list) else [donors]:
            try:
                records.append(_donor(donor, by_name, problem))
            except ValueError as error:
                notes.append(f"line {number}: {error}")
        given.append(replace(problem, meta={**problem.meta, "donors": records}))
    return given, notes


def _donor(raw: Any, by_name: dict[Any, Problem], recipient: Problem) -> dict[str, Any]:
    """Return question, answer and steps of a donor."""
    if isinstance(raw, dict):
        donor = problem_of(raw, recipient.task, recipient.meta["line"])
    else:
        name = " ".join(raw.split()) if isinstance(raw, str) else raw
        if isinstance(name, bool) or not isinstance(name, str | int) or name not in by_name:
            raise ValueError(
                f"its donor {json.dumps(raw)[:60]} is no line that can be used; name a line's number, id or question"
            )
        donor = by_name[name]
    if donor.n_steps != recipient.n_steps:
        raise ValueError(f"its donor {donor.question[:40]!r} has {donor.n_steps} steps, and it has {recipient.n_steps}")
    steps = [{"text": step.text, "value": step.value} for step in donor.steps]
    about = {"structure": donor.structure, "split": donor.split}
    return {"question": donor.question, "answer": donor.answer, "steps": steps, **about}
