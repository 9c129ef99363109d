r"""Whether two answers mean the same: equal texts first, then plain numbers, then math-verify.

math-verify (Hugging Face) parses LaTeX and plain mathematics, and compares values, sets, intervals and equations. Its own
time limits use signals, which work in the main thread alone. So it runs in a thread of its own, which is given up after
it has computed for a few seconds.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import re
import threading
import time
import unicodedata
import warnings
from collections.abc import Callable
from types import ModuleType

from interp.problems.numbers import NUMBER, number_of, with_plain_numbers

_SECONDS = 5.0
_PATIENCE = 12  # seconds of the clock for each second that a comparison may compute
_LONGEST = 300  # characters; longer answers are compared as texts
_WRITTEN = {
    "−": "-", "–": "-", "—": "-", "×": r"\times ", "·": r"\cdot ", "÷": "/", "⁄": "/", "π": r"\pi ", "∞": r"\infty ",
    "±": r"\pm ", "∅": r"\emptyset ",
    "≤": r"\le ", "≥": r"\ge ", "∪": r"\cup ", "∩": r"\cap ", "°": r"^\circ ", "’": "'",
}  # fmt: skip
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|operatorname|mbox|emph)\s*\{([^{}]*)\}")
_MARKUP = re.compile(r"\\(?:left|right|displaystyle|[!,;:()\[\]])|\*\*|__|`|[$€£¥₹]")
_DEGREES = re.compile(
    r"\s*(?:\^\s*\{?\s*\\circ\s*\}?|\bdegrees?)\s*(?:\\text\s*\{\s*)?(C|F|Celsius|Fahrenheit)\b\s*\}?"
)
_EMPTY_SET = re.compile(r"\\varnothing|\\?\{\s*\\?\}")
_OUTWARD = re.compile(r"([\[\]])([^\[\]]+,[^\[\]]+)([\[\]])")  # an interval whose brackets may face outward: ]0, 1[
_CURRENCIES = {
    "$": r"\$|dollars?|usd", "€": r"€|euros?|eur", "£": r"£|pounds?|gbp", "¥": r"¥|yen|jpy|yuan|rmb|cny", "₹": r"₹|rupees?|inr",
    "¢": r"¢|cents?",
}  # fmt: skip
_FUNCTIONS = "sqrt|sin|cos|tan|log|ln|exp|pi|inf|infinity|mod|and|or|in"
_PURE = re.compile(
    rf"""(?: \\[a-zA-Z]+ | (?<![A-Za-z])(?:{_FUNCTIONS}|[A-Za-z]|[a-z]{{2}}(?=\s*[-+=^/*]))(?![A-Za-z])
           | \\(?:begin|end)\{{[a-z]*matrix\}} | & | {NUMBER}(?:[eE][-+]?\d{{1,3}})? | [-+*/^_=<>(),;:|!%\[\]{{}}.\s\\'] )+""",
    re.VERBOSE,
)
_UNIT = re.compile(rf"(?P<number>[-+]?\s?{NUMBER})\s*\\?\s*(?P<unit>[^\W\d][^\d]*(?:\^\{{?\d\}}?)?)")
_UNITS = {
    "percent": "%", "degree": "^\\circ", "centimeter": "cm", "centimetre": "cm", "meter": "m", "metre": "m",
    "kilometer": "km", "kilometre": "km", "millimeter": "mm", "inche": "inch", "hour": "h", "minute": "min", "sec": "s",
    "second": "s", "hr": "h", "min": "min", "foot": "ft", "feet": "ft", "gram": "g", "kilogram": "kg", "liter": "l", "litre": "l", "dollar": "$", "mile": "mi",
}  # fmt: skip
_SHORT_UNITS = "$%mglLshJNWVKCFAdt"  # another single letter is a variable: 3k
_DATE_OR_RANGE = re.compile(r"\d+(?:-\d+)+|\d{1,2}:\d\d(?::\d\d)?(?:\s*[ap]\.?m\.?)?", re.IGNORECASE)
# What takes forever to evaluate: towers of powers, powers and factorials of large numbers.
_HUGE = re.compile(
    r"\^\s*\{?\s*\(?-?[\d,]{5,}|\^[^,=]{1,12}\^[^,=]{1,12}\^|\d{2,}\s*\^\s*\{?[^,=]{0,8}\^|\d{4,}\s*!|!\s*!"
)


def tidied(text: str) -> str:
    r"""Return a text without what does not change its meaning: markup, `\text`, white space, other scripts' digits."""
    text = unicodedata.normalize("NFKC", with_plain_numbers(text))
    for written, plain in _WRITTEN.items():
        text = text.replace(written, plain)
    text = text.replace("{,}", ",").replace(r"\%", "%").replace(r"\$", "").replace("~", " ")
    text = re.sub(r"(?<=\d)\\[,!]\s*(?=\d{3}(?!\d))", "", text)
    for _ in range(3):
        text = _TEXT.sub(r" \1 ", text)
    text = _DEGREES.sub(lambda match: f" deg{match[1][0].upper()} ", text)
    text = " ".join(_MARKUP.sub(" ", text).split())
    return _EMPTY_SET.sub(r"\\emptyset", with_plain_numbers(text))


def words_of(text: str) -> str:
    """Return the words of a text in lower case without punctuation around them, in any script."""
    kept = (_stripped(word).casefold().replace("i\u0307", "i") for word in tidied(text).split())
    return " ".join(word for word in kept if word)


def bare(text: str) -> str:
    """Return a tidied text without white space and full stops around it; `.5` keeps its point."""
    text = tidied(text).rstrip(" .")
    return text if re.match(r"\s*\.\d", text) else text.lstrip(" .")


def is_time_or_date(text: str) -> bool:
    """Return whether a text is a time, a date or a range of whole numbers, which is compared as it is written."""
    return _DATE_OR_RANGE.fullmatch(bare(text)) is not None


def is_mathematics(text: str) -> bool:
    r"""Return whether a text is a number, a quantity or an expression, and no words: `3 cm`, `\frac12`, `(0, 1]`."""
    text = bare(text)
    if is_time_or_date(text) or not text or len(text) > _LONGEST:
        return False
    if re.search(r"(?<![_\d])\d+\s+\d", text) or not re.search(
        r"\d|\\[a-zA-Z]{2}|[-+*/^=<>]|\b(?:pi|inf|infinity)\b", text
    ):
        return False
    return _PURE.fullmatch(text) is not None or _quantity(text) is not None


@functools.lru_cache(maxsize=4096)
def same_answer(given: str, gold: str) -> bool:
    """Return whether two answers mean the same.

    Texts are compared without case, markup and outer punctuation. Numbers, quantities and expressions are compared by
    value; units count where both have one.

    Args:
        given: The answer that was given, alone.
        gold: The right answer.
    """
    if given == gold:
        return True
    currencies = {currency for currency in map(_currency, (given, gold)) if currency}
    if len(currencies) > 1:
        return False
    if words_of(given) == words_of(gold) != "":
        ours, theirs = _brackets(given), _brackets(gold)
        # A list is the set of its members.
        return ours == theirs or {"".join(ours), "".join(theirs)} == {"", "{}"}
    one, other = _assignments(given), _assignments(gold)
    if one and other:
        return one.keys() == other.keys() and all(same_answer(one[name], other[name]) for name in one)
    if re.fullmatch(r"-?\d+\.\d+", bare(gold)) and re.fullmatch(r"-?\d+,(?!\d{3}$)\d+", bare(given)):
        given = given.replace(",", ".")  # the decimal sign of other languages
    if not (is_mathematics(given) and is_mathematics(gold)):
        return False
    left, right = (_facing_inward(bare(side)) for side in (given, gold))
    left, right = (re.sub(r"^\.(?=\d)|(?<![\d.])\.(?=\d)", "0.", side) for side in (left, right))
    units = [_quantity(side) for side in (left, right)]
    if units[0] and units[1] and units[0][1] != units[1][1]:
        return False
    left, right = (unit[0] if unit else side for side, unit in zip((left, right), units, strict=True))
    numbers = [None if "!" in side else number_of(side) for side in (left, right)]
    if numbers[0] is not None and numbers[1] is not None and ("%" not in left + right or numbers[0] == numbers[1]):
        # A fraction may be written with as many decimals as math-verify compares.
        is_rounded = "." in left + right and ("/" in left + right or "frac" in left + right)
        return numbers[0] == numbers[1] or (is_rounded and abs(numbers[0] - numbers[1]) < 1e-6)
    if _HUGE.search(left) or _HUGE.search(right) or ":" in left + right:
        return "".join(left.split()) == "".join(right.split())
    math_verify = _math_verify()
    try:
        return bool(_within(_SECONDS, functools.partial(_verified, math_verify, _latex(left), _latex(right))))
    except TimeoutError:
        warnings.warn(
            f"the answer {given[:80]!r} could not be compared with {gold[:80]!r} in {_SECONDS:g} s, so it counts as wrong; "
            "write the right answer in a simpler form.",
            stacklevel=2,
        )
        return False


def _verified(math_verify: ModuleType, given: str, gold: str) -> bool:
    config = [math_verify.LatexExtractionConfig(boxed_match_priority=0)]
    sides = [math_verify.parse(f"$\\boxed{{{side}}}$", config, parsing_timeout=None) for side in (gold, given)]
    return all(sides) and math_verify.verify(*sides, timeout_seconds=None, allow_set_relation_comp=True)


@functools.cache
def _math_verify() -> ModuleType:
    """Return math-verify, with all that it imports at its first comparison.

    An import that is cut off by the time limit would leave broken modules behind, and every later comparison would fail.
    """
    import math_verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # It warns that it has no time limit of its own.
    _verified(math_verify, "\\frac{1}{2}", "x + \\sqrt{2}")
    return math_verify


def _within(seconds: float, function: Callable[[], bool]) -> bool | None:
    """Return what a function returns, or None where it fails.

    Args:
        seconds: Seconds that it may compute for. Where the system does not count them for a thread, and where it only
            waits, it may take twelve times as many of the clock, as on a busy machine.
        function: The function.

    Raises:
        TimeoutError: It takes longer.
    """
    result: list[bool] = []

    def run() -> None:
        try:
            result.append(function())
        except (Exception, SystemExit):  # What cannot be parsed is no equal answer.
            return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ends = time.monotonic() + _PATIENCE * seconds
    thread.join(min(0.1, seconds))
    while thread.is_alive() and thread.ident is not None:
        if _computed(thread.ident) > seconds or time.monotonic() > ends:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
            raise TimeoutError
        thread.join(0.1)
    return result[0] if result else None


def _computed(ident: int) -> float:
    """Return the seconds that a thread has computed for; 0 where the system does not say."""
    try:
        return time.clock_gettime(time.pthread_getcpuclockid(ident))
    except (AttributeError, OSError):
        return 0.0


def _latex(text: str) -> str:
    """Return plain mathematics as LaTeX."""
    text = re.sub(r"(?<=\d)[eE]([-+]?\d{1,3})(?!\d)", r"\\times 10^{\1}", text)
    text = re.sub(r"(?:begin|end)(?=\{[a-z]*matrix\})", r"\g<0>", text).replace("{bmatrix}", "{pmatrix}")
    text = re.sub(r"(?<!\\)\{([^{}]*,[^{}]*)(?<!\\)\}$", r"\\{\1\\}", text)
    text = re.sub(r"\\log_(\d)\s+", r"\\log_{\1} ", text)
    text = re.sub(r"(?<!\\)sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = re.sub(r"√\s*(\d+|\(([^()]*)\))", lambda match: rf"\sqrt{{{match[2] or match[1]}}}", text)
    text = re.sub(r"\^\s*\(([^()]*)\)|\^\s*(-?\d+)", lambda match: f"^{{{match[1] or match[2]}}}", text)
    text = re.sub(r"(?<![\\A-Za-z])(pi|ln|log|sin|cos|tan|exp)(?![A-Za-z])", r"\\\1 ", text)
    text = re.sub(r"(?<![\\A-Za-z])inf(?:inity)?(?![A-Za-z])", r"\\infty ", text)
    text = re.sub(r"(?<=\d),(?=\d{3}(?:\D|$))", "", text) if not re.search(r"[({\[]", text) else text
    return text.replace("*", r"\cdot ").replace(" and ", ", ").replace(" or ", ", ")


def _facing_inward(text: str) -> str:
    """Return an interval with brackets that face inward: `]0, 1[` is `(0, 1)`."""
    match = _OUTWARD.fullmatch(text)
    return text if match is None else "(["[match[1] == "["] + match[2] + ")]"[match[3] == "]"]


def _currency(text: str) -> str | None:
    """Return the sign of the currency that an amount is in, or None."""
    if not re.search(r"\d", text):
        return None
    for sign, forms in _CURRENCIES.items():
        if sign == "$" and not re.search(r"dollars?\b|\busd\b", text, re.I):
            # A pair of dollar signs is markup.
            if text.count("$") % 2 == 1 or r"\$" in text:
                return sign
        elif re.search(rf"(?<![A-Za-z])(?:{forms})(?![A-Za-z])", text, re.I):
            return sign
    return None


def _assignments(text: str) -> dict[str, str] | None:
    """Return the value of each name in a list such as `x = 3, y = 4`; None where it is none, or of one name."""
    parts = re.split(r"\s*(?:,|;|\band\b)\s*", tidied(text).strip(" ."))
    pairs = [re.fullmatch(r"([A-Za-z](?:_\{?\w\}?)?)\s*=\s*([^=]+)", part) for part in parts]
    if len(pairs) < 2 or not all(pairs):
        return None
    named = {pair[1]: pair[2] for pair in pairs if pair}
    return named if len(named) == len(pairs) else None  # x = 2, x = 3 are values of one name


def _quantity(text: str) -> tuple[str, str] | None:
    """Return the number and the unit of a quantity such as `3.5 km`; None where it is none."""
    match = _UNIT.fullmatch(text)
    if not match or len(match["unit"].split()) > 3:
        return None
    words = [
        word.removesuffix("s") if len(word) > 2 else word
        for word in match["unit"].replace("{", "").replace("}", "").split()
    ]
    words = [_UNITS.get(word.casefold(), word) for word in words]
    is_variable = len(words[0]) == 1 and words[0] not in _SHORT_UNITS
    if is_variable or words[0].casefold() in ("and", "or") or re.fullmatch(_FUNCTIONS, words[0]):
        return None
    if len(words) > 1 and words[0].casefold() in ("square", "cubic"):
        words = [f"{words[1]}^{2 if words[0].casefold() == 'square' else 3}", *words[2:]]
    return match["number"], " ".join(words)


def _stripped(word: str) -> str:
    """Return a word without the punctuation around it; signs, percents and decimal points stay."""
    first, last = 0, len(word)
    while (
        first < last and _is_outer(word[first]) and not (word[first] == "." and word[first + 1 : first + 2].isdigit())
    ):
        first += 1
    while last > first and _is_outer(word[last - 1]):
        last -= 1
    return word[first:last]


def _is_outer(letter: str) -> bool:
    return letter in "$`" or (unicodedata.category(letter)[0] == "P" and letter not in "-%#@&/\\†")


def _brackets(text: str) -> list[str]:
    """Return the brackets of an interval or set, which are its meaning; none around other texts."""
    text = bare(text)
    return re.findall(r"[\[\](){}]|(?<=\d)!", text) if re.fullmatch(r"\\?[\[({].*,.*\\?[\])}]|.*\d!", text) else []
