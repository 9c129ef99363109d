"""Task `questions`: the user's own questions from a JSONL file.

Each line is an object with `question` and `answer`, and optionally `steps` (strings, or objects with `text` and
`value`) and `values` (one for each step). An answer in GSM8K's form, reasoning lines and then `#### 42`, is split: the
lines become steps, and the results of calculator annotations such as `<<48/2=24>>` their values.
"""

from __future__ import annotations

import functools
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from interp.errors import StoreError, UsageError, checked_count
from interp.problems.answers import answer_is_right, final_answer, last_number, number_of, numbers_in, plain
from interp.problems.base import (
    Problem,
    Split,
    Step,
    Task,
    Verdict,
    checked_seed,
    checked_split,
    split_of,
    stream_rng,
    structure_hash,
)

_ANNOTATION = re.compile(r"<<([^<>]*)>>")
_MAX_LISTED = 5


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


def read_questions(path: Path | str) -> tuple[list[Problem], list[BrokenLine]]:
    """Read a JSONL file of questions.

    Args:
        path: The file. Empty lines are skipped.

    Returns:
        The problems, and the lines that cannot be used.

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
    problems: list[Problem] = []
    broken: list[BrokenLine] = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            problem = _problem(_parsed(line), str(path), number)
        except ValueError as error:
            broken.append(BrokenLine(number, str(error)))
            continue
        if problem.structure in line_of:
            broken.append(BrokenLine(number, f"the same question as line {line_of[problem.structure]}"))
            continue
        line_of[problem.structure] = number
        problems.append(problem)
    return problems, broken


@functools.lru_cache(maxsize=8)
def _read_once(path: str, modified: int, size: int) -> tuple[list[Problem], list[BrokenLine]]:
    return read_questions(path)


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(line.decode())
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error})") from None
    if not isinstance(raw, dict):
        raise ValueError(f"expected an object, got {type(raw).__name__}")
    for key in ("question", "answer"):
        if key not in raw:
            raise ValueError(f"it has no {key!r}")
    return raw


def _problem(raw: dict[str, Any], path: str, number: int) -> Problem:
    question, written = _checked_text(raw["question"], "question"), _checked_text(raw["answer"], "answer")
    rationale, marker, after = written.rpartition("####")
    answer = _clean_number(after if marker else written)
    if not answer:
        raise ValueError("nothing follows the '####' of its answer")
    structure = structure_hash("questions", plain(question))
    return Problem(
        id=structure_hash(question),
        task=f"questions:path={path}",
        question=question,
        answer=answer,
        steps=_steps(raw, rationale if marker else ""),
        structure=structure,
        split=split_of(structure),
        readable=question,
        meta={"line": number},
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


def _clean_number(answer: str) -> str:
    """Return a number without commas, currency and full stop; other answers as they are."""
    bare = answer.strip()
    if number_of(bare) is None:
        return bare
    return bare.rstrip(".").replace(",", "").replace("$", "").strip()


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
        return Step(text, _clean_number(_checked_text(value, f"value {number}")))
    if annotations:
        return Step(text or annotations[-1], _clean_number(annotations[-1].rpartition("=")[2]))
    return Step(text, last_number(text) or text)


class QuestionsTask(Task):
    """Task `questions`: the questions of a file, split by a hash of the question's words.

    Where the file does not exist, traces of its questions can still be checked.

    Args:
        path: The JSONL file.

    Attributes:
        problems: The problems of the file.
        broken: The lines that cannot be used.
    """

    name = "questions"

    def __init__(self, path: str | Path) -> None:
        if "," in str(path):
            raise UsageError(f"expected a path without a comma for a question file, got {str(path)!r}; rename it.")
        self.path = str(path)
        self.spec = f"questions:path={self.path}"
        self.problems: list[Problem] = []
        self.broken: list[BrokenLine] = []
        if Path(self.path).is_file():
            stat = Path(self.path).stat()
            self.problems, self.broken = _read_once(self.path, stat.st_mtime_ns, stat.st_size)
        self.min_steps = min((problem.n_steps for problem in self.problems), default=0)
        self.max_steps = max((problem.n_steps for problem in self.problems), default=0)
        self.values = tuple(dict.fromkeys(step.value for problem in self.problems for step in problem.steps))

    def vocabulary(self) -> list[str]:
        """Return every word of the file's questions, steps and answers."""
        texts = (t for p in self._usable() for t in (p.question, *(step.text for step in p.steps), p.answer))
        return list(dict.fromkeys(word for text in texts for word in text.split()))

    def generate(self, n: int, seed: int, split: Split = "test") -> list[Problem]:
        """Return `n` problems of one split in an order that follows from the seed; a larger `n` extends the list.

        Warns when lines of the file were left out.

        Raises:
            UsageError: The split has fewer than `n` problems.
        """
        checked_count("n", n)
        rng = stream_rng(self.spec, checked_split(split), checked_seed(seed))
        problems = self._of_split(split)
        if self.broken:
            more = f", and {len(self.broken) - _MAX_LISTED} more" if len(self.broken) > _MAX_LISTED else ""
            listed = "; ".join(map(str, self.broken[:_MAX_LISTED]))
            warnings.warn(f"{len(self.broken)} lines of {self.path} were left out: {listed}{more}.", stacklevel=2)
        if len(problems) < n:
            raise UsageError(
                f"expected {n} problems in the {split} split of {self.path}, got {len(problems)} "
                f"({len(self.problems)} in all splits); ask for fewer."
            )
        return rng.sample(problems, len(problems))[:n]

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """Yield the problems of one split again and again, each time in another order."""
        problems = [problem for problem in self._of_split(split) if n_steps is None or problem.n_steps == n_steps]
        if not problems:
            of_length = "" if n_steps is None else f" with {n_steps} steps"
            raise UsageError(f"expected problems{of_length} in the {split} split of {self.path}, got none.")
        return _endless(problems, rng)

    def _of_split(self, split: Split) -> list[Problem]:
        return [problem for problem in self._usable() if problem.split == split]

    def _usable(self) -> list[Problem]:
        """Return the problems; raise an error that says why there are none."""
        if not self.problems:
            read_questions(self.path)
            why = f": {self.broken[0]}" if self.broken else ""
            raise UsageError(f"expected questions in {self.path}, got no line that can be used{why}.")
        return self.problems

    def verify(self, problem: Problem, text: str) -> Verdict:
        r"""Check the final answer of a free text.

        The answer follows `####`, `\boxed` or "answer is", else it is the last number or the last words. A step is
        True where its value is written after those of the steps before it, and None otherwise. No step is called
        wrong, because free text can leave steps out.
        """
        steps = _values_in_order(problem, _reasoning(text, problem.answer))
        return Verdict(answer_is_right(text, problem.answer), tuple(steps), None)

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        """Raise `UsageError`: no answer follows from another value of a step."""
        raise UsageError(
            f"expected a task with counterfactual answers, got the questions of {self.path}; use a generated task, "
            "such as chain."
        )


def _reasoning(text: str, gold: str) -> str:
    """Return the part of a text before its final answer."""
    answer = final_answer(text)
    if answer.marked or number_of(gold) is not None:
        return answer.before
    words = text.split()
    return " ".join(words[: max(0, len(words) - len(gold.split()))])


def _values_in_order(problem: Problem, text: str) -> Iterator[bool | None]:
    """Yield for each step True where its value follows those of the steps before it, else None."""
    numbers, words = numbers_in(text), plain(text)
    for step in problem.steps:
        number = number_of(step.value)
        if number is not None:
            index = numbers.index(number) if number in numbers else -1
            numbers = numbers if index < 0 else numbers[index + 1 :]
        else:
            index = f" {words} ".find(f" {plain(step.value)} ")
            words = words if index < 0 else words[index + len(plain(step.value)) :].strip()
        yield None if index < 0 else True


def _endless(problems: list[Problem], rng: Random) -> Iterator[Problem]:
    while True:
        yield from rng.sample(problems, len(problems))
