"""Terminals that lack characters: what they cannot show is written in ASCII."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata

PLAIN = "plain-characters"
_SPELLED = {"–": "-", "—": "-", "−": "-", "→": "->", "×": "x", "…": "...", "≥": ">=", "≤": "<=", "±": "+/-", "·": "*"}


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Return ASCII for characters that an encoding lacks: a known spelling, letters without accents, or "?"."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    spelled = []
    for character in error.object[error.start : error.end]:
        letters = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode("ascii")
        spelled.append(_SPELLED.get(character) or letters or "?")
    return "".join(spelled), error.end


def print_anywhere() -> None:
    """Let stdout and stderr write text that their encoding lacks, in ASCII, rather than fail on it."""
    codecs.register_error(PLAIN, _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not (stream.encoding or "").lower().startswith("utf"):
            stream.reconfigure(errors=PLAIN)
