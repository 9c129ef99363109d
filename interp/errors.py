"""One family of errors, so that the command line can map each class to one exit code.

Messages read "expected X, got Y; do Z".
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CotlensError(Exception):
    """Base class of all errors with a message for the user; exit code 1."""

    exit_code = 1


class UsageError(CotlensError, ValueError):
    """A wrong argument, name or configuration; exit code 2."""

    exit_code = 2


class PartialError(CotlensError):
    """Part of the work is finished and saved, and running the same command again resumes it; exit code 3."""

    exit_code = 3


class QualityError(CotlensError):
    """A quality gate was not met; exit code 4."""

    exit_code = 4


class StoreError(CotlensError):
    """A store or run is missing, incompatible or corrupt; exit code 5.

    Attributes:
        repair: The command that repairs it; empty where none is known.
    """

    exit_code = 5
    repair: str = ""


INTERRUPTED = 130

#: Largest whole number that arrays, files and generators of random numbers take.
LARGEST_COUNT = 2**63 - 1


class Interrupted(BaseException):
    """Ctrl-C. Not a `KeyboardInterrupt`, because some libraries catch that one."""


_MAX_LISTED = 30


def unknown(what: str, name: object, known: Iterable[object]) -> UsageError:
    """Return the error for a name that is not in `known`, with the closest known name as a suggestion.

    Args:
        what: What was named, such as "address" or "option of task chain".
        name: The name that was given.
        known: The names that exist. The message lists the first 30.

    Returns:
        The error, for the caller to raise.
    """
    names = [str(k) for k in known]
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    more = f", and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    listed = ", ".join(names[:_MAX_LISTED]) or "none"
    return UsageError(f"expected a known {what}, got {str(name)!r}{hint} Known: {listed}{more}.")


def checked_count(name: str, value: object, *, at_least: int = 1, at_most: int = LARGEST_COUNT) -> int:
    """Return `value` as an int.

    Args:
        name: Name of the argument, for the message.
        value: A whole number, or its digits as a string.
        at_least: Smallest value that is accepted.
        at_most: Largest value that is accepted.

    Raises:
        UsageError: `value` is not a whole number, is smaller than `at_least` or larger than `at_most`.
    """
    try:
        count = int(value)  # type: ignore[call-overload]
        valid = not isinstance(value, bool) and (isinstance(value, str) or count == value) and count >= at_least
    except (TypeError, ValueError, OverflowError):
        valid = False
    if not valid:
        raise UsageError(f"expected {name} to be a whole number of at least {at_least}, got {value!r}.")
    if count > at_most:
        raise UsageError(f"expected {name} to be at most {at_most}, got {value!r}.")
    return count


def counted(number: int, noun: str) -> str:
    """Return a number and a noun in the singular or plural.

    Args:
        number: How many.
        noun: The singular, of a noun whose plural ends in s, or es after s (`address`).
    """
    if number == 1:
        return f"1 {noun}"
    plural = f"{noun}{'es' if noun.endswith('s') else 's'}"
    return f"{number:,} {plural}" if number >= 10_000 else f"{number} {plural}"
