r"""The final answer of a free text, and whether it is right.

Models end their reasoning in many ways: `#### 42` (GSM8K), `\boxed{42}`, "the answer is 42.", or a bare number. The
answer follows the last such marker; without one it is the last number, or the last words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from interp.runtime.renames import warn_old_name

_NUMBER = re.compile(
    r"""(?<![\w.])(?P<sign>-|−|\+)?\$?\s?
        (?P<digits>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)
        (?P<exponent>[eE][+-]?[0-9]{1,3}(?![0-9]))?
        (?:\s?/\s?(?P<below>[0-9]+)(?![0-9.]*[0-9]))?""",
    re.VERBOSE,
)
_FRACTION = re.compile(r"\\[dt]?frac\{\s*(-?[0-9]+)\s*\}\{\s*([0-9]+)\s*\}")
_MARKERS = re.compile(r"####|\\boxed\s*\{|\banswer\s*(?:is|:|=)\s*:?", re.IGNORECASE)
_PUNCTUATION = " \t\r\n.,;:!?\"'`*$()[]{}"


@dataclass(frozen=True)
class FinalAnswer:
    """The final answer of a text.

    Attributes:
        text: The answer.
        before: The text before it.
        marked: Whether a marker announces it.
    """

    text: str
    before: str
    marked: bool


def numbers_in(text: str) -> list[Fraction]:
    r"""Return every number of a text in reading order: `1,234.5`, `$3`, `-2`, `3/4`, `\frac{3}{4}`, `1e3`."""
    return [value for _, value in _numbers(text)]


def number_of(text: str) -> Fraction | None:
    """Return the number that a text writes, without currency and percent; None where it is not just one number."""
    cleaned = text.strip(_PUNCTUATION + "%")
    numbers = _numbers(cleaned)
    return numbers[0][1] if len(numbers) == 1 and numbers[0][0].strip() == _latex_free(cleaned).strip() else None


def last_number(text: str) -> str | None:
    """Return the last number of a text as it is written, without commas and currency; None where there is none."""
    numbers = _numbers(text)
    return numbers[-1][0].replace(",", "").replace("$", "").replace(" ", "") if numbers else None


def final_answer(text: str) -> FinalAnswer:
    """Return the final answer of a free text: after the last marker, else the last number, else the last line."""
    text = _latex_free(text).rstrip()
    markers = list(_MARKERS.finditer(text))
    if markers:
        last = markers[-1]
        after = text[last.end() :]
        answer = _braced(after) if last.group().endswith("{") else _first_sentence(after)
        return FinalAnswer(answer.rpartition("=")[2].strip(_PUNCTUATION), text[: last.start()], True)
    matches = list(_NUMBER.finditer(text))
    if matches:
        return FinalAnswer(matches[-1].group().strip(), text[: matches[-1].start()], False)
    before, _, line = text.rpartition("\n")
    return FinalAnswer(line.strip(), before, False)


def answers(text: str, gold: str) -> bool:
    """Return `answer_is_right(text, gold)`: the old name, which works until version 0.3."""
    warn_old_name("interp.problems.answers.answers", "answer_is_right")
    return answer_is_right(text, gold)


def answer_is_right(text: str, gold: str) -> bool:
    """Return whether a free text's final answer is `gold`.

    Numbers are compared where `gold` is one. Otherwise words are compared, without case and outer punctuation; without
    a marker the text's last words count.
    """
    answer = final_answer(text)
    gold_number = number_of(gold)
    if gold_number is not None:
        numbers = numbers_in(answer.text)
        return bool(numbers) and numbers[0] == gold_number
    gold_words = plain(gold).split()
    if answer.marked:
        return plain(answer.text).split() == gold_words
    return bool(gold_words) and plain(text).split()[-len(gold_words) :] == gold_words


def plain(text: str) -> str:
    """Return the words of a text in lower case without punctuation around them."""
    return " ".join(filter(None, (word.strip(_PUNCTUATION).casefold() for word in text.split())))


def _numbers(text: str) -> list[tuple[str, Fraction]]:
    """Return each number as it is written, and its value."""
    numbers = []
    for match in _NUMBER.finditer(_latex_free(text)):
        digits = match["digits"].replace(",", "") + (match["exponent"] or "")
        try:
            value = Fraction(digits) / int(match["below"] or 1)
        except (ValueError, ZeroDivisionError):
            continue
        numbers.append((match.group(), -value if match["sign"] in ("-", "−") else value))
    return numbers


def _latex_free(text: str) -> str:
    return _FRACTION.sub(r"\1/\2", text)


def _braced(text: str) -> str:
    """Return the text up to the brace that closes an already open one."""
    depth = 1
    for k, letter in enumerate(text):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if depth == 0:
            return text[:k]
    return text


def _first_sentence(text: str) -> str:
    """Return the first line with content, up to its first full stop."""
    first_line = next((line for line in text.splitlines() if line.strip()), "")
    return re.split(r"\.(?=\s|$)", first_line.strip(), maxsplit=1)[0]
