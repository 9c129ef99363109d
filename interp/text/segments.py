"""A visible thought taken apart: its sentences, and the step that each part of it stands for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from interp.problems.answers import number_of, numbers_in, plain
from interp.problems.base import Step

# A stop with white space after it, or a line break; quotes and brackets may close in between.
_ENDING = re.compile(r"[.!?…]+[\"')\]*]*(?=\s|$)|\n+|[。！？]+")
# Stops that end no sentence: a list's number, and common abbreviations.
_NO_ENDING = re.compile(r"(?:^|\n)\s*(?:\d+|[a-zA-Z])\.$|\b(?:e\.g|i\.e|etc|vs|cf|Mr|Mrs|Ms|Dr|Prof|Eq|Fig|No)\.$")
_STEP = re.compile(r"\n\s*\n|\n(?=\s*(?:\*\*)?(?:step\s*\d+|\d+[.)]|[-*•])[\s:.])", re.IGNORECASE)
_TOKEN = re.compile(r"\S+")


def sentence_ends(text: str) -> list[int]:
    """Where each sentence of `text` ends: the offset after its last letter. The last one may be cut off."""
    ends: list[int] = []
    begun = 0
    for match in _ENDING.finditer(text):
        said = text[begun : match.end()]
        if not any(letter.isalnum() for letter in said) or _NO_ENDING.search(said.rstrip("\n")):
            continue
        ends.append(match.end() if match.group().strip() else match.start())
        begun = match.end()
    if any(letter.isalnum() for letter in text[begun:]):
        ends.append(len(text.rstrip()) or len(text))
    return ends


def step_ends(text: str) -> list[int]:
    """Where each step ends: at a blank line, before `Step 2`, `2.` or a bullet; without any of these, sentences."""
    cuts = [match.start() for match in _STEP.finditer(text)]
    pieces = zip([0, *cuts], [*cuts, len(text)], strict=True)
    ends = [end for start, end in pieces if any(letter.isalnum() for letter in text[start:end])]
    return ends if len(ends) > 1 else sentence_ends(text)


def gold_step_ends(text: str, steps: Sequence[Step]) -> list[int | None]:
    """Where each gold step is done: at the end of the first mention of its value after that of the step before.

    None for a step whose value is not said in its turn.
    """
    found: list[int | None] = []
    start = 0
    for step in steps:
        at = _mention(text, step.value, start)
        found.append(at)
        start = start if at is None else at
    return found


def numbers(offsets: Sequence[int], ends: Sequence[int | None]) -> list[int]:
    """For pieces that end at `offsets`, the number (from 1) of the part that each belongs to, given the parts' ends.

    What follows the last end belongs to the last part; parts without an end have no pieces. 0 where there is none.
    """
    known = [(end, number) for number, end in enumerate(ends, 1) if end is not None]
    if not known:
        return [0] * len(offsets)
    return [next((number for end, number in known if offset <= end), known[-1][1]) for offset in offsets]


def _mention(text: str, value: str, start: int) -> int | None:
    """Where `value` is said next as words or as a number of its own, as the offset after it."""
    wanted, number = plain(value).split(), number_of(value)
    words = list(_TOKEN.finditer(text, start))
    for k, word in enumerate(words):
        if number is not None:
            if number in numbers_in(word.group()):
                return word.end()
        elif wanted and [plain(each.group()) for each in words[k : k + len(wanted)]] == wanted:
            return words[k + len(wanted) - 1].end()
    return None
