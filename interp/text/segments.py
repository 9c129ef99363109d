"""Split a visible thought into sentences and steps."""

from __future__ import annotations

import re
from collections.abc import Sequence

# A full stop before white space, or a line break; closing quotes and brackets may come in between.
_ENDING = re.compile(r"[.!?…]+[\"')\]*]*(?=\s|$)|\n+|[。！？]+")
# Full stops that end no sentence: after a list's number and in common abbreviations.
_NOT_ENDING = re.compile(r"(?:^|\n)\s*(?:\d+|[a-zA-Z])\.$|\b(?:e\.g|i\.e|etc|vs|cf|Mr|Mrs|Ms|Dr|Prof|Eq|Fig|No)\.$")
_STEP = re.compile(r"\n\s*\n|\n(?=\s*(?:\*\*)?(?:step\s*\d+|\d+[.)]|[-*•])[\s:.])", re.IGNORECASE)


def sentence_ends(text: str) -> list[int]:
    """Return where each sentence ends, as offsets after its last character. The last sentence may be incomplete.

    Args:
        text: The text.

    Returns:
        Offsets in characters, in order; empty for a text without letters or digits.
    """
    ends: list[int] = []
    start = 0
    for match in _ENDING.finditer(text):
        sentence = text[start : match.end()]
        if not any(letter.isalnum() for letter in sentence) or _NOT_ENDING.search(sentence.rstrip("\n")):
            continue
        ends.append(match.end() if match.group().strip() else match.start())
        start = match.end()
    if any(letter.isalnum() for letter in text[start:]):
        ends.append(len(text.rstrip()) or len(text))
    return ends


def step_ends(text: str) -> list[int]:
    """Return where each step ends: at a blank line, or before `Step 2`, `2.` or a bullet; else where sentences end.

    Args:
        text: The text.

    Returns:
        Offsets in characters, in order.
    """
    cuts = [match.start() for match in _STEP.finditer(text)]
    pieces = zip([0, *cuts], [*cuts, len(text)], strict=True)
    ends = [end for start, end in pieces if any(letter.isalnum() for letter in text[start:end])]
    return ends if len(ends) > 1 else sentence_ends(text)


def numbers(offsets: Sequence[int], ends: Sequence[int | None]) -> list[int]:
    """Return the number of the part (sentence or step) that each token belongs to.

    Args:
        offsets: Where each token ends.
        ends: Where each part ends; None for a part that is missing.

    Returns:
        A number from 1 for each token. Tokens after the last end belong to the last part; without parts all are 0.
    """
    known = [(end, number) for number, end in enumerate(ends, 1) if end is not None]
    if not known:
        return [0] * len(offsets)
    return [next((number for end, number in known if offset <= end), known[-1][1]) for offset in offsets]
