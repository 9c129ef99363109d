"""Units of a text, the words that steps are compared by: numbers, words, signs, and letters of scripts without spaces."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

# Thai to Myanmar, Khmer, kana, Han: scripts that write no spaces between words, so that each letter is a unit.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNIT = re.compile(
    rf"\d{{1,3}}(?:,\d{{3}})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|[{_UNSPACED}]|(?:(?![{_UNSPACED}])[^\W\d_])+|\S"
)


class Unit(NamedTuple):
    """One unit of a text.

    Attributes:
        key: What it is compared by: the value of a number, a word without case, or a sign.
        start: Offset of its first character.
        end: Offset after its last character.
    """

    key: Fraction | str
    start: int
    end: int

    @property
    def is_word(self) -> bool:
        """Whether it is a number or a word, not a sign."""
        return isinstance(self.key, Fraction) or self.key[:1].isalnum()


def units_of(text: str) -> list[Unit]:
    """Return the units of a text in order.

    Letters and digits that touch are two units, so that the value of `b8;` is found.
    """
    return [Unit(_key(match.group()), match.start(), match.end()) for match in _UNIT.finditer(text)]


def occurrences(units: Sequence[Unit], wanted: Sequence[Unit]) -> list[tuple[int, int]]:
    """Return the first and the last index of each run of `units` with the keys of `wanted`; none where it is empty."""
    keys, n = [unit.key for unit in wanted], len(wanted)
    if not n:
        return []
    return [(k, k + n - 1) for k in range(len(units) - n + 1) if [unit.key for unit in units[k : k + n]] == keys]


def _key(unit: str) -> Fraction | str:
    if unit[0].isdigit():
        try:
            return Fraction(unit.replace(",", ""))
        except ValueError:  # a digit such as ², which no number is written with
            return unit
    return "-" if unit == "−" else unicodedata.normalize("NFKC", unit).casefold()
