"""In which scripts and languages a chain of thought is written, and where it switches."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from interp.text.wording import words
from interp.traces import Trace

# The first word of a letter's Unicode name, for the scripts whose names do not say it plainly.
_SCRIPTS = {"CJK": "HAN", "IDEOGRAPHIC": "HAN", "HALFWIDTH": "KATAKANA", "FULLWIDTH": "LATIN"}


def script(character: str) -> str | None:
    """`LATIN`, `CYRILLIC`, `HAN`, `DIGIT`, …, by the character's Unicode name; None for marks, signs and spaces."""
    if character.isdigit():
        return "DIGIT"
    if not character.isalpha():
        return None
    first = unicodedata.name(character, "").split(" ")[0].split("-")[0]
    return _SCRIPTS.get(first, first) or None


def scripts(text: str) -> Counter[str]:
    """How many characters of each script."""
    return Counter(found for character in text if (found := script(character)))


def language_spans(trace: Trace, languages: Mapping[str, Sequence[str]] | None = None) -> pd.DataFrame:
    """One row for each step of the visible thought: its text, characters by script, words by language, and `switched`.

    `languages` are lists of words by language's name; a word in none of them counts as `other`, and a script says only
    how something is written. A step has switched when its most frequent language (without `languages`, script) is
    another than that of the last step that had one.
    """
    known = {word: name for name, listed in (languages or {}).items() for word in listed}
    by_step: dict[int, list[str]] = {}
    for word in words(trace):
        by_step.setdefault(trace.step[word.position], []).append(word.text)
    rows, last = [], None
    for step, said in sorted(by_step.items()):
        written = scripts(" ".join(said))
        spoken = Counter(known.get(word, "other") for word in said) if known else Counter()
        main = next(iter((spoken or written).most_common(1)), (None, 0))[0]
        rows.append(
            {
                "trace": trace.id,
                "step": step,
                "text": " ".join(said),
                "scripts": dict(written),
                "languages": dict(spoken),
                "main": main,
                "switched": last is not None and main is not None and main != last,
            }
        )
        last = main or last
    return pd.DataFrame(rows)


def language_switches(traces: Sequence[Trace], languages: Mapping[str, Sequence[str]] | None = None) -> pd.DataFrame:
    """`language_spans` of every trace in one table."""
    return pd.concat([language_spans(trace, languages) for trace in traces], ignore_index=True)
