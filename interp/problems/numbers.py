r"""Numbers in a text, as people and models write them: `1,234.5`, `$3`, `-2`, `3/4`, `\frac{3}{4}`, `1e3`."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

#: A number without sign, as a regular expression.
NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_NUMBER = re.compile(
    rf"""(?<![\w.])(?P<sign>-|−|\+)?[$€£¥₹]?\s?
        (?P<digits>{NUMBER})
        (?P<exponent>[eE][+-]?[0-9]{{1,3}}(?![0-9]))?
        (?:\s?/\s?(?P<below>[0-9]+)(?![0-9.]*[0-9]))?""",
    re.VERBOSE,
)
_FRACTION = re.compile(r"\\[dt]?frac\{\s*(-?[0-9]+)\s*\}\{\s*([0-9]+)\s*\}")
_AROUND = " \t\r\n,;:!?\"'`*$€£¥₹()[]{}"
_VULGAR = "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
_NOT_PART = r"(?![0-9]|[.,/][0-9])"  # the number ends here
# Digits in groups, as other languages write them: 1 234 567 (a single group only with a space that does not break a
# line), 1.234.567 and 1.234,56, 12,34,567, 1'234, 1_000.
_GROUPED = re.compile(
    rf"""(?<![\w.,/^])(?:
        [0-9]{{1,3}}(?:[\u00a0\u202f\u2009'’_][0-9]{{3}})+{_NOT_PART[:-1]}|[_'’][0-9])(?P<point>[.,][0-9]+(?![.,]?[0-9]))?
        |[0-9]{{1,3}}(?:[ ][0-9]{{3}}){{2,}}(?P<spaced>[.,][0-9]+)?(?![ ]?[0-9]|[.,/][0-9])
        |[0-9]{{1,3}}(?:\.[0-9]{{3}}){{2,}}(?:,(?P<comma>[0-9]+))?{_NOT_PART}
        |[0-9]{{1,3}}\.[0-9]{{3}},(?P<after>[0-9]+){_NOT_PART}
        |[0-9]{{1,2}}(?:,[0-9]{{2}})+,[0-9]{{3}}{_NOT_PART})""",
    re.VERBOSE,
)
_MIXED = re.compile(r"(?<![\w.,/^{=])([0-9]+)\s+([0-9]+)\s?/\s?([0-9]+)(?![0-9]|[.,/][0-9])")
_POWER_OF_TEN = re.compile(
    r"(?<=[0-9])\s*(?:\\times|\\cdot|[×·*x])\s*10\s*\^\s*\{?\s*([-−+]?[0-9]{1,3})(?![0-9]|\s*[\^!])\s*\}?"
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_REPEATING = re.compile(r"(?<![\w.])([0-9]*)\.([0-9]*)\\overline\s*\{([0-9]+)\}")
_DELETED = str.maketrans("", "", ",$€£¥₹ ")
_PLAIN = re.compile(r"-?[0-9]{1,15}")


def with_plain_numbers(text: str) -> str:
    r"""Return a text with its numbers as this module reads them: digits, `,` between thousands, `.`, `/` and `e`.

    Other scripts' digits, other languages' thousands and decimal signs, mixed numbers (`2 1/3`, `2½`), powers of ten
    (`6 \times 10^{23}`) and repeating decimals are rewritten. A single group behind a full stop or a plain space stays
    as it is: `1.234` is a decimal number, and `1 234` may be two numbers.
    """
    if text.isascii() and _PLAIN.fullmatch(text):
        return text
    if not text.isascii():
        text = text.replace("٫", ".").replace("٬", ",")
        text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() and not c.isascii() else c for c in text)
        text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+", lambda match: f"^{{{match.group().translate(_SUPERSCRIPTS)}}}", text)
        text = re.sub(rf"(?<=[0-9])\s*([{_VULGAR}])", r" \1", text)
        text = re.sub(f"[{_VULGAR}]", lambda m: unicodedata.normalize("NFKC", m.group()).replace("⁄", "/"), text)
    text = _GROUPED.sub(_ungrouped, text)
    text = _MIXED.sub(_improper, text)
    text = _POWER_OF_TEN.sub(lambda match: f"e{match[1].replace('−', '-')}", text)
    return _REPEATING.sub(_as_fraction, text)


def _ungrouped(match: re.Match[str]) -> str:
    decimals = match["comma"] or match["after"]
    if decimals is None and (behind := match["point"] or match["spaced"]):
        decimals = behind[1:]
    whole = match.group()
    if decimals is not None:
        whole = whole[: -len(decimals) - 1]
    return re.sub("[^0-9]", "", whole) + ("" if decimals is None else f".{decimals}")


def _improper(match: re.Match[str]) -> str:
    whole, above, below = map(int, match.groups())
    return match.group() if above >= below else f"{whole * below + above}/{below}"


def _as_fraction(match: re.Match[str]) -> str:
    whole, fixed, repeated = match.groups()
    above = int(whole + fixed + repeated) - int(whole + fixed or 0)
    return f"{above}/{'9' * len(repeated)}{'0' * len(fixed)}"


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
    return numbers[-1][0].translate(_DELETED) if numbers else None


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
