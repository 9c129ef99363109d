"""Wording: the meaning of each word of a trace, and which of its synonyms was chosen.

Synonyms come from a task that defines them (such as `subtext`), or from a JSON file that holds lists of words with
the same meaning: `[["big", "large"], ["so", "thus"]]`.
"""

from __future__ import annotations

import functools
import json
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from interp.errors import UsageError
from interp.traces import Channel, Trace


@dataclass(frozen=True)
class Word:
    """A word of the visible thought, with the position of its first token in the trace."""

    text: str
    position: int


class Wording:
    """Sets of synonyms. A word of no set is its own only synonym. A word of a set may also begin with a capital letter.

    Args:
        sets: Lists of at least two words with the same meaning; no word is in two of them.

    Raises:
        UsageError: A set has fewer than two different words, or shares a word with another.
    """

    def __init__(self, sets: Sequence[Sequence[str]]) -> None:
        self._synonyms: dict[str, tuple[str, ...]] = {}
        for synonyms in sets:
            if len(synonyms) < 2 or len(set(synonyms)) < len(synonyms) or any(w in self._synonyms for w in synonyms):
                raise UsageError(
                    "expected a set of synonyms to be at least two different words that are in no other set, "
                    f"got {list(synonyms)!r}."
                )
            for word in synonyms:
                self._synonyms[word] = tuple(synonyms)

    @classmethod
    def of_task(cls, task: Any) -> Wording:
        """Return the synonyms of a task.

        Args:
            task: A task that defines synonyms, such as `subtext`.

        Returns:
            The synonyms of all its words that have some.

        Raises:
            UsageError: The task defines no synonyms.
        """
        sets = task.synonym_sets()
        if not sets:
            raise UsageError(f"task {task.name} defines no synonyms; give a file of synonyms (--synonyms).")
        return cls(sets)

    @classmethod
    def read(cls, path: Path) -> Wording:
        """Read synonyms from a JSON file.

        Args:
            path: A file that holds lists of words, such as `[["big", "large"], ["so", "thus"]]`.

        Returns:
            The synonyms.

        Raises:
            UsageError: The file cannot be read, does not hold a list of lists of words, or a list is no set of synonyms.
        """
        try:
            sets = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot read synonyms from {path}: {error}.") from None
        is_list = isinstance(sets, list) and bool(sets) and all(isinstance(synonyms, list) for synonyms in sets)
        if not is_list or not all(isinstance(word, str) for synonyms in sets for word in synonyms):
            raise UsageError(
                f'expected a list of lists of words in {path}, as [["so", "thus"], ["big", "large"]], '
                f"got {json.dumps(sets)[:60]}."
            )
        return cls(sets)

    def options(self, word: str) -> tuple[str, ...]:
        """Return the synonyms of a word.

        Args:
            word: The word.

        Returns:
            All words of the same meaning, including `word`, in the order of their set. Those of a word with a capital
            letter have one too.
        """
        if word in self._synonyms:
            return self._synonyms[word]
        small = word[:1].lower() + word[1:]
        if small == word or small not in self._synonyms:
            return (word,)
        capital = tuple(other[:1].upper() + other[1:] for other in self._synonyms[small])
        return capital if not set(capital) & self._synonyms.keys() and len(set(capital)) == len(capital) else (word,)

    def meaning(self, word: str) -> str:
        """Return the name of a word's meaning.

        Args:
            word: The word.

        Returns:
            The first word of its set.
        """
        return self.options(word)[0]

    def choice(self, word: str) -> int:
        """Return which of the synonyms a word is.

        Args:
            word: The word.

        Returns:
            The index of `word` in `options(word)`, from 0.
        """
        return self.options(word).index(word)

    def paraphrase(self, words: Sequence[str], rng: Random, numbers: Collection[int] | None = None) -> list[str]:
        """Replace words by random synonyms. A word may be drawn again.

        Args:
            words: The words.
            rng: Source of the draws.
            numbers: Numbers of the words to replace, from 1; all by default.

        Returns:
            As many words as were given, with the same meanings.
        """
        return [
            rng.choice(self.options(word)) if numbers is None or k in numbers else word
            for k, word in enumerate(words, 1)
        ]


def words(trace: Trace) -> list[Word]:
    """Return the words of a trace's visible thought.

    Where any token starts with `Ġ` or `▁`, tokens are pieces of words: letters and digits continue the word before.
    Punctuation and new lines are words of their own, so that "so" is the same word before a comma and at the start of a
    line. Tokens of bytes, which are those of a tokenizer that writes `Ġ`, are decoded, so that a word is as it is read.
    """
    thought = [k for k, channel in enumerate(trace.channel) if channel == Channel.THOUGHT]
    is_bytes = any(trace.tokens[k].startswith("Ġ") for k in thought)
    has_pieces = is_bytes or any(trace.tokens[k].startswith("▁") for k in thought)
    of_word: list[list[int]] = []
    before = ""
    for k in thought:
        piece = _decoded(trace.tokens[k], is_bytes)
        if has_pieces and of_word and _goes_on(before, piece):
            of_word[-1].append(k)
        else:
            of_word.append([k])
        before = piece or before
    return [Word(_word_text([trace.tokens[k] for k in numbers], is_bytes), numbers[0]) for numbers in of_word]


def _goes_on(before: str, piece: str) -> bool:
    """Return whether a token's text continues the word that the text before it ends with."""
    if not piece or not before:
        return True
    if piece[0] in " ▁":
        return False
    # Some tokenizers write the space before a number as a token of its own.
    return not before.strip(" ▁") or (_in_word(before[-1]) and _in_word(piece[0]))


def _in_word(character: str) -> bool:
    """Return whether a character stands within words. The replacement character is a part of one that is not complete."""
    return character.isalnum() or character in "_'’\ufffd" or unicodedata.category(character).startswith("M")


@functools.lru_cache(maxsize=100_000)
def _decoded(token: str, is_bytes: bool) -> str:
    """Return the text of one token, in which a byte-level tokenizer writes bytes beyond ASCII in letters of its own."""
    if is_bytes and not token.isascii():
        from tokenizers.decoders import ByteLevel

        return ByteLevel().decode([token])
    return token


def _word_text(tokens: Sequence[str], is_bytes: bool) -> str:
    """Return the text of the tokens of a word, without the space before it."""
    return _decoded("".join(tokens), is_bytes).lstrip(" ▁")


def texts(traces: Sequence[Trace]) -> list[list[str]]:
    """Return the words of each trace as texts."""
    return [[word.text for word in words(trace)] for trace in traces]
