r"""Numbers in a text, as people and models write them: `1,234.5`, `$3`, `-2`, `3/4`, `\frac{3}{4}`, `1e3`."""

from __future__ import annotations

import re
from fractions import Fraction

#: A number without sign, as a regular expression.
NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_NUMBER = re.compile(
    rf"""(?<![\w.])(?P<sign>-|−|\+)?\$?\s?
        (?P<digits>{NUMBER})
        (?P<exponent>[eE][+-]?[0-9]{{1,3}}(?![0-9]))?
        (?:\s?/\s?(?P<below>[0-9]+)(?![0-9.]*[0-9]))?""",
    re.VERBOSE,
)
_FRACTION = re.compile(r"\\[dt]?frac\{\s*(-?[0-9]+)\s*\}\{\s*([0-9]+)\s*\}")
_AROUND = " \t\r\n,;:!?\"'`*$()[]{}"
_PLAIN = re.compile(r"-?[0-9]{1,15}")


def numbers_in(text: str) -> list[Fraction]:
    r"""Return every number of a text in reading order: `1,234.5`, `$3`, `-2`, `3/4`, `\frac{3}{4}`, `1e3`."""
    return [value for _, value in _numbers(text)]


def number_of(text: str) -> Fraction | None:
    """Return the number that a text writes, without currency and percent; None where it is not just one number."""
    if _PLAIN.fullmatch(text):
        return Fraction(int(text))
    cleaned = text.strip(_AROUND + "%").rstrip(_AROUND + ".%")
    numbers = _numbers(cleaned)
    return numbers[0][1] if len(numbers) == 1 and numbers[0][0].strip() == _latex_free(cleaned).strip() else None


def last_number(text: str) -> str | None:
    """Return the last number of a text as it is written, without commas and currency; None where there is none."""
    numbers = _numbers(text)
    return numbers[-1][0].replace(",", "").replace("$", "").replace(" ", "") if numbers else None


def number_spans(text: str) -> list[tuple[int, int]]:
    """Return where each number of a text begins and ends."""
    return [match.span() for match in _NUMBER.finditer(text)]


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
