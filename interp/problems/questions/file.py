"""The file of a user's own questions: what its lines may hold, and how they become problems.

Each line is a JSON object with `question` and `answer`. Optional are `steps` (texts, or objects with `text` and
`value`), `values` (one for each step), `counterfactuals`, `donors`, `rewrites`, `secrets`, `synonyms` and `split`. Every
other field is a label: see `interp.problems.questions.labels`. An answer in GSM8K's form, reasoning lines and then
`#### 42`, is split: the lines become steps, and the results of calculator annotations such as `<<48/2=24>>` their values.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from interp.errors import StoreError
from interp.problems.base import Problem
from interp.problems.questions.labels import labelled
from interp.problems.questions.line import problem_of
from interp.problems.questions.related import with_related
from interp.runtime.written import kind_in_words


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
        other = [
            v
            for problem in self.problems
            for answers in problem.meta.get("counterfactuals", {}).values()
            for v in answers
        ]
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
    wanted = f'expected a JSONL file at {path}, one {{"question": ..., "answer": ...}} a line'
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        reason = "none" if isinstance(error, FileNotFoundError) else f"an error: {error.strerror}"
        raise StoreError(f"{wanted}, got {reason}; check the path.") from None
    if kind := kind_in_words(Path(path)):
        raise StoreError(f"{wanted}, got {kind}; write its rows as lines of JSON.")
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
    problems, related_notes = with_related(problems, lines)
    problems, fields = labelled(problems, lines)
    return QuestionFile(problems, broken, [*split_notes, *related_notes], fields)


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
        raise ValueError("it is not UTF-8; save the file as UTF-8") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error})") from None
    if not isinstance(raw, dict):
        raise ValueError(f"expected an object, got {type(raw).__name__}")
    return raw


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
