"""One family of errors, so that the command line can map each kind to one exit code.

Every message says what was expected, what came, and what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CotlensError(Exception):
    """A failure with a message for the person who called; exit code 1."""

    exit_code = 1


class UsageError(CotlensError, ValueError):
    """A wrong argument, name or configuration; exit code 2."""

    exit_code = 2


class PartialError(CotlensError):
    """Some of the work is done and kept; the same command resumes it; exit code 3."""

    exit_code = 3


class QualityError(CotlensError):
    """A quality gate was not met; exit code 4."""

    exit_code = 4


class StoreError(CotlensError):
    """A store or run is missing, incompatible or corrupt; exit code 5."""

    exit_code = 5


INTERRUPTED = 130


class Interrupted(BaseException):
    """Ctrl-C, in a form that no library on the way takes for its own."""


_SHOWN = 30


def unknown(kind: str, name: object, known: Iterable[object]) -> UsageError:
    """A `UsageError` for a name that is not in `known`, with the closest known name suggested."""
    names = [str(k) for k in known]
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return UsageError(f"unknown {kind} {str(name)!r}.{hint} Known: {', '.join(names[:_SHOWN]) or 'none'}{more}.")


def checked_count(name: str, value: object, *, at_least: int = 1) -> int:
    """`value` (a number, or its digits) as an int; a `UsageError` unless it is a whole number of at least `at_least`."""
    try:
        whole = int(value)  # type: ignore[call-overload]
        fits = not isinstance(value, bool) and (isinstance(value, str) or whole == value) and whole >= at_least
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise UsageError(f"{name} must be a whole number of at least {at_least}, but {value!r} came.")
    return whole
