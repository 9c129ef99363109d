"""Task `questions`: the user's own questions from a JSONL file.

Each line is an object with `question` and `answer`, and optionally `steps` (strings, or objects with `text`
and `value`) and `values` (one for each step). An answer in GSM8K's form, reasoning lines and then
`#### 42`, is taken apart: the lines become steps, and the results of calculator annotations such as
`<<48/2=24>>` their values.
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
from interp.problems.answers import answers, final_answer, last_number, number_of, numbers_in, plain
from interp.problems.base import (
    Problem,
    Split,
    Step,
    Verdict,
    WithoutFacts,
    checked_seed,
    checked_split,
    split_of,
    stream_rng,
    structure_hash,
)

_ANNOTATION = re.compile(r"<<([^<>]*)>>")
_SHOWN = 5


@dataclass(frozen=True)
class BrokenLine:
    """A line of a question file that could not be used, counted from 1, and why."""

    line: int
    why: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.why}"


def read_questions(path: Path | str) -> tuple[list[Problem], list[BrokenLine]]:
    """The problems of a JSONL file, and the lines that are none. Empty lines are passed over.

    Raises `StoreError` when there is no such file; whether broken lines matter is for the caller to say.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise StoreError(
            f"no questions could be read from {path} ({error.strerror}). Expected a JSONL file, "
            'one {"question": ..., "answer": ...} to a line.'
        ) from None
    problems: list[Problem] = []
    broken: list[BrokenLine] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            problem = _problem(_parsed(line), str(path), number)
        except ValueError as error:
            broken.append(BrokenLine(number, str(error)))
            continue
        if problem.structure in seen:
            broken.append(BrokenLine(number, f"the same question as line {seen[problem.structure]}"))
            continue
        seen[problem.structure] = number
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
        raise ValueError(f"an object was expected, but a {type(raw).__name__} came")
    for key in ("question", "answer"):
        if key not in raw:
            raise ValueError(f"it has no {key!r}")
    return raw


def _problem(raw: dict[str, Any], path: str, number: int) -> Problem:
    question, given = _word(raw["question"], "question"), _word(raw["answer"], "answer")
    rationale, marker, after = given.rpartition("####")
    answer = _cleaned(after if marker else given)
    if not answer:
        raise ValueError("nothing follows the '####' of its answer")
    steps = _steps(raw, rationale if marker else "")
    structure = structure_hash("questions", plain(question))
    return Problem(
        id=structure_hash(question),
        task=f"questions:path={path}",
        question=question,
        answer=answer,
        steps=steps,
        structure=structure,
        split=split_of(structure),
        readable=question,
        meta={"line": number},
    )


def _word(given: Any, what: str) -> str:
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise ValueError(f"its {what} must be a text or a number, but {json.dumps(given)[:60]} came")
    if not str(given).strip():
        raise ValueError(f"its {what} is empty")
    if not str(given).isascii() and str(given) != str(given).encode(errors="replace").decode():
        raise ValueError(f"its {what} holds half of a surrogate pair")
    return str(given).strip()


def _cleaned(answer: str) -> str:
    """An answer without the commas, currency and full stop around a number; other answers as they are."""
    bare = answer.strip()
    if number_of(bare) is None:
        return bare
    return bare.rstrip(".").replace(",", "").replace("$", "").strip()


def _steps(raw: dict[str, Any], rationale: str) -> tuple[Step, ...]:
    """The steps that a line gives, else those of its answer's rationale."""
    given, values = raw.get("steps"), raw.get("values")
    for key, each in (("steps", given), ("values", values)):
        if each is not None and not isinstance(each, list):
            raise ValueError(f"its {key} must be a list, but {json.dumps(each)[:60]} came")
    if given is None and rationale:
        given = [line for line in rationale.splitlines() if line.strip()]
    if given is None:
        given = values or []
    if values is not None and len(values) != len(given):
        raise ValueError(f"it has {len(given)} steps but {len(values)} values")
    return tuple(_step(each, k, None if values is None else values[k - 1]) for k, each in enumerate(given, 1))


def _step(given: Any, number: int, value: Any) -> Step:
    if isinstance(given, dict):
        if "text" not in given:
            raise ValueError(f"its step {number} has no 'text'")
        value = given.get("value", value)
        given = given["text"]
    text = _word(given, f"step {number}")
    annotated = _ANNOTATION.findall(text)
    text = " ".join(_ANNOTATION.sub("", text).split())
    if value is not None:
        return Step(text, _cleaned(_word(value, f"value {number}")))
    if annotated:
        return Step(text or annotated[-1], _cleaned(annotated[-1].rpartition("=")[2]))
    return Step(text, last_number(text) or text)


class QuestionsTask(WithoutFacts):
    """`questions:path=FILE.jsonl`: the questions of a file, split by a hash of the question's words.

    `broken` lists the lines that could not be used; the others go on. The file is read when a problem is
    first asked for, so traces of questions can be checked where the file is not.
    """

    name = "questions"

    def __init__(self, path: str | Path) -> None:
        if "," in str(path):
            raise UsageError(f"the path of a question file may not contain a comma, but {str(path)!r} came; rename it.")
        self.path = str(path)
        self.spec = f"questions:path={self.path}"
        self.problems: list[Problem] = []
        self.broken: list[BrokenLine] = []
        if Path(self.path).is_file():
            found = Path(self.path).stat()
            self.problems, self.broken = _read_once(self.path, found.st_mtime_ns, found.st_size)
        self.min_steps = min((problem.n_steps for problem in self.problems), default=0)
        self.max_steps = max((problem.n_steps for problem in self.problems), default=0)
        self.values = tuple(dict.fromkeys(step.value for problem in self.problems for step in problem.steps))

    def vocabulary(self) -> list[str]:
        texts = (t for p in self._usable() for t in (p.question, *(step.text for step in p.steps), p.answer))
        return list(dict.fromkeys(word for text in texts for word in text.split()))

    def generate(self, n: int, seed: int, split: Split = "test") -> list[Problem]:
        """`n` problems of one split in an order that follows from the seed; a larger `n` extends the list.

        Warns when lines were left out, and raises `UsageError` when the split has fewer than `n` problems.
        """
        checked_count("n", n)
        rng = stream_rng(self.spec, checked_split(split), checked_seed(seed))
        here = self._of(split)
        if self.broken:
            more = f", and {len(self.broken) - _SHOWN} more" if len(self.broken) > _SHOWN else ""
            said = "; ".join(map(str, self.broken[:_SHOWN]))
            warnings.warn(f"{len(self.broken)} lines of {self.path} were left out: {said}{more}.", stacklevel=2)
        if len(here) < n:
            raise UsageError(
                f"{n} problems were asked of {self.path} ({split} split), but it has {len(here)} there "
                f"and {len(self.problems)} in all. Ask for fewer."
            )
        return rng.sample(here, len(here))[:n]

    def draws(self, rng: Random, split: Split, n_steps: int | None = None) -> Iterator[Problem]:
        """The problems of one split again and again, each time in another order."""
        here = [problem for problem in self._of(split) if n_steps is None or problem.n_steps == n_steps]
        if not here:
            asked = "" if n_steps is None else f" with {n_steps} steps"
            raise UsageError(f"{self.path} has no problem{asked} in its {split} split.")
        return _endless(here, rng)

    def _of(self, split: Split) -> list[Problem]:
        return [problem for problem in self._usable() if problem.split == split]

    def _usable(self) -> list[Problem]:
        """The problems, or the reason why there are none."""
        if not self.problems:
            read_questions(self.path)
            why = f"; {self.broken[0]}" if self.broken else ""
            raise UsageError(f"{self.path} has no question that can be used{why}.")
        return self.problems

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Whether the final answer of a free text is right.

        The answer follows `####`, `\\boxed` or "answer is", else it is the last number (or the last words).
        A step is True where its value is written after those of the steps before it, and None otherwise:
        free text can leave a step unsaid, so nothing here is ever called wrong.
        """
        said = _said_in_order(problem, _reasoning(text, problem.answer))
        return Verdict(answers(text, problem.answer), tuple(said), None)

    def counterfactual(self, problem: Problem, step: int, value: str) -> str:
        raise UsageError(
            f"the questions of {self.path} have no rule from which the answer would follow if step {step} had "
            f"reached {value!r}. Use a task with an oracle, such as chain, for counterfactual answers."
        )


def _reasoning(text: str, gold: str) -> str:
    """The part of a text before its final answer."""
    found = final_answer(text)
    if found.marked or number_of(gold) is not None:
        return found.before
    words = text.split()
    return " ".join(words[: max(0, len(words) - len(gold.split()))])


def _said_in_order(problem: Problem, text: str) -> Iterator[bool | None]:
    written, words = numbers_in(text), plain(text)
    for step in problem.steps:
        number = number_of(step.value)
        if number is not None:
            found = written.index(number) if number in written else None
            written = written if found is None else written[found + 1 :]
        else:
            place = f" {words} ".find(f" {plain(step.value)} ")
            found = None if place < 0 else place
            words = words if found is None else words[place + len(plain(step.value)) :].strip()
        yield None if found is None else True


def _endless(problems: list[Problem], rng: Random) -> Iterator[Problem]:
    while True:
        yield from rng.sample(problems, len(problems))
