"""Scripts and languages of a visible thought, and where they switch."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from interp.text.wording import words
from interp.traces import Trace

# First word of a letter's Unicode name to its script, where the two differ.
_SCRIPTS = {"CJK": "HAN", "IDEOGRAPHIC": "HAN", "HALFWIDTH": "KATAKANA", "FULLWIDTH": "LATIN"}


def script(character: str) -> str | None:
    """Return the script of a character (`LATIN`, `CYRILLIC`, `HAN`, `DIGIT`, …); None for marks, signs and spaces."""
    if character.isdigit():
        return "DIGIT"
    if not character.isalpha():
        return None
    first_word = unicodedata.name(character, "").split(" ")[0].split("-")[0]
    return _SCRIPTS.get(first_word, first_word) or None


def scripts(text: str) -> Counter[str]:
    """Count the characters of each script."""
    return Counter(name for character in text if (name := script(character)))


def language_spans(trace: Trace, languages: Mapping[str, Sequence[str]] | None = None) -> pd.DataFrame:
    """Count scripts and languages in each step of the visible thought.

    Args:
        trace: The trace.
        languages: Words of each language, by the language's name. A word of none of them counts as `other`.

    Returns:
        One row for each step: trace, step, text, scripts (characters by script), languages (words by language), main
        (the most frequent language; without `languages`, script) and switched (whether `main` differs from that of
        the last step that had one).
    """
    language_of = {word: name for name, listed in (languages or {}).items() for word in listed}
    words_of_step: dict[int, list[str]] = {}
    for word in words(trace):
        words_of_step.setdefault(trace.step[word.position], []).append(word.text)
    rows, last_main = [], None
    for step, step_words in sorted(words_of_step.items()):
        text = " ".join(step_words)
        script_counts = scripts(text)
        language_counts = Counter(language_of.get(word, "other") for word in step_words) if language_of else Counter()
        main = next(iter((language_counts or script_counts).most_common(1)), (None, 0))[0]
        rows.append(
            {
                "trace": trace.id,
                "step": step,
                "text": text,
                "scripts": dict(script_counts),
                "languages": dict(language_counts),
                "main": main,
                "switched": last_main is not None and main is not None and main != last_main,
            }
        )
        last_main = main or last_main
    return pd.DataFrame(rows)


def language_switches(traces: Sequence[Trace], languages: Mapping[str, Sequence[str]] | None = None) -> pd.DataFrame:
    """Return `language_spans` of every trace in one table.

    Args:
        traces: The traces.
        languages: Words of each language, by the language's name.

    Returns:
        The rows of `language_spans` for each trace, in order.
    """
    return pd.concat([language_spans(trace, languages) for trace in traces], ignore_index=True)
