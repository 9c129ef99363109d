"""The final answer in a free text, and whether it is the right one.

Models end their reasoning in many ways: `#### 42` (GSM8K), `\\boxed{42}`, "the answer is 42.", or just a
number. What follows the last such marker is the answer; without one it is the last number, or the last words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_NUMBER = re.compile(
    r"""(?<![\w.])(?P<sign>-|−|\+)?\$?\s?
        (?P<digits>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)
        (?P<exponent>[eE][+-]?[0-9]{1,3}(?![0-9]))?
        (?:\s?/\s?(?P<below>[0-9]+)(?![0-9.]*[0-9]))?""",
    re.VERBOSE,
)
_FRACTION = re.compile(r"\\[dt]?frac\{\s*(-?[0-9]+)\s*\}\{\s*([0-9]+)\s*\}")
_MARKERS = re.compile(r"####|\\boxed\s*\{|\banswer\s*(?:is|:|=)\s*:?", re.IGNORECASE)
_AROUND = " \t\r\n.,;:!?\"'`*$()[]{}"


@dataclass(frozen=True)
class Found:
    """A final answer: its text, the text before it, and whether a marker announced it."""

    text: str
    before: str
    marked: bool


def numbers_in(text: str) -> list[Fraction]:
    """Every number of a text in reading order: `1,234.5`, `$3`, `-2`, `3/4`, `\\frac{3}{4}`, `1e3`."""
    return [value for _, value in _numbers(text)]


def number_of(text: str) -> Fraction | None:
    """The number that a text is, units of money and percent aside, or None where it is not just one number."""
    cleaned = text.strip(_AROUND + "%")
    found = _numbers(cleaned)
    return found[0][1] if len(found) == 1 and found[0][0].strip() == _latex_free(cleaned).strip() else None


def last_number(text: str) -> str | None:
    """The last number of a text as it is written there, without commas and currency."""
    found = _numbers(text)
    return found[-1][0].replace(",", "").replace("$", "").replace(" ", "") if found else None


def final_answer(text: str) -> Found:
    """What a free text gives as its answer: after the last marker, else the last number, else the last line."""
    text = _latex_free(text).rstrip()
    markers = list(_MARKERS.finditer(text))
    if markers:
        last = markers[-1]
        after = text[last.end() :]
        said = _braced(after) if last.group().endswith("{") else _sentence(after)
        return Found(said.rpartition("=")[2].strip(_AROUND), text[: last.start()], True)
    matches = list(_NUMBER.finditer(text))
    if matches:
        return Found(matches[-1].group().strip(), text[: matches[-1].start()], False)
    before, _, line = text.rpartition("\n")
    return Found(line.strip(), before, False)


def answers(text: str, gold: str) -> bool:
    """Whether a free text's final answer is `gold`: as numbers where `gold` is one, else as words.

    Words are compared without case and outer punctuation; without a marker the text's last words count.
    """
    found = final_answer(text)
    expected = number_of(gold)
    if expected is not None:
        given = numbers_in(found.text)
        return bool(given) and given[0] == expected
    wanted = plain(gold).split()
    if found.marked:
        return plain(found.text).split() == wanted
    return bool(wanted) and plain(text).split()[-len(wanted) :] == wanted


def plain(text: str) -> str:
    """Words in lower case without punctuation around them."""
    return " ".join(filter(None, (word.strip(_AROUND).casefold() for word in text.split())))


def _numbers(text: str) -> list[tuple[str, Fraction]]:
    found = []
    for match in _NUMBER.finditer(_latex_free(text)):
        digits = match["digits"].replace(",", "") + (match["exponent"] or "")
        try:
            value = Fraction(digits) / int(match["below"] or 1)
        except (ValueError, ZeroDivisionError):
            continue
        found.append((match.group(), -value if match["sign"] in ("-", "−") else value))
    return found


def _latex_free(text: str) -> str:
    return _FRACTION.sub(r"\1/\2", text)


def _braced(text: str) -> str:
    """The text up to the brace that closes the one before it."""
    depth = 1
    for k, letter in enumerate(text):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if depth == 0:
            return text[:k]
    return text


def _sentence(text: str) -> str:
    """The first line that says something, up to its first full stop."""
    line = next((each for each in text.splitlines() if each.strip()), "")
    return re.split(r"\.(?=\s|$)", line.strip(), maxsplit=1)[0]
